"""`Line`: requests that wait their turn, each with a bound on how long."""

from __future__ import annotations

from collections import deque

from twisted_dist.core import stimuli as s
from twisted_dist.core.alarms import Alarm
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.state import SchedulerState


class Waiter:
    """One request that waits; *late* is its answer where the time runs out."""

    __slots__ = ("_alarm", "_state", "client", "done", "fact", "late")

    def __init__(
        self, state: SchedulerState, client: SchedulerClient, fact: s.Asked, late: object
    ) -> None:
        self._state = state
        self._alarm: Alarm | None = None
        self.client = client
        self.fact = fact
        self.late = late
        self.done = False
        if fact.timeout_s >= 0:
            self._alarm = state.alarms.at(state.now + fact.timeout_s, self._too_late)

    def _too_late(self) -> None:
        self._alarm = None
        self.answer(self.late)

    def answer(self, result: object, error: str = "") -> None:
        """Answer, once; what comes after is ignored."""
        if not self.done:
            self.leave()
            self._state.outbox.reply(self.client, self.fact.request, result, error)

    def leave(self) -> None:
        """Wait no longer, unanswered: the client is gone."""
        self.done = True
        self.client.waiters.pop(self, None)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class Line:
    """Waiters, first come, first served."""

    __slots__ = ("_state", "_waiters")

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._waiters: deque[Waiter] = deque()

    def join(self, client: SchedulerClient, fact: s.Asked, late: object) -> Waiter:
        """Let a request wait; answered with *late* when its time runs out, or is none."""
        waiter = Waiter(self._state, client, fact, late)
        if fact.timeout_s == 0:
            waiter.answer(late)
        else:
            client.waiters[waiter] = None
            self._waiters.append(waiter)
        return waiter

    def first(self) -> Waiter | None:
        """Who is next; None where nobody waits."""
        while self._waiters and self._waiters[0].done:
            self._waiters.popleft()
        return self._waiters[0] if self._waiters else None
