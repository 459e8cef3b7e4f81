"""How tasks change state, one at a time.

With `core.processing`, and with `core.results` and `core.releasing`, which do the commonest for
many at a time, all that writes to `SchedulerState`'s tasks.

::

    released → waiting → queued → processing → memory → released → forgotten
                  │         ↕ no-worker  │
                  └─────────┴──→ erred ←─┘

Rules:

* A task is *active* in waiting, no-worker, queued and processing. Each active task counts
  once in `waiters` of each of its deps, and a result is held while anybody waits for it
  or a client wants it.
* A result that nobody needs is released; its call stays while a dependent exists, because
  a lost result is computed again from it; the task is forgotten when it has no dependents
  and no client wants it.
* Nothing here recurses: a chain may be a million long.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Final

from twisted_dist.core.holders import (
    drop_dependent,
    drop_holder,
    drop_want,
    note_pushed,
)
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.policy import placement
from twisted_dist.core.processing import withdraw
from twisted_dist.core.ready import Lane
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    CANCELLED,
    DATA_LOST,
    ERRED,
    FORGOTTEN,
    MEMORY,
    NO_WORKER,
    PROCESSING,
    QUEUED,
    RELEASED,
    WAITING,
    SchedulerTask,
)

ACTIVE: Final = frozenset({WAITING, NO_WORKER, QUEUED, PROCESSING})
#: values pushed to a client and not released by it; beyond, it fetches what it asks for
INLINE_BUDGET: Final = 64 * 2**20


def activate(
    state: SchedulerState, task: SchedulerTask, roots: list[SchedulerTask] | None = None
) -> None:
    """RELEASED → WAITING or QUEUED, and the same for whatever it needs.

    Where *roots* is given, it takes what could run, needs nothing and may run anywhere, still
    WAITING; `make_ready_all` is called with it later.
    """
    if roots is not None and not task.deps and task.group.is_plain and task.group.function:
        if task.state is RELEASED:  # the way of a map's tasks
            task.state = WAITING
            roots.append(task)
        return
    stack = [task]
    doomed: list[SchedulerTask] = []
    while stack:
        each = stack.pop()
        if each.state is not RELEASED:
            continue
        if each.group.function is None:
            if not state.recovering:  # else some worker may still come with it
                doomed.append(each)
            continue
        each.state = WAITING
        each.waiting_on = 0
        for dep in each.deps:
            dep.waiters += 1
            if dep.state is MEMORY:
                continue
            each.waiting_on += 1
            if dep.state is RELEASED:
                stack.append(dep)
            elif dep.state is ERRED:
                doomed.append(dep)
        if each.waiting_on:
            continue
        if roots is None or each.deps or each.group.demand is not None:
            make_ready(state, each)
        else:
            roots.append(each)
    for each in doomed:
        if each.state is ERRED:
            assert each.erred_by is not None
            cascade(state, each)
        else:
            text = f"the scattered data {each.name} was lost with the last worker that held it"
            fail(state, each, (DATA_LOST, b"", text))


def make_ready(state: SchedulerState, task: SchedulerTask) -> None:
    """WAITING or NO_WORKER → QUEUED in a queue or a worker's backlog, or NO_WORKER."""
    demand = task.group.demand
    if demand is None:
        task.state = QUEUED
        if task.deps:
            holder = placement.preferred_holder(task, None)
            if holder is not None:
                enqueue_at(state, holder, task)
                return
        state.ready.push(task)
        return
    if not demand.able:
        task.state = NO_WORKER
        state.unrunnable[task] = state.now
        return
    task.state = QUEUED
    if task.deps and not demand.resources:  # resources are anybody's who has them first
        holder = placement.preferred_holder(task, demand.able)
        if holder is not None:
            enqueue_at(state, holder, task)
            return
    demand.ready.push(task)
    state.fresh[demand] = None


def make_ready_all(state: SchedulerState, roots: list[SchedulerTask]) -> None:
    """As `make_ready`, of what `activate` has put by and is still to be run."""
    lane: Lane = deque()
    roots.sort(key=attrgetter("id"))
    for task in roots:
        if task.state is not WAITING:  # what needed it has failed meanwhile; or it came twice
            continue
        if lane and lane[-1].group is not task.group:
            state.ready.push_lane(lane)
            lane = deque()
        task.state = QUEUED
        lane.append(task)
    if lane:
        state.ready.push_lane(lane)


