"""Standard input of a daemon: a first line with a secret, and then a sign of the launcher's life.

A launcher on another machine gives a daemon what it must not show anywhere, on a command line,
in an environment or in a file, as the first line of standard input. What follows is nothing but
a sign that the launcher is there: its end ends the daemon, and so may its silence, since of a
link that was cut nobody hears that it ended.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_dist.errors import AccessError

#: stands for standard input where a file is meant
STDIN: Final = "-"
#: seconds in which the first line must be there, all of it
LINE_S: Final = 30.0
#: bytes of the first line: a network with a thousand grants has less
MAX_LINE_BYTES: Final = 512 * 1024
#: seconds that a daemon whose launcher fell silent may take to end, until it is ended: it may
#: hang in a write to an output that nobody takes any more
ENDING_S: Final = 30.0


def read_line(
    what: str,
    descriptor: int = 0,
    *,
    timeout_s: float = LINE_S,
    most: int = MAX_LINE_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The first line of standard input, without its end. Not a byte more is read.

    Args:
        what: it is, for messages.
        descriptor: to read from.
        timeout_s: until all of it must be there.
        most: bytes that it may have.
        clock: seconds, from anywhere.

    Raises:
        AccessError: it does not come; says what came instead, but never shows any of it.
    """
    try:
        return _read_line(descriptor, timeout_s, most, clock).decode().removesuffix("\r")
    except OSError as problem:
        why = str(problem.strerror)
    except UnicodeDecodeError:
        why = "what came is no text"
    except ValueError as problem:
        why = str(problem)
    raise AccessError(f"{what} is to come on standard input: {why}")


def _read_line(
    descriptor: int, timeout_s: float, most: int, clock: Callable[[], float]
) -> bytearray:
    """The line's bytes; ValueError says why there are none."""
    deadline = clock() + timeout_s
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    line = bytearray()
    while True:
        if not waiting.poll(max(0.0, deadline - clock()) * 1000) or clock() > deadline:
            some = "no whole line" if line else "nothing"
            raise ValueError(f"{some} came in {timeout_s:g} s")
        # one by one: what follows the line is for somebody else
        byte = os.read(descriptor, 1)
        if byte == b"\n":
            return line
        if not byte:
            some = "in the midst of the line" if line else "before anything came"
            raise ValueError(f"it ended {some}")
        line += byte
        if len(line) > most:
            raise ValueError(f"the line has more than {most} bytes")


@implementer(IReadDescriptor)
class StdinWatch:
    """Notices the end of standard input, and silence on it.

    Not `twisted.internet.stdio`, which makes standard output non-blocking too: tasks, whose
    standard output it also is, would lose what they print when a pipe is full.

    Args:
        reactor: to watch in.
        closed: called once when it ends.
        silent: called once when nothing came for `silence_s`, with a line that says so.
        silence_s: seconds; None where silence means nothing.
    """

    def __init__(
        self,
        reactor: Any,
        closed: Callable[[], None],
        silent: Callable[[str], None] = lambda line: None,
        silence_s: float | None = None,
    ) -> None:
        self._reactor = reactor
        self._closed = closed
        self._silent = silent
        self._silence_s = silence_s
        self._timer: Any = None
        self._last_resort: _LastResort | None = None
        #: whether it is over, one way or the other
        self._is_over = False

    def start(self) -> None:
        """Begin to watch."""
        self._reactor.addReader(self)
        if self._silence_s is not None:
            self._timer = self._reactor.callLater(self._silence_s, self._fell_silent)
            self._last_resort = _LastResort(self._silence_s + ENDING_S)
            self._last_resort.start()

    def fileno(self) -> int:
        """Standard input."""
        return 0

    def doRead(self) -> None:
        """Throw away what comes; act on the end."""
        if os.read(0, 4096):
            if self._timer is not None:
                self._timer.reset(self._silence_s)
            if self._last_resort is not None:
                self._last_resort.heard()
        else:
            self._finish(self._closed)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, or cannot watch it any more."""
        self._finish(self._closed)

    def _fell_silent(self) -> None:
        self._timer = None
        line = f"nothing came on standard input for {self._silence_s:g} s: who started this is gone"
        self._finish(lambda: self._silent(line))

    def _finish(self, act: Callable[[], None]) -> None:
        self._reactor.removeReader(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_over:
            self._is_over = True
            act()

    def logPrefix(self) -> str:
        """Its name in logs."""
        return "stdin"


class _LastResort:
    """Ends the process where the reactor does not get to it after a silence.

    Who hangs in a write, because nobody takes its output any more, has no timers. What waits
    on standard input unread shows that somebody is there: then the output is only slow.

    Args:
        patience_s: seconds of silence until then.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._heard = threading.Event()

    def start(self) -> None:
        """In a thread that keeps nobody from ending."""
        threading.Thread(target=self._wait, name="last-resort", daemon=True).start()

    def heard(self) -> None:
        """Something came: from now on anew."""
        self._heard.set()

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(0, select.POLLIN)
        while True:
            is_heard = self._heard.wait(self._patience_s)
            self._heard.clear()
            if not is_heard and not waiting.poll(0):
                os._exit(1)


def takes_a_line(descriptor: int) -> bool:
    """Whether a short line can be written without waiting for somebody to take it."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT)
    try:
        return any(what & select.POLLOUT for _, what in waiting.poll(0))
    except OSError:
        return False
