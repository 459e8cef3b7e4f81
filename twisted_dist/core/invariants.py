"""What must hold in the scheduler's state between any two stimuli; tests run it after each.

Slow on purpose: everything is recounted from scratch, and compared with the counters and
the inverse tables that the transitions keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose

from twisted_dist.core.holders import wanted_tasks
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy.feeding import has_room, needs_thread
from twisted_dist.core.policy.stealing import surplus
from twisted_dist.core.replicas import FAN
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
    wrong = [*_tasks(state), *_workers(state), *_clients(state), *_demands(state)]
    wrong += [*_progress(state), *_retiring(state)]
    if state.outbox.take(state.now):
        wrong.append("instructions were left in the outbox")
    assert not wrong, "\n".join(wrong)


def _tasks(state: SchedulerState) -> Iterator[str]:
    queued = {task for task in state.ready if task.state is QUEUED}
    for worker in state.workers.values():
        queued.update(task for task in worker.backlog if task.state is QUEUED)
    for demand in state.demands.values():
        queued.update(task for task in demand.ready if task.state is QUEUED)
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
    dependents = task.dependents or ()
    waiters = sum(each.state in ACTIVE for each in dependents)
    if task.waiters != waiters:
        yield f"counts {task.waiters} waiters, and there are {waiters}"
    if any(task not in each.deps for each in dependents):
        yield "has a dependent that does not know it"
    if any(task not in (dep.dependents or ()) for dep in task.deps):
        yield "has a dependency that does not know it"
    if any(state.tasks.get(dep.id) is not dep for dep in task.deps):
        yield "has a dependency that is forgotten"
    needed = bool(task.wanted_by) or bool(waiters)
    if task.state in (*ACTIVE, MEMORY) and not needed:
        yield "is kept for nobody"
    if not needed and not dependents:
        yield "should be forgotten"
    unfetched = not all((task.wanted_by or {}).values())
    is_awaited = state.recovering and task.group.function is None  # its holder may come
    if task.state is RELEASED and (waiters or unfetched) and not is_awaited:
        yield "is owed to somebody, and nobody computes it"


def _workers(state: SchedulerState) -> Iterator[str]:
    for worker in state.workers.values():
        for told in _one_worker(state, worker):
            yield f"{worker.name}: {told}"
    for task in state.tasks.values():
        for worker in (*(task.who_has or ()), *filter(None, (task.processing_on,))):
            if state.workers.get(worker.id) is not worker:
                yield f"{task.name} is at {worker.name}, which is gone"
            elif task not in worker.processing and task not in worker.has_what:
                yield f"{worker.name} does not know that it has {task.name}"


def _one_worker(state: SchedulerState, worker: SchedulerWorker) -> Iterator[str]:
    if state.by_address.get(worker.address) is not worker:
        yield "is not found by its address"
    if worker.lease_alarm is None or worker.lease_alarm.function is None:
        yield "nobody will see that it is silent"
    for task in worker.processing:
        if task.processing_on is not worker or task.state is not PROCESSING:
            yield f"is said to run {task.name} ({task.state})"
    for task in (*worker.seceded, *worker.recalled, *worker.overdue):
        if task not in worker.processing:
            yield f"{task.name} has left, and is not forgotten"
    if (worker.seceded or worker.recalled or worker.overdue or worker.dropped) and (
        not worker.is_odd
    ):
        yield "is said to have nothing odd"
    for task in worker.has_what:
        if worker not in (task.who_has or ()):
            yield f"is said to hold {task.name} ({task.state})"
    if worker.nbytes != sum(task.nbytes for task in worker.has_what):
        yield f"does not hold {worker.nbytes} bytes"
    active = [task for task in worker.processing if task not in worker.seceded]
    if worker.busy != len(active) + sum(not each.waits for each in worker.dropped.values()):
        yield f"{worker.busy} tasks are said to use threads"
    seconds = sum(worker.processing[task] for task in active)
    if not isclose(worker.occupancy, seconds, abs_tol=1e-6):
        yield f"occupancy {worker.occupancy} is not {seconds}"
    if (worker in state.roomy) is not has_room(worker):
        yield "roomy is wrong"
    has_thread = worker.busy < worker.nthreads and worker.retiring is None and not worker.is_cut
    if (worker in state.idle) is not has_thread:
        yield "idle is wrong"
    if worker.backlog.peek() is not None and worker not in state.backlogged:
        yield "its backlog is not listed"
    taken = [t.group.options.resources for t in worker.processing if t.group.demand is not None]
    taken += [each.resources for each in worker.dropped.values()]
    free = dict(worker.resources)
    for name, amount in (pair for each in taken for pair in each):
        free[name] -= amount
    if worker.free != free or any(amount < 0 for amount in free.values()):
        yield f"has {worker.free} free, and should have {free}"


def _clients(state: SchedulerState) -> Iterator[str]:
    for client in state.clients.values():
        wants = [task for task in state.tasks.values() if client in (task.wanted_by or ())]
        pushed = [task for task in wants if task.wanted_by and task.wanted_by[client]]
        if client.inlined != sum(task.nbytes for task in pushed):
            yield f"client {client.id}: {client.inlined} bytes inlined is wrong"
        if {task.id for task in wanted_tasks(client, state.tasks)} != {task.id for task in wants}:
            yield f"client {client.id}: what it wants is wrong"
        named = {own: task for task, names in client.names.items() for own in names}
        if any(named.get(own) is not task for own, task in client.aliases.items()):
            yield f"client {client.id}: names and aliases differ"
    for task in state.tasks.values():
        for client in task.wanted_by or ():
            is_known = task in client.borrowed if client.id == 0 else client.id in state.clients
            if not is_known or state.clients.get(client.id, client) is not client:
                yield f"{task.name} is wanted by a client that does not"


def _demands(state: SchedulerState) -> Iterator[str]:
    for key, demand in state.demands.items():
        tasks = [task for task in state.tasks.values() if task.group.demand is demand]
        if demand.tasks != len(tasks) or not tasks:
            yield f"{demand}: {demand.tasks} tasks are said to ask it, and {len(tasks)} do"
        able = dict(demand.able)
        demand.choose(state.workers.values())
        if demand.able != able or demand.key != key:
            yield f"{demand}: who may run its tasks is wrong"
        for worker in state.workers.values():
            listed = demand in worker.demands or demand in state.wide
            if worker in able and not listed:
                yield f"{worker.name} does not look at what asks for {demand}"
    for task in state.tasks.values():
        asked = task.group.demand
        if asked is None:
            continue
        if state.demands.get(asked.key) is not asked:
            yield f"{task.name}: what it asks is not on the books"
        where = task.processing_on
        strict = bool(asked.names) and not asked.loose
        if where is not None and strict and not where.answers_to(asked.names):
            yield f"{task.name} is where it may not run, on {where.name}"


def _progress(state: SchedulerState) -> Iterator[str]:
    """Nothing that could run waits while somebody who may run it is idle.

    What waits for its data at a busy worker is looked at now and then, by `core.balance`.
    """
    if state.recovering:
        return
    if state.touched or state.fresh:
        yield "somebody has room, or tasks, that were not looked at"
    runnable = state.ready.peek() is not None
    if runnable and (state.idle or (state.roomy and not needs_thread(state.ready.first()))):
        yield f"{state.ready.first().name} could run, and somebody has room"
    for worker in state.backlogged:
        if worker in state.idle and worker.backlog.peek() is not None:
            yield f"{worker.name} is idle beside its own backlog"
        if state.idle and worker.backlog.peek() is not None and state.balance_at is None:
            yield f"nobody will look at the backlog of {worker.name}"
    for worker in state.workers.values():
        behind = worker.busy > worker.nthreads + len(worker.recalled) and worker.processing
        if behind and state.idle and state.balance_at is None and surplus(worker):
            yield f"nobody will look at what waits on {worker.name}"
    for demand in state.demands.values():
        if demand.ready.peek() is None:
            continue
        for worker in demand.able:
            if worker in state.idle and demand.room_at(worker) != 0:
                yield f"{demand.ready.first().name} could run on {worker.name}"
    for task in state.unrunnable:
        if task.group.demand is None or task.group.demand.able:
            yield f"{task.name} waits for a worker that is there"


def _retiring(state: SchedulerState) -> Iterator[str]:
    """Who retires gets nothing more, and what is only there is on its way to others."""
    leaving = {worker for worker in state.workers.values() if worker.retiring is not None}
    if leaving != state.retiring.keys():
        yield "who retires is wrong"
    staying = len(state.workers) - len(leaving)
    for worker in leaving:
        retirement = worker.retiring
        assert retirement is not None
        if worker.backlog.peek() is not None:
            yield f"{worker.name} retires, and tasks wait for it"
        for task in worker.processing:
            if retirement.attempts.get(task) != task.attempt:
                yield f"{worker.name} retires, and was given {task.name}"
        for task, where in state.copying.items():
            if worker in where and task not in retirement.coming:
                yield f"{worker.name} retires, and is to fetch {task.name}"
        for task in worker.has_what:
            copies = sum(each.retiring is None for each in task.who_has or ())
            wanted = min(state.replicated.get(task, 1), staying)
            if copies >= max(wanted, 1):
                continue
            if task not in retirement.owed:
                yield f"{worker.name} retires, and may leave with {task.name}"
            under_way = sum(each.retiring is None for each in state.copying.get(task, ()))
            due = min(wanted - copies, FAN * len(task.who_has or ()))  # more come after those
            if under_way < due and task not in state.failed_copies:
                yield f"{worker.name} retires, and nobody fetches {task.name} from there"
