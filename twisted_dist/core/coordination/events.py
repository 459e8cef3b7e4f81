"""Events: flags that clients and tasks set, clear and wait for."""

from __future__ import annotations

from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.waiting import Line
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation
from twisted_dist.core.state import SchedulerState


class Events:
    """All of them by name. One that is set stays until it is cleared."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._set: set[str] = set()
        self._lines: dict[str, Line] = {}

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {
            "event-set": self._set_event,
            "event-clear": self._clear_event,
            "event-wait": self._wait,
            "event-is-set": self._is_set,
        }

    def _set_event(self, client: SchedulerClient, fact: s.Asked) -> None:
        self._set.add(fact.name)
        line = self._lines.pop(fact.name, None)
        if line is not None:
            for waiter in iter(line.first, None):
                waiter.answer(True)
        self._state.outbox.reply(client, fact.request, None)

    def _clear_event(self, client: SchedulerClient, fact: s.Asked) -> None:
        self._set.discard(fact.name)
        self._state.outbox.reply(client, fact.request, None)

    def _is_set(self, client: SchedulerClient, fact: s.Asked) -> None:
        self._state.outbox.reply(client, fact.request, fact.name in self._set)

    def _wait(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Answered with True once it is set, with False when the time has run out."""
        if fact.name in self._set:
            self._state.outbox.reply(client, fact.request, True)
            return
        line = self._lines.get(fact.name)
        if line is None or line.first() is None:
            self._lines[fact.name] = line = Line(self._state)
        line.join(client, fact, False)
        if line.first() is None:
            del self._lines[fact.name]

    def clear(self) -> None:
        """A restart: none is set, and who waits is told."""
        self._set.clear()
        lines, self._lines = self._lines, {}
        for name, line in lines.items():
            for waiter in iter(line.first, None):
                waiter.answer(None, f"event {name!r}: the network was restarted")
