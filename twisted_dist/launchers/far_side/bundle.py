"""What is shipped to a host that has not this package: its files, in one archive.

Where Python's minor version and the platform there are those here, the files of all that it
needs go with it, as they are installed here: then nothing is needed there but a Python. Else
the package goes alone, and pip there installs the rest.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

from attrs import field, frozen

import twisted_dist
from twisted_dist.errors import UsageProblem
from twisted_dist.version import VERSION

#: bytes of an archive; today's have less than a tenth
MAX_ARCHIVE: Final = 256 * 2**20
DISTRIBUTION: Final = "twisted-dist"
#: of a file's path: what runs only for those who test or build such a package
_LEFT_OUT: Final = frozenset({"__pycache__", "test", "tests", "_pydoctortheme"})
#: of an installation's own notes: true of this one only
_NOTES: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?\Z")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
#: what Twisted uses where it is there, and which fits one cryptography only
_TLS: Final = "pyopenssl"
#: takes the place of one that is there already: Debian's, beside a newer cryptography, raises
#: what nobody expects
_NO_TLS: Final = (
    "OpenSSL/__init__.py",
    b'raise ImportError("pyOpenSSL did not come with twisted_dist, and one that is here may not "'
    b'\n    "fit the cryptography that came")\n',
)
#: of the archive: as fast as it gets, since a network is faster than the best compression
_LEVEL: Final = 1


@frozen
class Bundle:
    """An archive and what is to be known of it.

    Attributes:
        name: of its directory there: another content has another name.
        data: a tar file, compressed by gzip.
        sha256: of that, in hex.
        requirements: what pip is to install there beside it; empty where all is in it.
    """

    name: str
    data: bytes = field(repr=False)
    sha256: str
    requirements: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is needed there but a Python."""
        return not self.requirements


def abi() -> str:
    """What compiled modules here are for, as `probe.Report.abi` has it of others."""
    return str(sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag)


def fits(platform: str, their_abi: str) -> bool:
    """Whether what is installed here runs there, by what `probe.Report` says."""
    return platform == sysconfig.get_platform() and their_abi == abi()


@lru_cache(maxsize=1)
def bundle_for(platform: str, their_abi: str) -> Bundle:
    """The bundle for a host, by what `probe.Report` says of it. Reads files: blocks.

    The last one is kept: most clusters are of one kind.

    Raises:
        UsageProblem: it cannot be made here; says why.
    """
    return complete_bundle() if fits(platform, their_abi) else package_bundle(their_abi)


def complete_bundle() -> Bundle:
    """This package with all that it needs, for hosts that `fits`. Reads files: blocks.

    Raises:
        UsageProblem: something is not installed in a way that says which files are its.
    """
    files = dict([*_own_files(), _NO_TLS])
    for each in _closure():
        files.update(_files(each))
    return _bundle(files, ())


def package_bundle(their_abi: str) -> Bundle:
    """This package alone, for any Python that has pip, or venv. Reads files: blocks.

    Args:
        their_abi: of the hosts that it is for: each has a directory of its own.
    """
    requirements = tuple(
        f"{name}{f'[{extras}]' if extras else ''}{versions.strip()}"
        for name, extras, versions, marker in map(_parse, metadata.requires(DISTRIBUTION) or ())
        if not _EXTRA.search(marker)
    )
    return _bundle(dict([*_own_files(), _NO_TLS]), requirements, their_abi)


def _bundle(files: Mapping[str, bytes], requirements: tuple[str, ...], more: str = "") -> Bundle:
    """The archive: of the same files, always the same."""
    content = hashlib.sha256()
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_LEVEL, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            data = files[name]
            content.update(f"{name}\0{len(data)}\0".encode() + data)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    content.update("\n".join([more, *requirements]).encode())
    data = packed.getvalue()
    if len(data) > MAX_ARCHIVE:
        raise UsageProblem(f"--bootstrap would send {len(data)} bytes: {MAX_ARCHIVE} at most")
    name = f"{VERSION}-{content.hexdigest()[:16]}"
    return Bundle(name, data, hashlib.sha256(data).hexdigest(), requirements)


def _own_files() -> Iterator[tuple[str, bytes]]:
    """This very package, wherever it is: a checkout, too, which no metadata know."""
    package = Path(twisted_dist.__file__).parent
    for path in package.rglob("*"):
        inner = path.relative_to(package)
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in inner.parts:
            yield f"twisted_dist/{inner.as_posix()}", path.read_bytes()
    about = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {VERSION}\n"
    yield f"twisted_dist-{VERSION}.dist-info/METADATA", about.encode()


def _files(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """What belongs to something that is installed, tests and command lines apart."""
    name = distribution.metadata["Name"]
    found = 0
    for each in distribution.files or ():
        path = PurePosixPath(each.as_posix())
        is_note = path.name in _NOTES and path.parent.suffix == ".dist-info"
        if path.is_absolute() or ".." in path.parts or path.suffix in {".pyc", ".pth"} or is_note:
            continue
        if _LEFT_OUT & set(path.parts[:-1]):
            continue
        found += path.suffix in {".py", ".so"} and not path.name.startswith("__editable__")
        yield str(path), Path(str(distribution.locate_file(each))).read_bytes()
    if not found:
        raise UsageProblem(
            f"--bootstrap cannot ship {name}: its installation here does not say which files are "
            "its; install it with pip, not editable"
        )


def _parse(requirement: str) -> tuple[str, str, str, str]:
    """Name, extras, versions and marker of a requirement (PEP 508)."""
    found = _REQUIREMENT.match(requirement)
    if found is None:
        raise UsageProblem(f"--bootstrap does not understand the requirement {requirement!r}")
    return found[1], found[2] or "", found[3].strip().strip("()"), found[4] or ""


def _closure() -> list[metadata.Distribution]:
    """All that this package needs, and what that needs, as installed here.

    A marker that is not about extras is true where the distribution is here: pip has
    decided that already.
    """
    seen: set[tuple[str, str]] = set()
    found: dict[str, metadata.Distribution] = {}
    waiting = [(DISTRIBUTION, ""), *((each.name, "") for each in _tls())]
    while waiting:
        name, extra = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extra) in seen:
            continue
        seen.add((key, extra))
        distribution = metadata.distribution(name)
        found[key] = distribution
        for each in distribution.requires or ():
            needed, extras, _, marker = _parse(each)
            demanded = _EXTRA.findall(marker)
            if demanded and extra not in demanded:
                continue
            try:
                metadata.distribution(needed)
            except metadata.PackageNotFoundError:
                if marker:
                    continue
                raise UsageProblem(f"{name} needs {needed}, which is not here") from None
            waiting += [(needed, each.strip()) for each in ["", *extras.split(",")]]
    del found[DISTRIBUTION]
    return list(found.values())


def _tls() -> list[metadata.Distribution]:
    try:
        return [metadata.distribution(_TLS)]
    except metadata.PackageNotFoundError:
        return []
