"""Hands queued tasks to workers with room. Runs once at the end of each stimulus.

Afterwards no worker has room beside a task that waits in its backlog, in the queue of a
demand that it meets, or in the common queue; except that a task which needs a thread at
once (`needs_thread`) is not given ahead.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import islice

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy.feeding import expected_s, needs_thread, room
from twisted_dist.core.processing import assign
from twisted_dist.core.ready import ReadyQueue
from twisted_dist.core.state import SchedulerState


def assign_queued(state: SchedulerState) -> None:
    """Give out what can run: first to those that alone may run it, then to everybody."""
    if state.fresh:
        _feed_demands(state)
    if state.touched:
        touched, state.touched = state.touched, {}
        for worker in touched:
            if worker in state.roomy:
                _feed_own(state, worker, state.roomy)
    ready = state.ready
    while state.idle and ready.peek() is not None:
        _deal(state, state.idle, ahead=False)
    while state.roomy and ready.peek() is not None:
        if needs_thread(ready.first()):
            break
        _deal(state, state.roomy, ahead=True)


def _feed_demands(state: SchedulerState) -> None:
    """Give the tasks of demands with news to who may run them, free threads first."""
    fresh, state.fresh = state.fresh, {}
    for demand in fresh:
        for takers in (state.idle, state.roomy):
            if not demand.ready or not takers:
                break
            few, many = sorted((takers, demand.able), key=len)
            for worker in [each for each in few if each in many]:
                if demand.ready.peek() is None:
                    break
                _feed_own(state, worker, takers)


def _feed_own(
    state: SchedulerState, worker: SchedulerWorker, takers: Container[SchedulerWorker]
) -> None:
    """Feed one worker from what not everybody may run, for as long as it is among *takers*."""
    while worker in takers:
        queue = _first_queue(state, worker)
        if queue is None:
            break
        tasks = queue.take(1)
        assign(state, [(worker, tasks)], expected_s(tasks[0].group))
    if worker in state.backlogged and worker.backlog.peek() is None:
        del state.backlogged[worker]


def _first_queue(state: SchedulerState, worker: SchedulerWorker) -> ReadyQueue | None:
    """The queue whose first task *worker* should be given; None if it has none of its own."""
    best = None
    backlog = worker.backlog
    least = backlog.peek()
    if least is not None:
        if _must_wait(worker, backlog):
            least = None
        else:
            best = backlog
    if state.demands and (worker.demands or state.wide):
        for demand in (*worker.demands, *state.wide):
            order = demand.ready.peek()
            if order is None or (least is not None and order > least):
                continue
            if worker not in demand.able or demand.room_at(worker) == 0:
                continue
            if not _must_wait(worker, demand.ready):
                best, least = demand.ready, order
    if least is None:
        return None
    common = state.ready.peek()
    if common is not None and common < least and not _must_wait(worker, state.ready):
        return state.ready
    return best


def _must_wait(worker: SchedulerWorker, queue: ReadyQueue) -> bool:
    return worker.busy >= worker.nthreads and needs_thread(queue.first())


def _deal(state: SchedulerState, takers: dict[SchedulerWorker, None], *, ahead: bool) -> None:
    """Spread the common queue's first entry over *takers*, each an equal share of what is left."""
    ready = state.ready
    group = ready.first().group
    seconds = expected_s(group)
    most = ready.ahead()
    if most == 1:  # somebody may wait for just this one
        assign(state, [(next(reversed(takers)), ready.take(1))], seconds)
        return
    share = -(-most // len(takers))
    # who was last to become free comes first: its caches are warm
    workers = list(islice(reversed(takers), most))
    if ahead:
        quotas = [min(share, room(worker, seconds)) for worker in workers]
    else:
        quotas = [
            free if (free := worker.nthreads - worker.busy) < share else share for worker in workers
        ]
    taken = ready.take(sum(quotas))
    if len(taken) == len(workers):  # long tasks: one for each
        assign(state, zip(workers, [[task] for task in taken]), seconds)
        return
    rest = iter(taken)
    shares = [(worker, list(islice(rest, quota))) for worker, quota in zip(workers, quotas)]
    assign(state, [each for each in shares if each[1]], seconds)
