"""`HeapClock`: the one clock of a simulated network."""

from __future__ import annotations

import heapq
from itertools import count

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock


class HeapClock(Clock):
    """A `task.Clock` whose `callLater` does not sort all calls anew (200 hosts have many)."""

    def __init__(self):
        super().__init__()
        self._heap = []
        self._ticket = count()

    def _push(self, call):
        heapq.heappush(self._heap, (call.getTime(), next(self._ticket), call))

    def callLater(self, delay, function, *args, **kwargs):
        """As Clock's."""
        return self.call_at(self.rightNow + delay, function, *args, **kwargs)

    def call_at(self, when, function, *args, **kwargs):
        """As `callLater`, at an instant, to the last digit: what is for one keeps its order."""
        call = DelayedCall(
            when, function, args, kwargs, lambda call: None, self._push, self.seconds
        )
        self._push(call)
        return call

    def getDelayedCalls(self):
        """As Clock's."""
        return list(dict.fromkeys(call for _, _, call in self._heap if call.active()))

    def advance_to_next(self):
        """Let time pass until the next call, and make it; False if there is none."""
        while self._heap:
            when, _, call = heapq.heappop(self._heap)
            if not call.active():
                continue
            due = call.getTime()
            if due > when:  # it was put off meanwhile
                self._push(call)
            elif due == when:
                self.rightNow = max(self.rightNow, when)
                call.called = 1
                call.func(*call.args, **call.kw)
                return True
        return False
