"""Directories as zip archives: packed the same each time, unpacked nowhere but where they should.

An archive comes from somebody else, and so does every name in it: what is absolute, leads out,
is a link or is too much is refused before anything of it is kept.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from twisted_dist.errors import UsageProblem
from twisted_dist.execution.upload_rules import (
    MAX_FILES,
    MAX_UNPACKED_BYTES,
    MAX_UPLOAD_BYTES,
    MIB,
    check_component,
)

#: directories that are left out: what tools keep, and what Python makes anew
LEFT_OUT: Final = frozenset(
    ("__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache")
)
#: the earliest that the format knows; the same for every file, so that only contents count
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_ENCRYPTED: Final = 1
_CHUNK: Final = 64 * 1024
_MODULES: Final = (".py", ".pyc", ".so")


def pack(directory: Path) -> bytes:
    """A directory's files as an archive whose bytes follow from their names and contents.

    Raises:
        UsageProblem: there is nothing in it, too much, or a link that leads out.
        OSError: it cannot be read.
    """
    target = io.BytesIO()
    total = count = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in _files(directory.resolve()):
            data = path.read_bytes()
            total, count = total + len(data), count + 1
            if total > MAX_UNPACKED_BYTES or count > MAX_FILES or target.tell() > MAX_UPLOAD_BYTES:
                raise UsageProblem(
                    f"the directory {directory.name} has more than {MAX_FILES:,} files, or "
                    f"{MAX_UNPACKED_BYTES // MIB} MiB, or {MAX_UPLOAD_BYTES // MIB} MiB packed: "
                    "upload what is imported, and scatter() data or put it where workers read it"
                )
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = _UNIX
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    if not count:
        raise UsageProblem(f"the directory {directory.name} has no files to upload")
    return target.getvalue()


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Names with slashes, and where they are, in an order that is always the same."""

    def stop(problem: OSError) -> None:
        raise problem

    for where, directories, names in os.walk(root, onerror=stop):
        directories[:] = sorted(each for each in directories if each not in LEFT_OUT)
        here = Path(where)
        for each in directories:
            if (here / each).is_symlink():
                raise UsageProblem(f"{here / each} is a link to a directory: upload none")
        for each in sorted(names):
            path = here / each
            if each.endswith(".pyc"):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UsageProblem(f"{path} is a link that leads out of the directory")
            if not path.is_file():
                raise UsageProblem(f"{path} is no file")
            check_component(each)
            yield path.relative_to(root).as_posix(), path


def _opened(source: Path | BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except zipfile.BadZipFile:
        raise UsageProblem("it is no zip archive") from None


def unpack(source: Path | BinaryIO, target: Path) -> list[str]:
    """Write an archive's files below *target*, which does not exist; their names.

    Raises:
        UsageProblem: a name leads out, there is too much, or something is no plain file; what
            was written by then is for the caller to remove.
        OSError: it cannot be written.
    """
    with _opened(source) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_FILES:
            raise UsageProblem(f"it has {len(entries)} files, more than {MAX_FILES}")
        target.mkdir()
        room = MAX_UNPACKED_BYTES
        for entry in entries:
            _check_entry(entry)
            path = target.joinpath(*entry.filename.split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            room = _write(archive, entry, path, room)
    return [each.filename for each in entries]


def _check_entry(entry: zipfile.ZipInfo) -> None:
    for each in entry.filename.split("/"):  # an absolute one begins with an empty component
        check_component(each)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):  # 0: made where there are no kinds
        raise UsageProblem(f"{entry.filename!r} in it is no plain file")
    if entry.flag_bits & _ENCRYPTED:
        raise UsageProblem(f"{entry.filename!r} in it is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UsageProblem(f"{entry.filename!r} in it is compressed otherwise than by deflate")


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, room: int) -> int:
    """Write one file; the bytes of *room* that are left, whatever its header says of its size."""
    try:
        with archive.open(entry) as source, open(path, "xb") as file:
            while chunk := source.read(_CHUNK):
                room -= len(chunk)
                if room < 0:
                    raise UsageProblem(f"it unpacks to more than {MAX_UNPACKED_BYTES // MIB} MiB")
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise UsageProblem(f"{entry.filename!r} in it cannot be read: {problem}") from None
    if (entry.external_attr >> 16) & stat.S_IXUSR:
        path.chmod(0o755)
    return room


def names_in(source: Path | BinaryIO) -> list[str]:
    """The names in an archive that is not unpacked. Raises UsageProblem where it is none."""
    with _opened(source) as archive:
        return archive.namelist()


def top_modules(names: Iterable[str]) -> frozenset[str]:
    """What can be imported from a directory, or an archive, with files of these names."""
    tops = set()
    for name in names:
        top, slash, _rest = name.partition("/")
        if name.endswith(_MODULES):
            tops.add(top if slash else top.partition(".")[0])
    return frozenset(tops)
