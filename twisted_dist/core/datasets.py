"""Datasets: values with futures in them that clients publish by name for one another."""

from __future__ import annotations

from twisted_dist.core import stimuli as s
from twisted_dist.core.parcels import Parcel, Parcels
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation, RequestError
from twisted_dist.core.state import SchedulerState


class Datasets:
    """They stay until they are unpublished, whoever published them."""

    def __init__(self, state: SchedulerState, parcels: Parcels) -> None:
        self._state = state
        self._parcels = parcels
        self._by_name: dict[str, Parcel] = {}

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {
            "publish": self._publish,
            "unpublish": self._unpublish,
            "dataset": self._get,
            "datasets": self._list,
        }

    def _publish(self, client: SchedulerClient, fact: s.Asked) -> None:
        """*number* is 1 to replace one of that name."""
        old = self._by_name.get(fact.name)
        if old is not None and not fact.number:
            raise RequestError(
                f"there is a dataset {fact.name!r} already: unpublish it, or override=True"
            )
        self._by_name[fact.name] = self._parcels.make(client, fact, f"dataset {fact.name!r}")
        if old is not None:
            self._parcels.drop(old)
        self._state.outbox.reply(client, fact.request, None)

    def _unpublish(self, client: SchedulerClient, fact: s.Asked) -> None:
        self._parcels.drop(self._known(fact))
        del self._by_name[fact.name]
        self._state.outbox.reply(client, fact.request, None)

    def _get(self, client: SchedulerClient, fact: s.Asked) -> None:
        told = self._parcels.lend(client, self._known(fact))
        self._state.outbox.reply(client, fact.request, told)

    def _list(self, client: SchedulerClient, fact: s.Asked) -> None:
        self._state.outbox.reply(client, fact.request, sorted(self._by_name))

    def _known(self, fact: s.Asked) -> Parcel:
        parcel = self._by_name.get(fact.name)
        if parcel is None:
            names = ", ".join(sorted(self._by_name)) or "none"
            raise RequestError(f"there is no dataset {fact.name!r}; there are: {names}")
        return parcel

    def clear(self) -> None:
        """Forget all, as a restart does."""
        for parcel in self._by_name.values():
            self._parcels.drop(parcel)
        self._by_name.clear()
