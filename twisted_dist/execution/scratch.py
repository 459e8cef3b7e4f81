"""Temporary directories that vanish with their owner, however it ends.

One that is ended by SIGKILL can remove nothing. So each directory has a file that its owner
keeps locked (flock(2)): the kernel gives that up with the process, and the next owner of the
same user that starts removes what nobody holds any more.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "twisted-dist-"
_LOCK: Final = "lock"


def _prefix() -> str:
    return f"{_PREFIX}{os.getuid()}-"


class Scratch:
    """A directory of this process's own, which only its user may read.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_prefix()))
        self._pid = os.getpid()
        made = self.path / f"{_LOCK}.new"
        self._lock = os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        made.rename(self.path / _LOCK)  # only now: `sweep` leaves alone what has none
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove it, with what is in it. May be called twice; a copy by fork removes nothing."""
        if self._lock < 0 or os.getpid() != self._pid:
            return
        atexit.unregister(self.remove)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def sweep() -> None:
    """Remove what owners that were killed have left, of this user."""
    with suppress(OSError):
        entries = list(os.scandir(tempfile.gettempdir()))
        for entry in entries:
            if entry.name.startswith(_prefix()) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_left(Path(entry.path))


def _remove_left(path: Path) -> None:
    if path.lstat().st_uid != os.getuid():
        return
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
