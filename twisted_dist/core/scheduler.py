"""The scheduler's machine: `SchedulerCore.handle(stimulus, now)` → instructions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_dist.aliases import TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.answers import ALLOWED_FAILURES, LOST_BUDGET, Answers
from twisted_dist.core.assignment import assign_queued
from twisted_dist.core.instructions import Instruction
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    DEPENDENCY_LOST,
    ERRED,
    MEMORY,
    QUEUED,
    RELEASED,
    WAITING,
    WORKER_LOST,
    SchedulerFunction,
    SchedulerTask,
    TaskGroup,
)
from twisted_dist.core.transitions import (
    activate,
    cancel,
    fail,
    lose_result,
    make_ready,
    remember,
    unassign,
    unwant,
)

#: seconds without a heartbeat until a worker is given up
LEASE_S: Final = 60.0


class SchedulerCore:
    """Decides everything; does nothing.

    `handle` never raises on any stimulus that `wire` lets through: what refers to unknown
    peers or tasks is stale and is ignored.
    """

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.state = SchedulerState()
        self.lease_s = lease_s
        self._answers = answers = Answers(self.state)
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            s.TasksFinished: answers.tasks_finished,
            s.TasksSubmitted: self._tasks_submitted,
            s.KeysReleased: self._keys_released,
            s.FunctionDefined: self._function_defined,
            s.TasksErred: answers.tasks_erred,
            s.TasksReturned: answers.tasks_returned,
            s.TasksKilled: answers.tasks_killed,
            s.InputsMissing: answers.inputs_missing,
            s.ReplicasAdded: answers.replicas_added,
            s.DataScattered: self._data_scattered,
            s.CancelRequested: self._cancel_requested,
            s.LocationsAsked: self._locations_asked,
            s.Heartbeat: self._heartbeat,
            s.WorkerJoined: self._worker_joined,
            s.WorkerLost: self._worker_lost,
            s.ClientJoined: self._client_joined,
            s.ClientLost: self._client_lost,
        }

    def handle(self, stimulus: s.Stimulus, now: float) -> list[Instruction]:
        """Take a fact in; give back what is to be done about it, in order."""
        self._handlers[type(stimulus)](stimulus, now)
        assign_queued(self.state)
        if self.state.lookups:
            self._answer_lookups()
        return self.state.outbox.take()

    def next_deadline(self) -> float | None:
        """The instant at which `expire` has something to do; None for never."""
        workers = self.state.workers
        if not workers:
            return None
        return min(w.last_seen for w in workers.values()) + self.lease_s

    def expire(self, now: float) -> list[Instruction]:
        """Give up the workers whose lease has run out."""
        for worker in list(self.state.workers.values()):
            if worker.last_seen + self.lease_s <= now:
                reason = f"no heartbeat for {self.lease_s:g} s"
                self.state.outbox.end_worker(worker, reason)
                self._lose_worker(worker, reason)
        assign_queued(self.state)
        return self.state.outbox.take()

    # -- peers

    def _worker_joined(self, fact: s.WorkerJoined, now: float) -> None:
        state = self.state
        old = state.by_address.get(fact.address)
        if old is not None:  # its connection broke, and only it has noticed
            state.outbox.end_worker(old, "it registered anew")
            self._lose_worker(old, "it registered anew")
        worker = SchedulerWorker(fact.worker, fact.address, fact.name, fact.nthreads, now)
        state.workers[worker.id] = worker
        state.by_address[worker.address] = worker
        state.note_room(worker)
        for task in [t for t in state.unrunnable if worker.answers_to(t.group.workers)]:
            del state.unrunnable[task]
            make_ready(state, task)

    def _worker_lost(self, fact: s.WorkerLost, now: float) -> None:
        worker = self.state.workers.get(fact.worker)
        if worker is not None:
            self._lose_worker(worker, fact.reason)

    def _lose_worker(self, worker: SchedulerWorker, reason: str) -> None:
        state = self.state
        del state.workers[worker.id]
        if state.by_address.get(worker.address) is worker:
            del state.by_address[worker.address]
        for table in (state.idle, state.roomy, state.backlogged):
            table.pop(worker, None)
        state.outbox.forget_worker(worker)
        processing = list(worker.processing)
        for task in processing:
            unassign(state, task)
            task.state = WAITING
        for task in list(worker.has_what):
            lose_result(state, task, worker)
        text = f"worker {worker.name} ({worker.address}) was lost: {reason}"
        for task in processing:
            if task.state is WAITING:
                self._answers.try_again(
                    task, LOST_BUDGET, ALLOWED_FAILURES, (WORKER_LOST, b"", text)
                )
        backlog = worker.backlog
        while backlog:
            task = backlog.popleft()
            if task.state is QUEUED:
                make_ready(state, task)
        state.outbox.forget_worker(worker)

    def _heartbeat(self, fact: s.Heartbeat, now: float) -> None:
        worker = self.state.workers.get(fact.worker)
        if worker is not None:
            worker.last_seen = now
            worker.metrics = fact.metrics

    def _client_joined(self, fact: s.ClientJoined, now: float) -> None:
        self.state.clients[fact.client] = SchedulerClient(fact.client, fact.name)

    def _client_lost(self, fact: s.ClientLost, now: float) -> None:
        client = self.state.clients.pop(fact.client, None)
        if client is None:
            return
        for key in [k for k in self.state.lookups if k[0] is client]:
            del self.state.lookups[key]
        for task in list(client.wants_what):
            unwant(self.state, client, task)

    # -- clients

    def _function_defined(self, fact: s.FunctionDefined, now: float) -> None:
        functions = self.state.functions
        if fact.digest not in functions:
            functions[fact.digest] = SchedulerFunction(fact.digest, fact.name, fact.blob)

    def _tasks_submitted(self, fact: s.TasksSubmitted, now: float) -> None:
        state = self.state
        client = state.clients.get(fact.client)
        if client is None:
            return
        ids = range(fact.first, fact.first + len(fact.calls))
        if not (state.tasks.keys().isdisjoint(ids) and client.aliases.keys().isdisjoint(ids)):
            return  # ids that are in use: this client confuses its own
        function = state.functions.get(fact.digest)
        if function is None:
            self._refuse(client, fact, "its function was never sent")
            return
        if fact.key and fact.key in state.keys:
            self._share(client, fact.first, state.keys[fact.key])
            return
        group = TaskGroup(
            function,
            fact.first,
            state.submitted,
            fact.priority,
            fact.retries,
            frozenset(fact.workers),
            fact.loose,
        )
        state.submitted += len(fact.calls)
        if not fact.deps and not fact.workers and not fact.key:
            self._submit_roots(client, group, fact)
            return
        for offset, call in enumerate(fact.calls):
            task = SchedulerTask(fact.first + offset, group, call)
            if fact.key:
                task.key = fact.key
                state.keys[fact.key] = task
            state.tasks[task.id] = task
            task.wanted_by = {client: None}
            client.wants_what[task] = 0
            deps = self._find_deps(client, fact.deps[offset] if fact.deps else ())
            if deps is None:
                text = f"an argument of {task.name} was released before it was submitted"
                fail(state, task, (DEPENDENCY_LOST, b"", text))
                continue
            task.deps = deps
            for dep in deps:
                if dep.dependents is None:
                    dep.dependents = {}
                dep.dependents[task] = None
            activate(state, task)

    def _submit_roots(
        self, client: SchedulerClient, group: TaskGroup, fact: s.TasksSubmitted
    ) -> None:
        """The short way of a `map` without futures in it."""
        tasks = self.state.tasks
        wants = client.wants_what
        lane: deque[SchedulerTask] = deque()
        for task_id, call in enumerate(fact.calls, fact.first):
            tasks[task_id] = task = SchedulerTask(task_id, group, call)
            task.wanted_by = {client: None}
            wants[task] = 0
            task.state = QUEUED
            lane.append(task)
        if lane:
            self.state.ready.push(lane)

    def _find_deps(
        self, client: SchedulerClient, ids: Iterable[TaskId]
    ) -> list[SchedulerTask] | None:
        deps: dict[SchedulerTask, None] = {}
        for each in ids:
            task = client.aliases.get(each) or self.state.tasks.get(each)
            if task is None:
                return None
            deps[task] = None
        return list(deps)

    def _share(self, client: SchedulerClient, own_id: TaskId, task: SchedulerTask) -> None:
        """A second submission of a key: the client gets the first one's result."""
        state = self.state
        if task not in client.wants_what:
            client.wants_what[task] = 0
            if task.wanted_by is None:
                task.wanted_by = {}
            task.wanted_by[client] = None
            client.names[task] = [own_id]
        else:
            client.names.setdefault(task, [task.id]).append(own_id)
        client.aliases[own_id] = task
        if task.state is MEMORY:
            state.outbox.finished(client, own_id, task.nbytes, None)
        elif task.state is ERRED and task.erred_by is not None:
            state.outbox.erred(client, own_id, *task.erred_by)
        elif task.state is RELEASED:
            activate(state, task)

    def _refuse(self, client: SchedulerClient, fact: s.TasksSubmitted, why: str) -> None:
        for task_id in range(fact.first, fact.first + len(fact.calls)):
            self.state.outbox.erred(client, task_id, DEPENDENCY_LOST, b"", why)

    def _data_scattered(self, fact: s.DataScattered, now: float) -> None:
        state = self.state
        client = state.clients.get(fact.client)
        worker = state.by_address.get(fact.address)
        if client is None:
            return
        group = TaskGroup(None, fact.ids[0] if fact.ids else 0, state.submitted)
        state.submitted += len(fact.ids)
        for task_id, nbytes in zip(fact.ids, fact.nbytes):
            task = state.tasks.get(task_id)
            if task is None:
                task = state.tasks[task_id] = SchedulerTask(task_id, group, b"")
                task.wanted_by = {client: None}
                client.wants_what[task] = 0
            if task.group.function is not None:
                continue  # computed, not scattered: this client confuses its own ids
            if task.state is ERRED:  # its first holder left before this copy was told of
                if worker is not None:
                    state.outbox.release(worker, task)
                continue
            task.nbytes = nbytes
            if worker is None:
                pass
            elif task.who_has is not None:  # another copy
                task.who_has[worker] = None
                worker.has_what[task] = None
            else:
                remember(state, task, worker, None)
            if task.state is RELEASED:
                activate(state, task)  # finds that it is lost, and says so

    def _own(self, client: SchedulerClient, ids: Iterable[TaskId]) -> list[SchedulerTask]:
        wants = client.wants_what
        found = []
        for each in ids:
            task = client.aliases.get(each) or self.state.tasks.get(each)
            if task is not None and task in wants:
                found.append(task)
        return found

    def _keys_released(self, fact: s.KeysReleased, now: float) -> None:
        client = self.state.clients.get(fact.client)
        if client is None:
            return
        if not client.names:
            for task in self._own(client, fact.ids):
                unwant(self.state, client, task)
            return
        for own_id in fact.ids:
            for task in self._own(client, (own_id,)):
                names = client.names.get(task)
                if names is not None and own_id in names:
                    names.remove(own_id)
                    client.aliases.pop(own_id, None)
                if not names:
                    unwant(self.state, client, task)

    def _cancel_requested(self, fact: s.CancelRequested, now: float) -> None:
        client = self.state.clients.get(fact.client)
        if client is not None:
            for task in self._own(client, fact.ids):
                cancel(self.state, task)

    def _locations_asked(self, fact: s.LocationsAsked, now: float) -> None:
        client = self.state.clients.get(fact.client)
        if client is None:
            return
        wanted: dict[TaskId, SchedulerTask] = {}
        for own_id in fact.ids:
            for task in self._own(client, (own_id,)):
                wanted[own_id] = task
                if task.state is RELEASED:
                    activate(self.state, task)
        self.state.lookups[client, fact.request] = wanted

    def _answer_lookups(self) -> None:
        for (client, request), wanted in list(self.state.lookups.items()):
            if all(t.state is MEMORY or t.state is ERRED for t in wanted.values()):
                del self.state.lookups[client, request]
                self.state.outbox.locations(client, request, wanted)