def enqueue_at(state: SchedulerState, worker: SchedulerWorker, task: SchedulerTask) -> None:
    """Let a QUEUED task wait for *worker*."""
    worker.backlog.push(task)
    state.backlogged[worker] = None
    state.unbalanced = True
    if worker in state.roomy:
        state.touched[worker] = None


def remember(state: SchedulerState, task: SchedulerTask, worker: SchedulerWorker) -> None:
    """Any state but PROCESSING → MEMORY: *worker* holds what was scattered, or what it claims.

    What workers were given to run comes to MEMORY in `core.results`.
    """
    task.state = MEMORY
    task.who_has = worker.alone  # it had no holder: this is `add_holder`
    worker.has_what[task] = None
    worker.nbytes += task.nbytes
    if (state.replicated and task in state.replicated) or worker.retiring is not None:
        state.to_replicate[task] = None
    for client in task.wanted_by or ():
        report_memory(state, client, task, None)
    follow(state, task)


def follow(state: SchedulerState, task: SchedulerTask) -> None:
    """A task has come to MEMORY: what needs it may run, what nobody needs any more goes."""
    if task.dependents:
        for dependent in task.dependents:
            if dependent.state is WAITING:
                dependent.waiting_on -= 1
                if not dependent.waiting_on:
                    make_ready(state, dependent)
    if task.deps:
        settle_deps(state, task)
    if state.runaways.borrowed:
        let_run_away(state, task)
    if not task.waiters and not task.wanted_by:
        release_if_unneeded(state, task)


def report_memory(
    state: SchedulerState, client: SchedulerClient, task: SchedulerTask, value: bytes | None
) -> None:
    """Tell a client of a result, with the value while its budget for that lasts."""
    if not client.id:
        return
    if value is not None:
        wanted = task.wanted_by
        if wanted and not wanted[client] and client.inlined + task.nbytes <= INLINE_BUDGET:
            note_pushed(task, client)
        else:
            value = None
    if not client.names:
        state.outbox.finished(client, task.id, task.nbytes, value)
        return
    for own_id in client.names.get(task, (task.id,)):
        state.outbox.finished(client, own_id, task.nbytes, value)


def let_run_away(state: SchedulerState, task: SchedulerTask) -> None:
    """A task that ended is no longer held by `runaways`."""
    if task in state.runaways.borrowed:
        unwant(state, state.runaways, task)


def settle_deps(state: SchedulerState, task: SchedulerTask) -> None:
    """A task is no longer active: what it needed may go."""
    for dep in task.deps:
        dep.waiters -= 1
        if not dep.waiters and not dep.wanted_by:
            release_if_unneeded(state, dep)


def fail(state: SchedulerState, task: SchedulerTask, erred_by: tuple[str, bytes, str]) -> None:
    """Any state but MEMORY → ERRED, with all that needs it; the clients are told."""
    leave_active(state, task)
    _become_erred(state, task, erred_by)
    cascade(state, task)


def _become_erred(
    state: SchedulerState, task: SchedulerTask, erred_by: tuple[str, bytes, str]
) -> None:
    """What is not active any more → ERRED; its clients are told, this once."""
    task.state = ERRED
    task.erred_by = erred_by
    for client in task.wanted_by or ():
        if client.id:
            for own_id in client.names.get(task, (task.id,)):
                state.outbox.erred(client, own_id, *erred_by)


def cascade(state: SchedulerState, cause: SchedulerTask) -> None:
    """Fail every active task that needs one that has failed."""
    assert cause.erred_by is not None
    stack = [cause]
    failed = []
    while stack:
        task = stack.pop()
        failed.append(task)
        for dependent in task.dependents or ():
            if dependent.state in ACTIVE:
                leave_active(state, dependent)
                _become_erred(state, dependent, cause.erred_by)
                stack.append(dependent)
    for task in failed:
        let_run_away(state, task)
        release_if_unneeded(state, task)


def leave_active(state: SchedulerState, task: SchedulerTask) -> None:
    """Undo what being active meant; the caller sets the new state."""
    was = task.state
    if was is PROCESSING:
        withdraw(state, task)
    elif was is NO_WORKER:
        del state.unrunnable[task]
    if was in ACTIVE:
        task.state = RELEASED
        settle_deps(state, task)


