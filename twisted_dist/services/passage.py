"""What a child writes, passed on to where this process writes, which may be blocked.

Nobody may be reading a daemon's output, or slowly: what tasks write must not stop
the nanny, nor take more than so much of its memory.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Any, Final

from twisted_dist.execution.output import STDOUT

#: bytes that wait for a reader; what is more is left out, and that is said
MOST_WAITING: Final = 2**20
#: bytes that a pipe takes without blocking when it is ready at all (POSIX's PIPE_BUF on Linux)
_AT_ONCE: Final = 4096
#: seconds until it is tried again
RETRY_S: Final = 0.05


class Passage:
    """Writes bytes to standard output or error, as far as that takes them at once.

    Args:
        reactor: calls it again for what it did not.
        number: 1 or 2.
    """

    def __init__(self, reactor: Any, number: int) -> None:
        self._reactor = reactor
        self._name = "stdout" if number == STDOUT else "stderr"
        self._waiting = bytearray()
        self._left_out = 0
        self._retry: Any = None

    def write(self, data: bytes) -> None:
        """Pass it on."""
        room = MOST_WAITING - len(self._waiting)
        self._left_out += max(0, len(data) - room)
        self._waiting += data[:room]
        if self._retry is None:
            self._try()

    def _try(self) -> None:
        self._retry = None
        stream = getattr(sys, self._name)
        try:
            stream.flush()  # what this process wrote before
            descriptor = stream.fileno()
        except (AttributeError, OSError, ValueError):  # twistd's log, for one, is no file
            if stream is not None:
                stream.write(self._waiting.decode(errors="replace"))
            self._waiting.clear()
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while self._waiting and poll.poll(0):
            try:
                done = os.write(descriptor, self._waiting[:_AT_ONCE])
            except BlockingIOError:
                break
            except OSError:  # whoever read it is gone
                self._waiting.clear()
                return
            del self._waiting[:done]
            if self._left_out and len(self._waiting) < MOST_WAITING // 2:
                self._waiting += b"\n[%d bytes of tasks' output left out]\n" % self._left_out
                self._left_out = 0
        if self._waiting:
            self._retry = self._reactor.callLater(RETRY_S, self._try)

    def close(self) -> None:
        """Write no more."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
