"""Variables: values, with futures in them, that clients and tasks share by name."""

from __future__ import annotations

from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.semaphores import Semaphores
from twisted_dist.core.coordination.waiting import Lines
from twisted_dist.core.parcels import Parcel, Parcels
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation, RequestError
from twisted_dist.core.state import SchedulerState


class Variables:
    """All of them by name. A value stays until another is set or it is deleted."""

    def __init__(self, state: SchedulerState, parcels: Parcels, semaphores: Semaphores) -> None:
        self._state = state
        self._parcels = parcels
        self._semaphores = semaphores
        self._values: dict[str, Parcel] = {}
        self._lines = Lines(state)

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {
            "variable-set": self._set,
            "variable-get": self._get,
            "variable-delete": self._delete,
        }

    def _set(self, client: SchedulerClient, fact: s.Asked) -> None:
        """*number* is the token of a lease that must be held for this to count; 0 for none."""
        if fact.number and not self._semaphores.is_held(fact.number):
            raise RequestError(f"variable {fact.name!r}: lease {fact.number} is not held any more")
        old = self._values.get(fact.name)
        parcel = self._parcels.make(client, fact, f"variable {fact.name!r}")
        self._values[fact.name] = parcel
        if old is not None:
            self._parcels.drop(old)
        self._state.outbox.reply(client, fact.request, None)
        for waiter in self._lines.serve(fact.name):
            waiter.answer(self._parcels.lend(waiter.client, parcel))

    def _get(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Answered with the value once there is one, with None when the time has run out."""
        parcel = self._values.get(fact.name)
        if parcel is not None:
            told = self._parcels.lend(client, parcel)
            self._state.outbox.reply(client, fact.request, told)
        else:
            self._lines.join(client, fact, None)

    def _delete(self, client: SchedulerClient, fact: s.Asked) -> None:
        parcel = self._values.pop(fact.name, None)
        if parcel is not None:
            self._parcels.drop(parcel)
        self._state.outbox.reply(client, fact.request, None)

    def clear(self) -> None:
        """A restart: none has a value, and who waits is told."""
        for parcel in self._values.values():
            self._parcels.drop(parcel)
        self._values.clear()
        for name in self._lines:
            for waiter in self._lines.serve(name):
                waiter.answer(None, f"variable {name!r}: the network was restarted")
