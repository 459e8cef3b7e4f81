"""Values on all workers that somebody names: in a tree, where who has one gives it on."""

from __future__ import annotations

from typing import Final

from attrs import define

from twisted_dist.core import stimuli as s
from twisted_dist.core.futures import Futures
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.replicas import FAN, Replicas
from twisted_dist.core.requests import Operation
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import MEMORY, SchedulerTask

#: times that a worker is told to fetch a value until it is left without
TRIES: Final = 3


@define
class _Asked:
    """One broadcast: who is answered, and what went wrong."""

    client: SchedulerClient
    request: int
    tasks: list[SchedulerTask]
    failed: dict[str, None]


class Broadcast:
    """Has copies made where they are wanted once; they are not kept up."""

    def __init__(self, state: SchedulerState, futures: Futures, replicas: Replicas) -> None:
        self._state = state
        self._futures = futures
        self._replicas = replicas
        #: {value: {worker that is to have it: how often it was told}}
        self._targets: dict[SchedulerTask, dict[SchedulerWorker, int]] = {}
        self._asked: list[_Asked] = []

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {"broadcast": self._broadcast}

    def _broadcast(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Copies of *ids* on all workers with an address, host or name in *name*'s lines."""
        names = frozenset(fact.name.split("\n"))
        workers = [each for each in self._state.workers.values() if each.answers_to(names)]
        tasks = self._futures.own(client, fact.ids)
        for task in tasks:
            self._targets.setdefault(task, {}).update(dict.fromkeys(workers, 0))
        self._asked.append(_Asked(client, fact.request, tasks, {}))

    def client_lost(self, client: SchedulerClient) -> None:
        """Nobody waits for the answer any more."""
        self._asked = [each for each in self._asked if each.client is not client]

    def maintain(self) -> None:
        """Have the next copies made, and answer where there are none to make."""
        if not self._asked and not self._targets:
            return
        for task in list(self._targets):
            self._go_on(task)
        still = []
        for asked in self._asked:
            if any(task in self._targets for task in asked.tasks):
                still.append(asked)
                continue
            error = f"not everywhere: {', '.join(asked.failed)}" if asked.failed else ""
            self._state.outbox.reply(asked.client, asked.request, None, error)
        self._asked = still

    def _go_on(self, task: SchedulerTask) -> None:
        targets, holders = self._targets[task], task.who_has or ()
        coming = self._state.copying.get(task, {})
        room = FAN * len(holders) - len(coming)
        if task.state is not MEMORY or not holders:
            targets.clear()  # it is lost, or nobody wants it: futures of it say so
        for worker, tries in list(targets.items()):
            gone = self._state.workers.get(worker.id) is not worker or worker.retiring is not None
            if worker in holders or gone:
                del targets[worker]
            elif worker in coming or not room:
                continue
            elif tries == TRIES:
                del targets[worker]
                self._note_failed(task, worker)
            else:
                targets[worker] = tries + 1
                room -= 1
                self._replicas.copy(task, worker)
        if not targets:
            del self._targets[task]

    def _note_failed(self, task: SchedulerTask, worker: SchedulerWorker) -> None:
        for asked in self._asked:
            if task in asked.tasks:
                asked.failed[f"{worker.label} could not fetch {task.name}"] = None
