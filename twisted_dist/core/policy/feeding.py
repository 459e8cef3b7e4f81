"""How far ahead of its threads a worker is fed.

Theory: a worker must not run dry while an answer travels to the scheduler and new work
back (about a millisecond, docs/benchmarks.md), and must not hoard work that another could
have begun. So it is fed by *time*: `AHEAD_S` seconds for each thread, measured per
function. Microsecond tasks go out in thousands, long tasks one for each thread.
"""

from __future__ import annotations

from typing import Final

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.task import SchedulerFunction

#: seconds of work kept at each thread; tens of round trips, and a stall nobody notices
AHEAD_S: Final = 0.05
#: what a function is taken to need before one was measured: two or three go to a thread
UNKNOWN_S: Final = 0.02
#: the least any task counts as: its way through the worker costs that much
LEAST_S: Final = 0.00001
#: tasks at one worker, however short; a frame of so many stays well under its bound
MOST_AHEAD: Final = 8192


def expected_s(function: SchedulerFunction | None) -> float:
    """Seconds that a task of *function* should take."""
    if function is None or function.duration is None:
        return UNKNOWN_S
    return max(function.duration, LEAST_S)


def has_room(worker: SchedulerWorker) -> bool:
    """Whether *worker* should be given more."""
    count = len(worker.processing)
    return count < worker.nthreads or (
        worker.occupancy < AHEAD_S * worker.nthreads and count < MOST_AHEAD
    )


def room(worker: SchedulerWorker, seconds: float) -> int:
    """How many more tasks of *seconds* each the worker should be given; 0 or more."""
    count = len(worker.processing)
    ahead = int((AHEAD_S * worker.nthreads - worker.occupancy) / seconds) + 1
    return max(0, worker.nthreads - count, min(ahead, MOST_AHEAD - count))
