"""What tasks write to standard output and standard error, as far as Python does the writing.

It goes to the nanny by the child's channel, each piece with the task that wrote it: at once,
so that the last words of a crash are not lost, unless a task writes line upon line. What code
in C and other processes write goes to the nanny as well, by pipes, and is no task's.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

from twisted_dist.execution.current import running

STDOUT, STDERR = 1, 2
#: characters that are sent at the latest when they have gathered
MOST_GATHERED: Final = 8 * 1024
#: seconds since the last piece after which the next one is sent at once
AT_ONCE_S: Final = 0.001

#: the task of the current coroutine, whose thread is everybody's
awaited_task: Final[ContextVar[Any]] = ContextVar("awaited_task", default=None)


class Output:
    """The two streams of one process.

    Args:
        send: told ``[task id (0: none), stream, text]`` of each piece; in any thread.
        clock: seconds.
    """

    def __init__(
        self, send: Callable[[list[list[Any]]], None], clock: Callable[[], float] = monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.RLock()
        self._gathered: list[list[Any]] = []
        self._size = 0
        self._sent_at = 0.0
        self._originals = sys.stdout, sys.stderr

    def take_over(self) -> None:
        """Be what ``print`` writes to in this process."""
        sys.stdout, sys.stderr = OutputStream(self, STDOUT), OutputStream(self, STDERR)

    def give_back(self) -> None:
        """Let ``print`` write to where it did, as in a copy of the process."""
        sys.stdout, sys.stderr = self._originals

    def write(self, stream: int, text: str) -> None:
        """A piece, of the task that the current thread or coroutine runs."""
        spec = running.spec or awaited_task.get()
        with self._lock:
            task_id = spec.task_id if spec is not None else 0
            last = self._gathered[-1] if self._gathered else None
            if last is not None and last[0] == task_id and last[1] == stream:
                last[2] += text  # ``print`` writes its line end apart
            else:
                self._gathered.append([task_id, stream, text])
            self._size += len(text)
            is_alone = self._clock() - self._sent_at > AT_ONCE_S and "\n" in text
            if is_alone or self._size > MOST_GATHERED:
                self.flush()

    def flush(self) -> None:
        """Send what has gathered."""
        if not self._gathered:
            return
        with self._lock:
            gathered, self._gathered, self._size = self._gathered, [], 0
            self._sent_at = self._clock()
            self._send(gathered)


class OutputStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of a child."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, output: Output, number: int) -> None:
        self._output = output
        self._number = number
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Write text; halves of characters are shown as what they are."""
        self._output.write(self._number, text.encode(errors="backslashreplace").decode())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept here."""

    def fileno(self) -> int:
        """Where other processes write to, and code in C."""
        return self._number

    def writable(self) -> bool:
        """It is."""
        return True


class _Bytes(io.RawIOBase):
    """For who writes bytes to such a stream."""

    def __init__(self, stream: OutputStream) -> None:
        self._stream = stream

    def write(self, data: Any) -> int:
        """As text."""
        self._stream.write(bytes(data).decode(errors="replace"))
        return len(data)

    def fileno(self) -> int:
        """As the stream's."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True
