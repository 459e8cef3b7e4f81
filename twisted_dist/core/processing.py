"""How a task comes to a worker and leaves it: QUEUED → PROCESSING, and out of it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_dist.aliases import TaskId
from twisted_dist.core.peers import Dropped, SchedulerWorker
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import PROCESSING, SchedulerTask


def assign(
    state: SchedulerState,
    shares: Iterable[tuple[SchedulerWorker, list[SchedulerTask]]],
    seconds: float,
) -> None:
    """QUEUED → PROCESSING of tasks of one group, *seconds* each: of one or more for each worker.

    The lists are kept.
    """
    now, base, given = state.now, state.attempt_base, state.outbox.dispatch.given
    for worker, tasks in shares:
        processing = worker.processing
        if not processing:
            worker.last_answer = now
        for task in tasks:
            task.state = PROCESSING
            task.processing_on = worker
            attempt = task.attempt  # below the base, it may have had more in an earlier life
            task.attempt = attempt + 1 if attempt >= base else base + 1
            processing[task] = seconds
        count = len(tasks)
        worker.occupancy += seconds * count
        worker.busy = busy = worker.busy + count
        if busy >= worker.nthreads:
            state.note_room(worker)
            if busy > worker.nthreads:
                state.unbalanced = True
        group = task.group
        if not group.is_plain:
            for task in tasks:
                _take_resources(worker, group.options.resources, 1)
                if group.options.timeout_s:
                    state.limited.append(task)
        if worker in given:
            given[worker] += tasks
        else:
            given[worker] = tasks


def adopt(
    state: SchedulerState,
    worker: SchedulerWorker,
    task: SchedulerTask,
    attempt: int,
    seconds: float,
) -> None:
    """Any state that waits → PROCESSING: a worker has the task already. Else as `assign`."""
    if not worker.processing:
        worker.last_answer = state.now
    task.state = PROCESSING
    task.processing_on = worker
    task.attempt = attempt
    worker.processing[task] = seconds
    worker.occupancy += seconds
    worker.busy += 1
    group = task.group
    if not group.is_plain:
        _take_resources(worker, group.options.resources, 1)
        if group.options.timeout_s:
            state.limited.append(task)
    state.unbalanced = True


def _take_resources(
    worker: SchedulerWorker, resources: tuple[tuple[str, int], ...], sign: int
) -> None:
    for name, amount in resources:
        worker.free[name] -= sign * amount


def unassign(task: SchedulerTask) -> SchedulerWorker:
    """Take a PROCESSING task off its worker's books; the caller sets the new state."""
    worker = task.processing_on
    assert worker is not None
    task.processing_on = None
    processing = worker.processing
    seconds = processing.pop(task)
    if worker.is_odd and task in worker.seceded:
        del worker.seceded[task]
    else:
        worker.occupancy -= seconds
        worker.busy -= 1
    if worker.is_odd:
        worker.recalled.pop(task, None)
        worker.overdue.pop(task, None)
        worker.is_odd = bool(worker.seceded or worker.recalled or worker.overdue or worker.dropped)
    if not processing:
        worker.occupancy = 0.0  # let no rounding error pile up
    if not task.group.is_plain:
        _take_resources(worker, task.group.options.resources, -1)
    return worker


def withdraw(state: SchedulerState, task: SchedulerTask) -> None:
    """Take a PROCESSING task from its worker, which may be running it until it answers."""
    waits = task.processing_on is not None and task in task.processing_on.seceded
    worker = unassign(task)
    answered(worker, task.id, task.attempt)  # of two attempts there, only one answers
    resources = task.group.options.resources
    _take_resources(worker, resources, 1)
    worker.dropped[task.id] = Dropped(task.attempt, resources, waits)
    worker.is_odd = True
    worker.busy += not waits
    state.outbox.drop(worker, task)
    state.unbalanced = True
    state.touch((worker,))


def answered(worker: SchedulerWorker, task_id: TaskId, attempt: int) -> None:
    """Nothing more is heard of a dropped attempt: what it held is free."""
    dropped = worker.dropped.get(task_id)
    if dropped is not None and dropped.attempt <= attempt:
        del worker.dropped[task_id]
        worker.busy -= not dropped.waits
        _take_resources(worker, dropped.resources, -1)


def note_waits(
    state: SchedulerState, worker: SchedulerWorker, task_id: TaskId, attempt: int, waits: bool
) -> None:
    """A dropped attempt waits for other tasks, or no longer: its thread is free, or not."""
    dropped = worker.dropped.get(task_id)
    if dropped is not None and dropped.attempt == attempt and dropped.waits is not waits:
        worker.dropped[task_id] = dropped._replace(waits=waits)
        worker.busy += -1 if waits else 1
        state.unbalanced = True
