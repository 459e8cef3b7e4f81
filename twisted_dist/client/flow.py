"""Flow control: a client that submits faster than the network works waits, and so bounds all.

What a client has not been answered yet is held three times: by itself, to tell it again, by
the scheduler, and in part on the way. So the client limits what it submits: tasks that have not
ended, and bytes that the scheduler has not acknowledged. Whoever submits is blocked beyond, and
goes on when a quarter of that is free again. Questions, releases and signs of life are never
held back: they are what makes room.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import defer

from twisted_dist.execution.current import while_waiting

#: tasks of one client that have not ended: a scheduler takes about a gigabyte for so many
MOST_PENDING: Final = 2_000_000
#: bytes that the scheduler has not acknowledged: half of what it keeps for a client
#: (`wire.session.MOST_KEPT`), and some seconds of a fast network
MOST_UNSENT: Final = 256 * 2**20
#: what must be free until those who wait go on: not each for one task
GOES_ON: Final = 0.75
#: seconds between two looks while somebody waits; nothing is looked at where nobody does
LOOK_S: Final = 0.02
#: seconds after which a thread looks whether its reactor has ended meanwhile
DOUBT_S: Final = 1.0


class Flow:
    """Blocks those who submit while there is too much under way.

    Args:
        reactor: the session's.
        pending: how many of its tasks have not ended.
        unsent: bytes that the scheduler has not acknowledged.
    """

    def __init__(self, reactor: Any, pending: Callable[[], int], unsent: Callable[[], int]) -> None:
        self._reactor = reactor
        self._pending = pending
        self._unsent = unsent
        #: the reactor's, which must never wait for itself
        self._thread: int | None = None
        self._waiting: deque[Callable[[], object]] = deque()
        self._looking: Any = None
        self._has_ended = False

    def begin(self) -> None:
        """Count from now on; in the reactor's thread."""
        self._thread = threading.get_ident()

    def end(self) -> None:
        """Let everybody go on: nothing is sent any more. In the reactor's thread."""
        self._has_ended = True
        self._look()

    def _is_above(self, share: float) -> bool:
        return not self._has_ended and (
            self._pending() > MOST_PENDING * share or self._unsent() > MOST_UNSENT * share
        )

    def wait(self) -> None:
        """Block while there is too much; never in the reactor's thread."""
        if not self._is_above(1.0) or threading.get_ident() == self._thread:
            return
        # a lock that is taken, for this thread to take again: Ctrl-C gets out of that
        gate = threading.Lock()
        gate.acquire()
        self._waiting.append(gate.release)
        self._reactor.callFromThread(self._look)
        while_waiting(self._pass, gate)

    def _pass(self, gate: threading.Lock) -> None:
        while not gate.acquire(timeout=DOUBT_S):
            if self._has_ended:  # and its reactor too, maybe
                return

    def room(self) -> defer.Deferred[None]:
        """Fires when there is room, as a rule at once; in the reactor's thread."""
        fires: defer.Deferred[None] = defer.Deferred()
        if self._is_above(1.0):
            self._waiting.append(lambda: fires.callback(None))
            self._look()
        else:
            fires.callback(None)
        return fires

    def _look(self) -> None:
        if self._looking is not None and self._looking.active():
            self._looking.cancel()
        self._looking = None
        if self._waiting and self._is_above(GOES_ON):
            self._looking = self._reactor.callLater(LOOK_S, self._look)
            return
        while self._waiting:
            self._waiting.popleft()()
