"""`Parcel`: a pickled value with futures in it, kept by the scheduler for whoever asks.

The value is opaque. Its futures are held for as long as the parcel is kept; who is given
the parcel gets futures of its own, under ids that the scheduler makes for it.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from twisted_dist.aliases import CLIENT_SHIFT, TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.futures import Futures
from twisted_dist.core.holders import add_want
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import RequestError
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.submission import Submissions
from twisted_dist.core.task import RELEASED, SchedulerTask
from twisted_dist.core.transitions import activate, unwant

#: of the ids of a client, those from here on are made by the scheduler
LENT_IDS: Final = 1 << (CLIENT_SHIFT - 1)
#: bytes of one value; larger ones are to be scattered
MAX_PARCEL_BYTES: Final = 2**20


@frozen(eq=False)
class Parcel:
    """A value, its futures' tasks in order, and who holds them for it."""

    blob: bytes
    tasks: list[SchedulerTask]
    holder: SchedulerClient


class Parcels:
    """Makes parcels, hands them out, and lets go of them."""

    def __init__(self, state: SchedulerState, futures: Futures, submissions: Submissions) -> None:
        self._state = state
        self._futures = futures
        self._submissions = submissions

    def make(self, client: SchedulerClient, fact: s.Asked, name: str) -> Parcel:
        """Keep what a client sent along.

        Raises:
            RequestError: it is too large, or a future in it was released.
        """
        if len(fact.blob) > MAX_PARCEL_BYTES:
            raise RequestError(
                f"{name} takes {len(fact.blob)} bytes, more than {MAX_PARCEL_BYTES}: "
                "scatter() it and give the future"
            )
        holder = SchedulerClient(0, name)
        tasks = []
        for each in fact.ids:
            found = self._futures.own(client, (each,))
            if not found:
                raise RequestError(f"{name}: a future in it was released before it came here")
            tasks += found
        for task in tasks:
            add_want(task, holder)
            if task.state is RELEASED:  # lost, after its clients had the value; others will ask
                activate(self._state, task)
        return Parcel(fact.blob, tasks, holder)

    def lend(self, client: SchedulerClient, parcel: Parcel) -> list[object]:
        """What a client is told of a parcel: the value, and ids and keys of its futures."""
        ids: list[TaskId] = []
        for task in parcel.tasks:
            own_id = (client.id << CLIENT_SHIFT) + LENT_IDS + client.lent
            client.lent += 1
            ids.append(own_id)
            self._submissions.share(client, own_id, task)
        return [parcel.blob, ids, [task.name for task in parcel.tasks]]

    def drop(self, parcel: Parcel) -> None:
        """Nobody can ask for it any more."""
        for task in list(parcel.holder.borrowed):
            unwant(self._state, parcel.holder, task)
