"""Events: flags that clients and tasks set, clear and wait for."""

from __future__ import annotations

from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.waiting import Lines
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation
from twisted_dist.core.state import SchedulerState


class Events:
    """All of them by name. One that is set stays until it is cleared."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._set: set[str] = set()
        self._lines = Lines(state)

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
        for waiter in self._lines.serve(fact.name):
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
        else:
            self._lines.join(client, fact, False)

    def clear(self) -> None:
        """A restart: none is set, and who waits is told."""
        self._set.clear()
        for name in self._lines:
            for waiter in self._lines.serve(name):
                waiter.answer(None, f"event {name!r}: the network was restarted")
