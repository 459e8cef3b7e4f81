"""Where a task runs: by what it may use, by where its data is, by who has room.

A task goes, in this order of preference,

1. among the workers that it may run on (`core.demand`), and that do not retire;
2. to the holder of most of its data, while that has room, or while waiting there is
   expected to be shorter than moving the data elsewhere;
3. to whoever has room first: through the common queue, or its demand's.

Tasks of rule 2 wait in their worker's *backlog*, at the scheduler, so that an idle worker
can be given them instead without asking anybody (`core.balance`).
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy.feeding import expected_s, has_room
from twisted_dist.core.task import SchedulerTask

#: what a byte costs to move between workers: 200 MB/s, half of what a gigabit and half of
#: what loopback gives; only the order of magnitude matters
SECONDS_PER_BYTE: Final = 1 / 200e6
#: one fetch from a peer, however small
FETCH_S: Final = 0.001
#: bytes that any input counts as, beside its own: a fetch of nothing has a cost as well
LEAST_BYTES: Final = 64


def wait_s(worker: SchedulerWorker, task: SchedulerTask) -> float:
    """Seconds until *worker* would begin *task*, after all that waits there already."""
    waiting = len(worker.backlog) * expected_s(task.group)
    return (worker.occupancy + waiting) / worker.nthreads


def move_s(task: SchedulerTask, holder: SchedulerWorker) -> float:
    """Seconds that it takes to bring what *holder* has of a task's inputs elsewhere."""
    moved = sum(dep.nbytes for dep in task.deps if dep.who_has and holder in dep.who_has)
    return moved * SECONDS_PER_BYTE + FETCH_S


def preferred_holder(
    task: SchedulerTask, able: Container[SchedulerWorker] | None
) -> SchedulerWorker | None:
    """The worker in whose backlog a task should wait; None for the queue.

    Args:
        task: one with inputs, all in memory.
        able: workers that may run it; None for all.
    """
    holder = _holder_of_most(task, able)
    if holder is None or has_room(holder):
        return holder
    return holder if move_s(task, holder) > wait_s(holder, task) else None


def _holder_of_most(
    task: SchedulerTask, able: Container[SchedulerWorker] | None
) -> SchedulerWorker | None:
    """The worker that holds most of a task's inputs; of several, the least occupied."""
    held: dict[SchedulerWorker, int] = {}
    for dep in task.deps:
        size = dep.nbytes + LEAST_BYTES
        for worker in dep.who_has or ():
            if worker in held:
                held[worker] += size
            elif worker.retiring is None and (able is None or worker in able):
                held[worker] = size
    best, most, least_s = None, -1, 0.0
    for worker, size in held.items():
        if size < most:
            continue
        load_s = worker.occupancy / worker.nthreads
        if size > most or load_s < least_s:
            best, most, least_s = worker, size, load_s
    return best
