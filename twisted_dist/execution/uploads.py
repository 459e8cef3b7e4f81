"""What clients have uploaded, as this process has it: files, ``sys.path``, modules.

Each version of an upload has a directory of its own, so that what runs goes on with what it
began with, and no cache of Python's takes one version for another. The newest one's is on
``sys.path``; when one takes another's place, its modules are dropped, to be imported anew.

A process has one ``sys.path``, however many workers are in it: an upload that several of them
have is there once, until the last one lets go of it.

What writes and unpacks is imported when it is needed: children are to start fast.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from twisted_dist.errors import UsageProblem
from twisted_dist.execution.upload_rules import (
    ARCHIVES,
    PROTECTED,
    check_module,
    check_name,
    is_directory,
)

if TYPE_CHECKING:
    from pathlib import Path

    from twisted_dist.execution.scratch import Scratch

#: replaced versions of an upload that stay on disk, for tasks that still use them
MOST_REPLACED: Final = 3
#: the file that a child writes what comes into, piece by piece
INCOMING: Final = "incoming"
#: seconds that an import of what is replaced may still take, and between two looks at it
IMPORT_S: Final = 2.0
_LOOK_S: Final = 0.01


@frozen
class _Version:
    """One version of an upload.

    Attributes:
        place: its directory, with nothing else in it.
        path: of its file, or its own directory.
        entry: what is on ``sys.path`` for it; empty where nothing is.
        modules: names of the modules and packages that it brings.
    """

    digest: bytes
    place: Path
    path: Path
    entry: str
    modules: frozenset[str]


class _Process:
    """What this process has."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.current: dict[str, _Version] = {}
        #: {name: who has it}, of the names in `current`
        self._owners: dict[str, set[object]] = {}
        self._replaced: dict[str, list[_Version]] = {}
        self._numbers = count(1)
        self._scratch: Scratch | None = None

    def install(
        self, owner: object, name: str, digest: bytes, blob: bytes | None, directory: str | None
    ) -> None:
        """Have an upload; under the lock. Raises UsageProblem and OSError.

        Without a *blob* it is in the file `INCOMING` in the *directory* already.
        """
        before = self.current.get(name)
        if before is None or before.digest != digest:
            version = self._written(name, digest, blob, directory)
            self.current[name] = version
            entries = [version.entry] if version.entry else []
            old = before.entry if before is not None else ""
            sys.path[:] = entries + [each for each in sys.path if each != (old or None)]
            _forget_modules(version.modules | (before.modules if before is not None else set()))
            if before is not None:
                # one whose import had found it, and not begun, comes only now
                threading.Event().wait(_LOOK_S)
                _forget_modules(before.modules, below=f"{before.place}/")
                replaced = self._replaced.setdefault(name, [])
                replaced.append(before)
                while len(replaced) > MOST_REPLACED:
                    _remove(replaced.pop(0).place)
        self._owners.setdefault(name, set()).add(owner)

    def _written(
        self, name: str, digest: bytes, blob: bytes | None, directory: str | None
    ) -> _Version:
        from pathlib import Path

        check_name(name)
        if directory is not None:
            root = Path(directory)
        else:
            if self._scratch is None:
                from twisted_dist.execution.scratch import Scratch

                self._scratch = Scratch()
            root = self._scratch.path
        place = root / f"upload-{next(self._numbers)}"
        place.mkdir(mode=0o700)
        incoming = root / INCOMING
        try:
            if blob is not None:
                incoming.write_bytes(blob)
            return _put_in_place(name, digest, incoming, place)
        except BaseException:
            _remove(place)
            raise
        finally:
            incoming.unlink(missing_ok=True)

    def let_go(self, owner: object) -> None:
        """Remove what nobody else has; under the lock."""
        for name, owners in list(self._owners.items()):
            owners.discard(owner)
            if owners:
                continue
            del self._owners[name]
            version = self.current.pop(name)
            sys.path[:] = [each for each in sys.path if each != (version.entry or None)]
            _forget_modules(version.modules)
            for each in (version, *self._replaced.pop(name, ())):
                _remove(each.place)
        if not self._owners and self._scratch is not None:
            self._scratch.remove()
            self._scratch = None


