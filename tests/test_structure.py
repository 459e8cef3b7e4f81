"""The shape of the package: small files, small classes, everything public told."""

import ast
from pathlib import Path

import pytest

import twisted_dist

PACKAGE = Path(twisted_dist.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400
MAX_METHODS = 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_is_small(path):
    """Somebody who opens a file should know in a minute what it is for."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            assert len(methods) <= MAX_METHODS, node.name


@pytest.mark.parametrize("name", twisted_dist.__all__)
def test_public_name_is_there(name):
    """Every name that the package promises can be had."""
    assert getattr(twisted_dist, name) is not None


def test_unknown_name():
    """A name that is not there is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Sheduler'"):
        twisted_dist.Sheduler  # noqa: B018
