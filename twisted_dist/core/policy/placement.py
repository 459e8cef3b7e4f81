"""Where a task runs: by what it may use, by where its data is, by who has room.

A task goes, in this order of preference,

1. to a worker its submitter named, the least occupied of them;
2. to the holder of most of its data, while that has room, or while waiting there is
   expected to be shorter than moving the data elsewhere;
3. to whoever has room first (the common queue).

Tasks of rules 1 and 2 wait in their worker's *backlog*, at the scheduler, so that an idle
worker can be given them instead without asking anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy.feeding import has_room
from twisted_dist.core.task import SchedulerTask

#: what a byte costs to move between workers: 200 MB/s, half of what a gigabit and half of
#: what loopback gives; only the order of magnitude matters
SECONDS_PER_BYTE: Final = 1 / 200e6
#: one fetch from a peer, however small
FETCH_S: Final = 0.001


def allowed(task: SchedulerTask, workers: Iterable[SchedulerWorker]) -> list[SchedulerWorker]:
    """The workers that the submitter's ``workers=`` permits; all of them if it is loose."""
    names = task.group.workers
    named = [worker for worker in workers if worker.answers_to(names)]
    return named if named or not task.group.loose else list(workers)


def least_occupied(workers: Iterable[SchedulerWorker]) -> SchedulerWorker:
    """The worker expected to be free first; ties by registration."""
    return min(
        workers,
        key=lambda w: (w.occupancy / w.nthreads, len(w.processing) + len(w.backlog), w.id),
    )


def holder_of_most(task: SchedulerTask) -> tuple[SchedulerWorker | None, int]:
    """The worker that holds most of a task's inputs, and the bytes it lacks."""
    if len(task.deps) == 1:  # the common case, without a table
        holders = task.deps[0].who_has
        if not holders:
            return None, 0
        return min(holders, key=lambda w: w.occupancy / w.nthreads), 0
    held: dict[SchedulerWorker, int] = {}
    total = 0
    for dep in task.deps:
        size = dep.nbytes + 64
        total += size
        for worker in dep.who_has or ():
            held[worker] = held.get(worker, 0) + size
    if not held:
        return None, 0
    best = max(held, key=lambda w: (held[w], -w.occupancy / w.nthreads))
    return best, total - held[best]


def prefers_holder(task: SchedulerTask, holder: SchedulerWorker) -> bool:
    """Whether waiting at *holder* beats moving the data to somebody with room."""
    if has_room(holder):
        return True
    moved = sum(dep.nbytes for dep in task.deps if dep.who_has and holder in dep.who_has)
    wait = holder.occupancy / holder.nthreads
    return moved * SECONDS_PER_BYTE + FETCH_S > wait
