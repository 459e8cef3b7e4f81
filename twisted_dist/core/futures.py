"""What clients do with the futures they have: release, cancel, let run, locate."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_dist.aliases import TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.holders import add_want
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.releasing import let_go
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import ERRED, MEMORY, RELEASED, SchedulerTask
from twisted_dist.core.transitions import ACTIVE, activate, cancel, unwant


class Futures:
    """Handles the stimuli about tasks that a client has futures of."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def own(self, client: SchedulerClient, ids: Iterable[TaskId]) -> list[SchedulerTask]:
        """The tasks that a client means and has futures of."""
        found = []
        for each in ids:
            task = client.aliases.get(each) or self._state.tasks.get(each)
            if task is not None and task.wanted_by and client in task.wanted_by:
                found.append(task)
        return found

    def keys_released(self, fact: s.KeysReleased) -> None:
        """A client has no future any more under these ids."""
        client = self._state.clients.get(fact.client)
        if client is None:
            return
        if not client.names:
            let_go(self._state, client, fact.ids)
            return
        for own_id in fact.ids:
            for task in self.own(client, (own_id,)):
                names = client.names.get(task)
                if names is not None and own_id in names:
                    names.remove(own_id)
                    client.aliases.pop(own_id, None)
                if not names:
                    unwant(self._state, client, task)

    def cancel_requested(self, fact: s.CancelRequested) -> None:
        """End tasks without a result, and what needs them."""
        client = self._state.clients.get(fact.client)
        if client is not None:
            self._state.story.note(self._state.now, "was cancelled", fact.ids, client.name)
            for task in self.own(client, fact.ids):
                cancel(self._state, task)

    def runaways_named(self, fact: s.RunawaysNamed) -> None:
        """Hold tasks until they have ended, for nobody."""
        client = self._state.clients.get(fact.client)
        if client is not None:
            for task in self.own(client, fact.ids):
                if task.state in ACTIVE:
                    add_want(task, self._state.runaways)

    def locations_asked(self, fact: s.LocationsAsked) -> None:
        """A client fetches values itself, once they exist; lost ones are made again."""
        client = self._state.clients.get(fact.client)
        if client is None:
            return
        wanted: dict[TaskId, SchedulerTask] = {}
        for own_id in fact.ids:
            for task in self.own(client, (own_id,)):
                wanted[own_id] = task
                if task.state is RELEASED:
                    activate(self._state, task)
        self._state.lookups[client, fact.request] = wanted

    def answer_lookups(self) -> None:
        """Answer those of which all values exist, or never will."""
        for (client, request), wanted in list(self._state.lookups.items()):
            if all(t.state is MEMORY or t.state is ERRED for t in wanted.values()):
                del self._state.lookups[client, request]
                self._state.outbox.locations(client, request, wanted)
