"""Twisted's epoll reactor, with less between two events, and with ends of turns.

Twisted calls each ready descriptor in a context that names it in what old-style log calls
say. Our loggers name themselves, and that context is a tenth of a small task's round trip
(docs/benchmarks.md). For what is all ours: the console scripts, and the thread of blocking
clients. A reactor of anybody else's serves as well.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

#: as long as Twisted's reactor waits at most: the kernel takes milliseconds in 31 bits
_LONGEST_S: Final = 2147483


def make_reactor() -> Any:
    """A reactor as quick as this system has: epoll's on Linux, the default's else."""
    if sys.platform != "linux":
        from twisted.internet.selectreactor import SelectReactor

        return SelectReactor()
    from twisted.internet.epollreactor import EPollReactor

    class PromptReactor(EPollReactor):
        """`EPollReactor` that calls what is ready directly."""

        log = Logger()

        def __init__(self) -> None:
            super().__init__()
            #: more than one descriptor is ready in the turn that is being handled
            self._crowded = False
            self._after_turn: dict[Callable[[], None], None] = {}

        def call_after_turn(self, function: Callable[[], None]) -> bool:
            """Call *function* once when all that was ready together has been handled.

            For what is better done once for many descriptors than for each.

            Returns:
                False if there is only one, and *function* will not be called: there is nothing
                to wait for.
            """
            if self._crowded:
                self._after_turn[function] = None
            return self._crowded

        def mainLoop(self) -> None:  # noqa: N802 -- of ReactorBase
            """As Twisted's, without what it does between two polls when there is nothing to do."""
            while self._started:
                try:
                    while self._started:
                        self.doPoll(self._wait_s())
                except BaseException:  # as Twisted: only `stop` ends the reactor
                    self.log.failure("the reactor's loop failed")

        def _wait_s(self) -> float | None:
            """Make the calls that are due; the seconds until the next is, None for ever."""
            timed = self._pendingTimedCalls
            if not self.threadCallQueue and not self._newTimedCalls and not self._justStopped:
                if not timed:
                    return None if self.running else 0
                delay = timed[0].time - self.seconds()
                if delay > 0:
                    return min(delay, _LONGEST_S) if self.running else 0
            self.runUntilCurrent()
            return self.timeout() if self.running else 0

        def doPoll(self, timeout: float | None) -> None:
            """Wait for descriptors, and call those that are ready (as Twisted's)."""
            known = self._selectables
            ready = self._poller.poll(-1 if timeout is None else timeout, len(known))
            self._crowded = len(ready) > 1
            for descriptor, event in ready:
                try:
                    self._handle(known.get(descriptor), descriptor, event)
                except BaseException:  # as Twisted: nobody's failure ends the reactor
                    self.log.failure("a connection's end failed")
            if self._crowded:
                self._end_turn()

        def _handle(self, selectable: Any, descriptor: int, event: int) -> None:
            if selectable is None:
                return
            try:
                if event != select.EPOLLIN:
                    self._doReadOrWrite(selectable, descriptor, event)
                    return
                why = selectable.doRead()
            except BaseException as problem:
                self.log.failure("a descriptor's handler failed")
                why = problem
            if why:
                self._disconnectSelectable(selectable, why, True)

        def _end_turn(self) -> None:
            self._crowded = False
            waiting, self._after_turn = self._after_turn, {}
            for function in waiting:
                try:
                    function()
                except BaseException:  # as above; the others are called all the same
                    self.log.failure("what waited for the end of a turn failed")

        doIteration = doPoll

    return PromptReactor()
