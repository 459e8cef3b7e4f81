"""`Line`: requests that wait their turn, each with a bound on how long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from twisted_dist.core import stimuli as s
from twisted_dist.core.alarms import Alarm
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.state import SchedulerState


class Waiter:
    """One request that waits; *late* is its answer where the time runs out."""

    __slots__ = ("_alarm", "_line", "_state", "client", "done", "fact", "late")

    def __init__(
        self,
        state: SchedulerState,
        line: Line,
        client: SchedulerClient,
        fact: s.Asked,
        late: object,
    ) -> None:
        self._state = state
        self._line = line
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
        self._line.left()

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


def leave_all(client: SchedulerClient) -> None:
    """A client is gone: it waits for nothing any more."""
    waiters = list(client.waiters)
    for each in waiters:  # all of them before anybody is told: none may be served meanwhile
        each.leave()
    for each in waiters:
        each._line.left()


class Line:
    """Waiters, first come, first served.

    Args:
        state: the scheduler's.
        left: called when one of them was not served: its time ran out, or its client is gone.
    """

    __slots__ = ("_state", "_waiters", "left")

    def __init__(self, state: SchedulerState, left: Callable[[], object] = lambda: None) -> None:
        self._state = state
        self.left = left
        self._waiters: deque[Waiter] = deque()

    def join(self, client: SchedulerClient, fact: s.Asked, late: object) -> Waiter:
        """Let a request wait; answered with *late* when its time runs out, or is none."""
        waiter = Waiter(self._state, self, client, fact, late)
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


class Lines:
    """Lines by name; one in which nobody waits is forgotten."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._by_name: dict[str, Line] = {}

    def join(self, client: SchedulerClient, fact: s.Asked, late: object) -> None:
        """Let a request wait for what its name says; as `Line.join`."""
        name = fact.name
        line = self._by_name.get(name)
        if line is None:
            line = self._by_name[name] = Line(self._state, lambda: self._tidy(name))
        line.join(client, fact, late)
        self._tidy(name)

    def _tidy(self, name: str) -> None:
        line = self._by_name.get(name)
        if line is not None and line.first() is None:
            del self._by_name[name]

    def serve(self, name: str) -> Iterator[Waiter]:
        """All who wait for a name, to be answered; nobody waits for it afterwards."""
        line = self._by_name.pop(name, None)
        if line is not None:
            yield from iter(line.first, None)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._by_name))