def _put_in_place(name: str, digest: bytes, incoming: Path, place: Path) -> _Version:
    from twisted_dist.execution.archive import names_in, top_modules, unpack

    path = place / name.removesuffix("/")
    if is_directory(name):
        names = unpack(incoming, path)
        if "__init__.py" not in names:
            return _Version(digest, place, path, str(path), top_modules(names))
        check_module(path.name)
        return _Version(digest, place, path, str(place), frozenset((path.name,)))
    modules: frozenset[str] = frozenset()
    entry = ""
    if name.endswith(".py"):
        modules, entry = frozenset((name.removesuffix(".py"),)), str(place)
    elif name.endswith(ARCHIVES):
        modules, entry = top_modules(names_in(incoming)), str(path)
    incoming.rename(path)
    return _Version(digest, place, path, entry, modules)


def _remove(place: Path) -> None:
    import shutil

    shutil.rmtree(place, ignore_errors=True)


def _forget_modules(tops: frozenset[str], below: str = "") -> None:
    """Have modules, and what is in them, imported anew by whoever imports them next.

    Args:
        tops: names of modules and packages.
        below: drop only what came from files there.
    """
    tops -= PROTECTED
    patience = threading.Event()  # never set
    for _ in range(int(IMPORT_S / _LOOK_S)):
        found = [name for name in list(sys.modules) if name.partition(".")[0] in tops]
        found = [name for name in found if _origin(name).startswith(below)]
        if not any(map(_is_being_imported, found)):
            break
        patience.wait(_LOOK_S)  # what is taken from under an import makes that fail
    for name in found:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def _origin(name: str) -> str:
    spec: Any = getattr(sys.modules.get(name), "__spec__", None)
    return str(getattr(spec, "origin", ""))


def _is_being_imported(name: str) -> bool:
    spec: Any = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))  # CPython's own sign of it


_process: Final = _Process()


class Uploads:
    """A worker's uploads in this process. Methods may be called in any thread.

    Args:
        changed: called after each change: what was loaded before may refer to modules that
            were replaced.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._closed = False
        #: why the pieces that come cannot be written
        self._failed = ""

    def add_piece(
        self, name: str, digest: bytes, piece: bytes, is_last: bool, directory: str
    ) -> str | None:
        """Take the next piece of an upload, and with the last one do as `install`.

        So a process that may not use much memory needs no more than a piece at a time. None
        where there is more to come.
        """
        path = f"{directory}/{INCOMING}"
        if not self._failed:
            try:
                with open(path, "ab") as file:
                    file.write(piece)
            except OSError as problem:
                self._failed = str(problem)
        if not is_last:
            return None
        failed, self._failed = self._failed, ""
        error = failed or self.install(name, digest, None, directory)
        with suppress(OSError):
            os.unlink(path)  # it was refused, or had already
        return error

    def install(
        self, name: str, digest: bytes, blob: bytes | None, directory: str | None = None
    ) -> str:
        """Have an upload, in place of an earlier one of its name; what is wrong, or "".

        Args:
            name: of `upload_rules`.
            digest: what has the same one is the same.
            blob: its bytes; None where `add_piece` has them.
            directory: where to write it; by default one of this process's own.
        """
        try:
            with _process.lock:
                if self._closed:
                    return "it is not wanted any more"
                _process.install(self, name, digest, blob, directory)
        except (UsageProblem, OSError) as problem:
            return " ".join(str(problem).split()) or type(problem).__name__
        except Exception as problem:  # whatever zipfile makes of somebody's bytes
            return " ".join(f"{type(problem).__name__}: {problem}".split())
        finally:
            self._changed()
        return ""

    def close(self) -> None:
        """Let go of all, and take no more."""
        with _process.lock:
            self._closed = True
            _process.let_go(self)
        self._changed()


def uploaded(name: str) -> str:
    """The path of an uploaded file or directory; for tasks.

    A task that uses it for long, and finds its file replaced meanwhile, still has the one that
    it was given: later ones have another path.

    Args:
        name: as of the file, ``"table.csv"``, without directories.

    Raises:
        FileNotFoundError: nothing of that name was uploaded to this process.
    """
    version = _process.current.get(name) or _process.current.get(name + "/")
    if version is None:
        there = ", ".join(sorted(_process.current)) or "nothing"
        raise FileNotFoundError(f"nothing called {name!r} was uploaded here; there is {there}")
    return str(version.path)
