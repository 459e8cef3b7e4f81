"""Twisted's epoll reactor, without a log context for every event.

Twisted calls each ready descriptor in a context that names it in what old-style log calls
say. Our loggers name themselves, and that context is a tenth of a small task's round trip
(docs/benchmarks.md). For what is all ours: the console scripts, and the thread of blocking
clients. A reactor of anybody else's serves as well.
"""

from __future__ import annotations

import select
import sys
from typing import Any

from twisted.logger import Logger


def make_reactor() -> Any:
    """A reactor as quick as this system has: epoll's on Linux, the default's else."""
    if sys.platform != "linux":
        from twisted.internet.selectreactor import SelectReactor

        return SelectReactor()
    from twisted.internet.epollreactor import EPollReactor

    class PromptReactor(EPollReactor):
        """`EPollReactor` that calls what is ready directly."""

        log = Logger()

        def doPoll(self, timeout: float | None) -> None:
            """Wait for descriptors, and call those that are ready (as Twisted's)."""
            known = self._selectables
            ready = self._poller.poll(-1 if timeout is None else timeout, len(known))
            for descriptor, event in ready:
                selectable = known.get(descriptor)
                if selectable is None:
                    continue
                try:
                    if event != select.EPOLLIN:
                        self._doReadOrWrite(selectable, descriptor, event)
                        continue
                    why = selectable.doRead()
                except BaseException as problem:  # as Twisted: no handler ends the reactor
                    self.log.failure("a descriptor's handler failed")
                    why = problem
                if why:
                    self._disconnectSelectable(selectable, why, True)

        doIteration = doPoll

    return PromptReactor()
