"""Whether a task should move from where it waits to a worker with a free thread.

A worker is *behind* when what it has beyond its threads would not be begun soon: by what its
tasks are expected to take, or because it has ended none for longer than that. An idle
worker gets the last of these, half of them at most, and a task with inputs only where
waiting is longer than moving them. So nothing moves to and fro: who was relieved has still
as much as who helped, and what is about to begin stays.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy.placement import move_s
from twisted_dist.core.task import SchedulerTask

#: seconds that a task must have to wait until it is asked back: ten round trips
BEHIND_S: Final = 0.02
#: seconds between looks, and more for each registered worker: a look costs about 0.2 µs for
#: each, so it takes at most two hundredths of the scheduler's time
LOOK_S: Final = 0.01
LOOK_WORKER_S: Final = 1e-5


def interval_s(workers: int) -> float:
    """Seconds from one look to the next."""
    return LOOK_S + LOOK_WORKER_S * workers


def behind_s(worker: SchedulerWorker, now: float) -> float:
    """Seconds that the last of a worker's tasks will wait at least."""
    return max(worker.occupancy / worker.nthreads, now - worker.last_answer)


def surplus(worker: SchedulerWorker) -> list[SchedulerTask]:
    """What a worker was given beyond its threads and not asked back yet, the last first."""
    count = worker.busy - worker.nthreads - len(worker.recalled)
    if count <= 0:
        return []
    last = (t for t in reversed(worker.processing) if t not in worker.recalled)
    return [t for t in islice(last, count) if t not in worker.seceded]


def may_run(helper: SchedulerWorker, task: SchedulerTask) -> bool:
    """Whether *helper* may run it, and has what it needs free."""
    demand = task.group.demand
    return demand is None or (helper in demand.able and demand.room_at(helper) != 0)


def is_worth_moving(task: SchedulerTask, victim: SchedulerWorker, wait_s: float) -> bool:
    """Whether a task is begun sooner elsewhere, its inputs' way there included."""
    return move_s(task, victim) < wait_s
