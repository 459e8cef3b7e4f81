"""`Tidier`: lets go of memory that a client shares with workers and no longer uses."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_dist.segments.probe import KEEPING, tidy

#: seconds for which memory is kept for later values, which are quicker in it
KEPT_S: Final = 5.0


class Tidier:
    """Looks every `KEPT_S` seconds, once anything large was moved."""

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._looking = LoopingCall(tidy)
        self._looking.clock = reactor
        self._is_closed = False

    def begin(self) -> None:
        """Something is moved; in the reactor's thread."""
        if not self._looking.running and not self._is_closed:
            KEEPING.begin(maps=True)
            ended = self._looking.start(KEPT_S, now=False)
            ended.addErrback(lambda f: self.log.failure("tidying failed", failure=f))
            ended.addCallback(lambda _: KEEPING.end())

    def close(self) -> None:
        """Let go of everything, and look no more."""
        self._is_closed = True
        if self._looking.running:
            self._looking.stop()
        tidy()
