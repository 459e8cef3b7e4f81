"""How far ahead of its threads a worker is fed.

Theory: a worker must not run dry while an answer travels to the scheduler and new work
back (about a millisecond, docs/benchmarks.md), and must not hoard work that another could
have begun, or results that nobody uses yet. So it is fed by *time*: `AHEAD_S` seconds for
each thread, measured per function, where a result of `AHEAD_BYTES`, or arguments of
`AHEAD_CALL_BYTES`, count as all of them.
Microsecond tasks go out in thousands, long tasks and large results one for each thread.
"""

from __future__ import annotations

from typing import Final

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.task import LOST_BUDGET, SchedulerTask, TaskGroup

#: seconds of work kept at each thread; tens of round trips, and a stall nobody notices
AHEAD_S: Final = 0.05
#: what a function is taken to need before one was measured: two or three go to a thread
UNKNOWN_S: Final = 0.02
#: the least any task counts as: its way through the worker costs that much
LEAST_S: Final = 0.00001
#: a task that lost so many workers is no longer given ahead
SUSPECT_AFTER: Final = 2
#: bytes of results that may be made ahead at each thread
AHEAD_BYTES: Final = 64 * 2**20
#: bytes of arguments that go ahead to each thread: they wait in buffers until the worker takes
#: them, and one that is stopped is given up when too much does (`wire.session.MOST_KEPT`)
AHEAD_CALL_BYTES: Final = 4 * 2**20
#: tasks at one worker, however short; a frame of so many stays well under its bound
MOST_AHEAD: Final = 8192


def expected_s(group: TaskGroup) -> float:
    """Seconds that a task of *group* counts as."""
    function = group.function
    if function is None or function.duration is None:
        return UNKNOWN_S
    seconds = max(function.duration, LEAST_S, function.nbytes * (AHEAD_S / AHEAD_BYTES))
    if group.call_bytes:
        seconds = max(seconds, group.call_bytes * (AHEAD_S / AHEAD_CALL_BYTES))
    return seconds


def has_room(worker: SchedulerWorker) -> bool:
    """Whether *worker* should be given more."""
    if worker.retiring is not None or worker.is_cut:
        return False
    nthreads = worker.nthreads
    busy = worker.busy
    return busy < nthreads or (worker.occupancy < AHEAD_S * nthreads and busy < MOST_AHEAD)


def room(worker: SchedulerWorker, seconds: float) -> int:
    """How many more tasks of *seconds* each the worker should be given; 0 or more."""
    count = worker.busy
    ahead = int((AHEAD_S * worker.nthreads - worker.occupancy) / seconds) + 1
    return max(0, worker.nthreads - count, min(ahead, MOST_AHEAD - count))


def needs_thread(task: SchedulerTask) -> bool:
    """Whether a task must not be given to a worker ahead of a free thread.

    That is so while its time runs from when it is given, and when workers died twice under
    it: running by itself shows whether it is to blame, and spares those beside it.
    """
    failures = task.failures
    return bool(task.group.options.timeout_s) or (
        failures is not None and failures[LOST_BUDGET] >= SUSPECT_AFTER
    )
