"""Copies of results: a factor that is kept up, and evening out what workers hold."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from heapq import nsmallest
from typing import Final

from twisted_dist.core import stimuli as s
from twisted_dist.core.futures import Futures
from twisted_dist.core.holders import drop_holder
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker, stayers
from twisted_dist.core.policy.placement import LEAST_BYTES
from twisted_dist.core.requests import Operation, RequestError
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import MEMORY, SchedulerTask

#: a worker that holds so much more than the mean, or less, is left as it is by `rebalance`
NEARLY: Final = 0.05
#: copies that are made at a time from each one that is there: so they are made in a tree
FAN: Final = 2
#: seconds until those that could not fetch a copy are told to once more
RETRY_S: Final = 1.0


class Replicas:
    """Has workers fetch copies. What is wanted and under way is in `SchedulerState`."""

    def __init__(self, state: SchedulerState, futures: Futures) -> None:
        self._state = state
        self._futures = futures
        #: copies that replace another: {(task, to): from}
        self._moving: dict[tuple[SchedulerTask, SchedulerWorker], SchedulerWorker] = {}
        #: tasks of which everybody has failed to fetch a copy; they are tried again soon
        self._pausing: dict[SchedulerTask, None] = {}
        #: who is answered when tasks have their copies, or moves are over
        self._waiting: list[tuple[SchedulerClient, int, list[SchedulerTask]]] = []
        self._movers: list[tuple[SchedulerClient, int]] = []

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {"replicate": self._replicate, "rebalance": self._rebalance}

    def _replicate(self, client: SchedulerClient, fact: s.Asked) -> None:
        """*number* copies of each of *ids* from now on, as far as there are workers."""
        if fact.number < 1:
            raise RequestError(f"{fact.number} copies: at least one is held anyway")
        tasks = self._futures.own(client, fact.ids)
        for task in tasks:
            if fact.number > 1:
                self._state.replicated[task] = fact.number
            else:
                self._state.replicated.pop(task, None)
            self._state.to_replicate[task] = None
        self._waiting.append((client, fact.request, tasks))
        if not tasks:
            self._answer()

    def maintain(self) -> None:
        """See to the copies of tasks whose results, holders or factor have changed."""
        state = self._state
        tasks, state.to_replicate = state.to_replicate, {}
        loads: dict[SchedulerWorker, int] = {}
        for task in tasks:
            if task.state is MEMORY and task.who_has:
                self._see_to(task, self._wanted(task), loads)
            else:
                state.failed_copies.pop(task, None)
        gone = [each for each in self._moving if each[0] not in state.copying]
        for each in gone:
            del self._moving[each]
        self._answer()

    def _wanted(self, task: SchedulerTask) -> int:
        """How many workers are to hold it, of those that stay: at most as many as there are."""
        staying = len(self._state.workers) - len(self._state.retiring)
        return min(self._state.replicated.get(task, 1), staying)

    def _see_to(self, task: SchedulerTask, wanted: int, loads: dict[SchedulerWorker, int]) -> None:
        """Have copies made where there are too few; *loads* has the bytes that are on their way."""
        holders = task.who_has or ()
        staying = len(holders)
        if self._state.retiring:
            staying = _staying(holders)
            for each in holders:
                if each.retiring is not None:
                    if staying < max(wanted, 1):
                        each.retiring.owed[task] = None
                    else:
                        each.retiring.owed.pop(task, None)
        coming = self._state.copying.get(task, {})
        under_way = _staying(coming)  # what is on its way to who retires is in nobody's way
        missing = wanted - staying - under_way
        if missing <= 0:
            if not coming:
                self._state.failed_copies.pop(task, None)
            return
        missing = min(missing, FAN * len(holders) - under_way)
        if missing <= 0:
            return  # for now: each that comes brings this up again
        failed = self._state.failed_copies.get(task, {})
        others = (
            each
            for each in self._state.workers.values()
            if each.retiring is None
            and each not in holders
            and each not in coming
            and each not in failed
        )
        found = nsmallest(missing, others, lambda w: (w.nbytes + loads.get(w, 0), w.id))
        for worker in found:
            loads[worker] = loads.get(worker, 0) + task.nbytes + LEAST_BYTES
            self.copy(task, worker)
        if failed and len(found) < missing and task not in self._pausing:
            self._pausing[task] = None
            self._state.alarms.at(self._state.now + RETRY_S, partial(self._resume, task))

    def _resume(self, task: SchedulerTask) -> None:
        """Who could not fetch a copy may try again."""
        del self._pausing[task]
        self._state.failed_copies.pop(task, None)
        self._state.to_replicate[task] = None

    def copy(self, task: SchedulerTask, worker: SchedulerWorker) -> None:
        """Tell a worker to fetch a result from one that holds it: from each in turn."""
        holders = stayers(task.who_has or ())
        coming = self._state.copying.setdefault(task, {})
        source = holders[(task.id + len(coming)) % len(holders)]
        coming[worker] = None
        self._state.outbox.copy(worker, task, source)

    def arrived(self, worker: SchedulerWorker, tasks: Iterable[SchedulerTask]) -> None:
        """A worker has copies now; those that were moved there go where they were."""
        for task in tasks:
            source = self._moving.pop((task, worker), None)
            self._settle(task, worker)
            there = task.who_has or ()
            if worker in there and self._state.failed_copies.pop(task, None) is not None:
                self._state.to_replicate[task] = None  # others may try again: there is one more
            if source is not None and source in there and len(there) > 1:
                drop_holder(task, source)
                self._state.outbox.release(source, task)

    def failed(self, worker: SchedulerWorker, tasks: Iterable[SchedulerTask]) -> None:
        """A worker could not get copies."""
        for task in tasks:
            self._moving.pop((task, worker), None)
            if task in self._state.copying:
                self._state.failed_copies.setdefault(task, {})[worker] = None
            self._settle(task, worker)

    def _settle(self, task: SchedulerTask, worker: SchedulerWorker) -> None:
        coming = self._state.copying.get(task)
        if coming is not None and worker in coming:
            del coming[worker]
            if not coming:
                del self._state.copying[task]
            self._state.to_replicate[task] = None

    def worker_lost(self, worker: SchedulerWorker) -> None:
        """No copy comes there any more."""
        tasks = [task for task, coming in self._state.copying.items() if worker in coming]
        self.failed(worker, tasks)

    def worker_joined(self) -> None:
        """There is one more to hold copies."""
        state = self._state
        state.to_replicate.update(dict.fromkeys(state.replicated))
        for worker in state.retiring:  # which may have waited for it
            state.to_replicate.update(worker.has_what)

    def worker_retires(self, worker: SchedulerWorker, coming: Iterable[SchedulerTask]) -> None:
        """What it holds is to be held by others, and what is *coming* there not only there."""
        for move in [each for each in self._moving if each[1] is worker]:
            del self._moving[move]
        for tasks in (worker.has_what, coming):
            self._state.to_replicate.update(dict.fromkeys(tasks))

    def client_lost(self, client: SchedulerClient) -> None:
        """Nobody waits for the answer any more."""
        self._waiting = [each for each in self._waiting if each[0] is not client]
        self._movers = [each for each in self._movers if each[0] is not client]

    def _answer(self) -> None:
        """Answer those whose copies are there, or cannot be."""
        state = self._state
        still = []
        for client, request, tasks in self._waiting:
            if any(self._is_short(task) for task in tasks):
                still.append((client, request, tasks))
            else:
                state.outbox.reply(client, request, None)
        self._waiting = still
        if not self._moving:
            for client, request in self._movers:
                state.outbox.reply(client, request, None)
            self._movers.clear()

    def _is_short(self, task: SchedulerTask) -> bool:
        return task.state is MEMORY and _staying(task.who_has or ()) < self._wanted(task)

    # -- evening out

    def _rebalance(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Move results (of *ids*, or all) from workers that hold most to those with least."""
        state = self._state
        names = frozenset(fact.name.split("\n")) if fact.name else frozenset()
        workers = [
            w
            for w in state.workers.values()
            if w.retiring is None and (not names or w.answers_to(names))
        ]
        tasks = self._futures.own(client, fact.ids) if fact.ids else list(state.tasks.values())
        single = [t for t in tasks if t.state is MEMORY and t.who_has and len(t.who_has) == 1]
        held = dict.fromkeys(workers, 0)
        theirs: dict[SchedulerWorker, list[SchedulerTask]] = {each: [] for each in workers}
        for worker in workers:
            held[worker] = worker.nbytes
        for task in single:
            (holder,) = task.who_has or ()
            if holder in theirs and task not in self._state.copying:
                theirs[holder].append(task)
        mean = sum(held.values()) / len(workers) if workers else 0
        for source in sorted(workers, key=lambda each: -held[each]):
            for task in sorted(theirs[source], key=lambda each: -each.nbytes):
                target = min(workers, key=lambda each: (held[each], each.id))
                too_much = held[source] - mean
                if too_much <= NEARLY * mean or not task.nbytes:
                    break
                if held[target] + task.nbytes <= held[source] - task.nbytes:
                    held[source] -= task.nbytes
                    held[target] += task.nbytes
                    self._moving[task, target] = source
                    self.copy(task, target)
        self._movers.append((client, fact.request))
        self._answer()


def _staying(workers: Iterable[SchedulerWorker]) -> int:
    return sum(each.retiring is None for each in workers)
