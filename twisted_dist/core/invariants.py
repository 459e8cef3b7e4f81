"""What must hold in the scheduler's state between any two stimuli; tests run it after each.

Slow on purpose: everything is recounted from scratch, and compared with the counters and
the inverse tables that the transitions keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose

from twisted_dist.core.policy.feeding import has_room
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    ERRED,
    MEMORY,
    NO_WORKER,
    PROCESSING,
    QUEUED,
    RELEASED,
    WAITING,
    SchedulerTask,
)
from twisted_dist.core.transitions import ACTIVE


def check(state: SchedulerState) -> None:
    """Recount everything.

    Raises:
        AssertionError: with a line for each violated rule.
    """
    wrong = [*_tasks(state), *_workers(state), *_clients(state), *_progress(state)]
    if state.outbox.take():
        wrong.append("instructions were left in the outbox")
    assert not wrong, "\n".join(wrong)


def _tasks(state: SchedulerState) -> Iterator[str]:
    queued = {task for task in state.ready if task.state is QUEUED}
    for worker in state.workers.values():
        queued.update(task for task in worker.backlog if task.state is QUEUED)
    for task_id, task in state.tasks.items():
        if task.id != task_id:
            yield f"{task.name} is filed under {task_id:x}"
        for told in _one_task(state, task, queued):
            yield f"{task.name} ({task.state}): {told}"


def _one_task(
    state: SchedulerState, task: SchedulerTask, queued: set[SchedulerTask]
) -> Iterator[str]:
    places = {
        PROCESSING: task.processing_on is not None,
        MEMORY: bool(task.who_has),
        ERRED: task.erred_by is not None,
        NO_WORKER: task in state.unrunnable,
        QUEUED: task in queued,
    }
    if task.state not in (*places, WAITING, RELEASED):
        yield "is on the books in no legal state"
    for name, there in places.items():
        if there is not (task.state is name):
            yield f"{'has' if there else 'lacks'} what {name} means"
    missing = sum(dep.state is not MEMORY for dep in task.deps)
    if task.state is WAITING and (task.waiting_on != missing or not missing):
        yield f"waits for {task.waiting_on}, and {missing} are missing"
    if task.state in (QUEUED, NO_WORKER) and missing:
        yield f"is said to be runnable, and {missing} inputs are missing"
    if task.state in ACTIVE and any(dep.state is ERRED for dep in task.deps):
        yield "needs a task that failed"
    dependents = task.dependents or {}
    waiters = sum(each.state in ACTIVE for each in dependents)
    if task.waiters != waiters:
        yield f"counts {task.waiters} waiters, and there are {waiters}"
    if any(task not in each.deps for each in dependents):
        yield "has a dependent that does not know it"
    if any(task not in (dep.dependents or {}) for dep in task.deps):
        yield "has a dependency that does not know it"
    if any(state.tasks.get(dep.id) is not dep for dep in task.deps):
        yield "has a dependency that is forgotten"
    needed = bool(task.wanted_by) or bool(waiters)
    if task.state in (*ACTIVE, MEMORY) and not needed:
        yield "is kept for nobody"
    if not needed and not dependents:
        yield "should be forgotten"
    unfetched = any(not client.wants_what.get(task) for client in task.wanted_by or ())
    if task.state is RELEASED and (waiters or unfetched):
        yield "is owed to somebody, and nobody computes it"


def _workers(state: SchedulerState) -> Iterator[str]:
    for worker in state.workers.values():
        if state.by_address.get(worker.address) is not worker:
            yield f"{worker.name} is not found by its address"
        for task in worker.processing:
            if task.processing_on is not worker or task.state is not PROCESSING:
                yield f"{worker.name} is said to run {task.name} ({task.state})"
        for task in worker.has_what:
            if worker not in (task.who_has or ()):
                yield f"{worker.name} is said to hold {task.name} ({task.state})"
        if not isclose(worker.occupancy, sum(worker.processing.values()), abs_tol=1e-6):
            yield f"{worker.name}: occupancy {worker.occupancy}"
        if (worker in state.roomy) is not has_room(worker):
            yield f"{worker.name}: roomy is wrong"
        if (worker in state.idle) is not (len(worker.processing) < worker.nthreads):
            yield f"{worker.name}: idle is wrong"
        if worker.backlog and worker not in state.backlogged:
            yield f"{worker.name}: its backlog is not listed"
    for task in state.tasks.values():
        for worker in (*(task.who_has or ()), *filter(None, (task.processing_on,))):
            if state.workers.get(worker.id) is not worker:
                yield f"{task.name} is at {worker.name}, which is gone"
            elif task not in worker.processing and task not in worker.has_what:
                yield f"{worker.name} does not know that it has {task.name}"


def _clients(state: SchedulerState) -> Iterator[str]:
    for client in state.clients.values():
        if client.inlined != sum(client.wants_what.values()):
            yield f"client {client.id}: {client.inlined} bytes inlined is wrong"
        for task in client.wants_what:
            if client not in (task.wanted_by or ()) or state.tasks.get(task.id) is not task:
                yield f"client {client.id} wants {task.name}, which does not know"
        named = {own: task for task, names in client.names.items() for own in names}
        if any(named.get(own) is not task for own, task in client.aliases.items()):
            yield f"client {client.id}: names and aliases differ"
    for task in state.tasks.values():
        for client in task.wanted_by or ():
            if state.clients.get(client.id) is not client or task not in client.wants_what:
                yield f"{task.name} is wanted by a client that does not"


def _progress(state: SchedulerState) -> Iterator[str]:
    """Nothing that could run waits while somebody who may run it is idle."""
    runnable = next((task for task in state.ready if task.state is QUEUED), None)
    if runnable is not None and state.roomy:
        yield f"{runnable.name} could run and {next(iter(state.roomy)).name} has room"
    for worker in state.backlogged:
        if worker in state.idle and any(task.state is QUEUED for task in worker.backlog):
            yield f"{worker.name} is idle beside its own backlog"
    for task in state.unrunnable:
        if any(worker.answers_to(task.group.workers) for worker in state.workers.values()):
            yield f"{task.name} waits for a worker that is there"
