"""`LogFiles`: a file for each daemon of a cluster, below one directory."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

#: lines that wait to be written, at most: a disk may be slow, or a server that is away
MOST_WAITING: Final = 100_000
#: seconds that the last lines have to get out
LAST_WORDS_S: Final = 5.0


class LogFiles:
    """Appends lines to files, in a thread; a full disk costs lines, and nothing else.

    Args:
        directory: is made, if it is not there.
        complain: called, in that thread, once for each time that files stop to take lines.
        most_bytes: of a file; then it becomes ``NAME.1``, that one ``NAME.2``, and so on, and
            the last one goes. None for files that grow for ever.
        kept: how many there are, with the one that is written to.
    """

    def __init__(
        self,
        directory: Path,
        complain: Callable[[str], None],
        *,
        most_bytes: int | None = None,
        kept: int = 1,
    ) -> None:
        self.directory = directory
        self._complain = complain
        self._most_bytes = most_bytes
        self._kept = kept
        self._files: dict[str, BinaryIO] = {}
        self._lost: dict[str, int] = {}
        self._lines: queue.Queue[tuple[str, str] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._write_all, name="log-files", daemon=True)

    def start(self) -> None:
        """Begin. Raises OSError where there can be no files."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(self.directory))
        self._thread.start()

    def line(self, name: str, text: str) -> None:
        """One line for the file of that name; never blocks."""
        try:
            self._lines.put_nowait((name, text))
        except queue.Full:
            self._lost[name] = self._lost.get(name, 0) + 1

    def stop(self) -> None:
        """Write what is left, if it can be written, and end."""
        if self._thread.ident is None:
            return  # it never began
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=LAST_WORDS_S)
        self._thread.join(LAST_WORDS_S)

    def _write_all(self) -> None:
        while True:
            each = self._lines.get()
            if each is None:
                break
            self._write(*each)
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def _write(self, name: str, text: str) -> None:
        lost = self._lost.get(name, 0)
        told = f"... {lost} lines are missing here\n" if lost else ""
        try:
            file = self._files.get(name)
            if file is None:
                # unbuffered: what was written is there for whoever looks, and whatever happens
                file = self._files[name] = self._open(name)
            data = f"{told}{text}\n".encode(errors="replace")
            begin = file.tell()
            try:
                if file.write(data) != len(data):
                    raise OSError(28, os.strerror(28))  # as the next write would say
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), begin)
                raise
        except OSError as problem:
            if not lost:
                self._complain(f"{self.directory / name}: {problem.strerror}; lines are lost")
            self._lost[name] = lost + 1
        else:
            self._lost.pop(name, None)
            if self._most_bytes is not None and begin + len(data) >= self._most_bytes:
                self._rotate(name)

    def _open(self, name: str) -> BinaryIO:
        # tasks write what they like: it is for their user only
        path, flags = self.directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)

    def _rotate(self, name: str) -> None:
        self._files.pop(name).close()
        names = [name, *(f"{name}.{number}" for number in range(1, self._kept))]
        with contextlib.suppress(OSError):
            for older, newer in reversed(list(zip(names[1:], names))):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.directory / newer, self.directory / older)
            if self._kept == 1:
                os.unlink(self.directory / name)