def release_if_unneeded(state: SchedulerState, task: SchedulerTask) -> None:
    """Drop the result, the work or the whole record of what nobody needs any more."""
    if task.wanted_by or task.waiters:
        return
    if task.state is MEMORY:
        drop_result(state, task)
    if task.state is RELEASED and task.group.demand is None:  # the way of nearly all
        if task.dependents:
            return
        _forget(state, task)
        if not task.deps:
            return
        stack = _cut_off(task)
    else:
        stack = [task]
    while stack:
        each = stack.pop()
        if each.wanted_by or each.waiters or each.state is FORGOTTEN:
            continue
        if each.state is MEMORY:
            drop_result(state, each)
        elif each.state in ACTIVE:
            was = each.state
            if was is PROCESSING:
                withdraw(state, each)
            elif was is NO_WORKER:
                del state.unrunnable[each]
            each.state = RELEASED
            for dep in each.deps:
                dep.waiters -= 1
                stack.append(dep)
        if not each.dependents:
            _forget(state, each)
            demand = each.group.demand
            if demand is not None:
                demand.tasks -= 1
                if not demand.tasks:
                    state.drop_demand(demand)
            if each.deps:
                stack += _cut_off(each)


def _cut_off(task: SchedulerTask) -> list[SchedulerTask]:
    """A task that is forgotten needs nothing more; what nothing needs but maybe clients."""
    left = []
    for dep in task.deps:
        drop_dependent(dep, task)
        if not dep.dependents:
            left.append(dep)
    task.deps = ()
    return left


def _forget(state: SchedulerState, task: SchedulerTask) -> None:
    """RELEASED → FORGOTTEN; the caller sees to its demand and its deps."""
    task.state = FORGOTTEN
    state.tasks.pop(task.id, None)
    if task.rare is not None and task.key and state.keys.get(task.key) is task:
        del state.keys[task.key]
    if task.deps and state.outbox.dispatch.rows:
        state.outbox.dispatch.rows.pop(task, None)
    if state.replicated:
        state.replicated.pop(task, None)
    if state.copying and state.copying.pop(task, {}):
        state.to_replicate[task] = None  # who waits for its copies waits in vain


def drop_result(state: SchedulerState, task: SchedulerTask) -> None:
    """MEMORY → RELEASED: the holders are told to forget it."""
    release = state.outbox.release
    for worker in task.who_has or ():
        del worker.has_what[task]
        worker.nbytes -= task.nbytes
        release(worker, task)
    task.who_has = None
    task.state = RELEASED
    if state.copying and state.copying.pop(task, {}):
        state.to_replicate[task] = None


def unwant(state: SchedulerState, client: SchedulerClient, task: SchedulerTask) -> None:
    """*client* no longer holds a future of *task*."""
    if drop_want(task, client) and not task.wanted_by and not task.waiters:
        release_if_unneeded(state, task)


def lose_result(state: SchedulerState, task: SchedulerTask, worker: SchedulerWorker) -> None:
    """*worker* no longer holds *task*; computed again if somebody still needs it."""
    holders = task.who_has
    if holders is None or worker not in holders:
        return
    drop_holder(task, worker)
    if task in state.replicated or state.retiring:  # those that are left may be leaving
        state.to_replicate[task] = None
    if task.who_has:
        return
    task.state = RELEASED
    for dependent in task.dependents or ():
        if dependent.state is WAITING:
            dependent.waiting_on += 1
        elif dependent.state in (QUEUED, NO_WORKER):
            if dependent.state is NO_WORKER:
                del state.unrunnable[dependent]
            dependent.state = WAITING
            dependent.waiting_on = 1
    unfetched = not all((task.wanted_by or {}).values())
    if task.waiters or unfetched:
        activate(state, task)
    else:
        release_if_unneeded(state, task)


def cancel(state: SchedulerState, task: SchedulerTask) -> None:
    """End a task that has no result yet, and all that need it, as cancelled."""
    if task.state in ACTIVE or task.state is RELEASED:
        if task.processing_on is not None:  # it is not only given up: its code is to end
            state.outbox.stop(task.processing_on, task)
        fail(state, task, (CANCELLED, b"", f"{task.name} was cancelled"))
