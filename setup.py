"""Packaging of twisted-dist; the tools' settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="twisted-dist",
    version="0.1.0",
    description="A network of one scheduler and many workers that runs Python functions",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    # also makes an editable install put this directory on sys.path, where twistd looks for plugins
    package_dir={"": "."},
    packages=[*find_packages(include=["twisted_dist", "twisted_dist.*"]), "twisted.plugins"],
    package_data={"twisted_dist": ["py.typed"]},
    install_requires=[
        "twisted[conch]>=24.7",
        "msgpack>=1.0",
        "cloudpickle>=3.0",
        "psutil>=5.9",
        "attrs>=23.1",
        "cryptography>=42",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "hypothesis>=6",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            "numpy",
            "dask[array]",
            "paramiko>=3",
        ],
        "lint": ["ruff", "mypy", "mypy-zope", "import-linter", "types-psutil"],
        "docs": ["sphinx>=7", "myst-parser>=3", "furo", "towncrier"],
        "progress": ["tqdm"],
        "ssh-config": ["paramiko>=3"],
    },
    entry_points={
        "console_scripts": [
            "dscheduler = twisted_dist.cli.main:dscheduler",
            "dworker = twisted_dist.cli.main:dworker",
            "dcluster = twisted_dist.cli.main:dcluster",
            "daccess = twisted_dist.cli.main:daccess",
        ]
    },
)
