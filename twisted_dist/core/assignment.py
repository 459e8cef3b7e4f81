"""Hands queued tasks to workers with room. Runs once at the end of each stimulus."""

from __future__ import annotations

from collections import deque

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy.feeding import expected_s, has_room, room
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import QUEUED, SchedulerTask
from twisted_dist.core.transitions import assign


def assign_queued(state: SchedulerState) -> None:
    """Give out what can run: backlogs first, then the common queue, then idle helpers."""
    if not state.roomy:
        return
    for worker in [w for w in state.backlogged if w in state.roomy]:
        _feed_backlog(state, worker)
    while state.idle and state.ready.peek() is not None:
        _feed_lane(state, state.idle, free_threads_only=True)
    while state.roomy and state.ready.peek() is not None:
        _feed_lane(state, state.roomy, free_threads_only=False)
    if state.idle and state.backlogged:
        _help_backlogged(state)


def _feed_backlog(state: SchedulerState, worker: SchedulerWorker) -> None:
    backlog = worker.backlog
    while backlog and has_room(worker):
        task = backlog.popleft()
        if task.state is QUEUED:
            assign(state, worker, task, expected_s(task.group.function))
    if not backlog:
        del state.backlogged[worker]
    state.note_room(worker)


def _feed_lane(
    state: SchedulerState, takers: dict[SchedulerWorker, None], *, free_threads_only: bool
) -> None:
    """One round of the first lane over *takers*, each an equal share of what is left."""
    lane = state.ready.first_lane()
    seconds = expected_s(lane[0].group.function)
    # who was last to become free comes first: its caches are warm
    for worker in reversed(list(takers)):
        share = -(-len(lane) // max(1, len(takers)))
        if free_threads_only:
            quota = worker.nthreads - len(worker.processing)
        else:
            quota = room(worker, seconds)
        _give(state, worker, lane, min(share, quota), seconds)
        state.note_room(worker)
        if not lane:
            break
    state.ready.settle()


def _give(
    state: SchedulerState,
    worker: SchedulerWorker,
    lane: deque[SchedulerTask],
    count: int,
    seconds: float,
) -> None:
    while count > 0 and lane:
        task = lane.popleft()
        if task.state is QUEUED:
            assign(state, worker, task, seconds)
            count -= 1


def _help_backlogged(state: SchedulerState) -> None:
    """Let idle workers take from the longest backlog what they may run."""
    for helper in list(state.idle):
        busiest = max(state.backlogged, key=lambda w: len(w.backlog), default=None)
        if busiest is None:
            return
        if busiest is helper or not busiest.processing:
            continue
        for index in range(len(busiest.backlog) - 1, -1, -1):
            task = busiest.backlog[index]
            names = task.group.workers
            if task.state is QUEUED and (not names or helper.answers_to(names)):
                del busiest.backlog[index]
                assign(state, helper, task, expected_s(task.group.function))
                break
        if not busiest.backlog:
            del state.backlogged[busiest]
        state.note_room(helper)
