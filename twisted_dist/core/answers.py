"""What workers say about tasks that gave no result: failures, attempts that came to nothing."""

from __future__ import annotations

from functools import partial
from typing import Final

from twisted_dist.aliases import HERE, TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.processing import answered, note_waits, unassign, withdraw
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    KILLED,
    KILLED_BUDGET,
    LOST_BUDGET,
    MEMORY,
    QUEUED,
    RAISED,
    RAISED_BUDGET,
    RELEASED,
    TIMED_OUT,
    WAITING,
    WORKER_LOST,
    SchedulerTask,
)
from twisted_dist.core.transitions import (
    activate,
    enqueue_at,
    fail,
    lose_result,
    make_ready,
)

#: how often a task may kill its process, or lose its worker, before it is given up:
#: dask.distributed's `allowed-failures` and Ray's `max_retries` are 3 as well
ALLOWED_FAILURES: Final = 3
#: seconds that a worker has to stop a task and to say so: politely, then by force
STOP_GRACE_S: Final = 10.0


class Answers:
    """Handles the stimuli that come from workers and are about tasks."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def _current(
        self, worker: SchedulerWorker, task_id: TaskId, attempt: int
    ) -> SchedulerTask | None:
        """The task, if this worker's answer about this attempt still counts."""
        if worker.is_odd:
            answered(worker, task_id, attempt)
        task = self._state.tasks.get(task_id)
        if task is None or task.processing_on is not worker or task.attempt != attempt:
            return None
        return task

    def _end(self, worker: SchedulerWorker) -> None:
        """Some of a worker's tasks have ended."""
        if worker.id in self._state.workers:
            worker.last_answer = self._state.now
            self._state.touch((worker,))

    def tasks_erred(self, fact: s.TasksErred) -> None:
        """Tasks raised: their retries are counted, then they fail."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        self._state.story.note(self._state.now, "raised", fact.ids, worker.label)
        for task_id, attempt, blob, text in zip(fact.ids, fact.attempts, fact.blobs, fact.texts):
            task = self._current(worker, task_id, attempt)
            if task is None:
                continue
            if task in worker.overdue:  # whatever its code made of being stopped
                self._end_overdue(task, worker, text)
                continue
            unassign(task)
            task.state = WAITING
            told = f"{_who(task, worker)}:\n{text}"
            retries = task.group.options.retries
            self.try_again(task, RAISED_BUDGET, retries, (RAISED, blob, told))
        self._end(worker)

    def tasks_killed(self, fact: s.TasksKilled) -> None:
        """The process that ran tasks died: ALLOWED_FAILURES are counted, then they fail."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        self._state.story.note(self._state.now, "killed", fact.ids, worker.label)
        for task_id, attempt, text in zip(fact.ids, fact.attempts, fact.texts):
            task = self._current(worker, task_id, attempt)
            if task is not None:
                self._killed(task, worker, text)
        self._end(worker)

    def tasks_stopped(self, fact: s.TasksStopped) -> None:
        """Code of tasks was ended, as they took too long or were cancelled."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        self._state.story.note(self._state.now, "stopped", fact.ids, worker.label)
        for task_id, attempt, text in zip(fact.ids, fact.attempts, fact.texts):
            task = self._current(worker, task_id, attempt)
            if task is not None:  # where that is not asked, the worker has ended it by itself
                self._killed(task, worker, text)
        self._end(worker)

    def _killed(self, task: SchedulerTask, worker: SchedulerWorker, text: str) -> None:
        if task in worker.overdue:
            self._end_overdue(task, worker, text)
            return
        unassign(task)
        task.state = WAITING
        told = f"{_who(task, worker)}: {text}"
        self.try_again(task, KILLED_BUDGET, ALLOWED_FAILURES - 1, (KILLED, b"", told))

    def tasks_returned(self, fact: s.TasksReturned) -> None:
        """Tasks came back unrun, as they were asked back or their process died."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        self._state.story.note(self._state.now, "came back", fact.ids, worker.label)
        for task_id, attempt in zip(fact.ids, fact.attempts):
            task = self._current(worker, task_id, attempt)
            if task is None:
                continue
            if task in worker.overdue:
                self._end_overdue(task, worker, "it had not begun there")
                continue
            recalled = task in worker.recalled
            unassign(task)
            if recalled:
                self._queue_for_others(task)
            else:
                self.requeue(task)
        self._end(worker)

    def _queue_for_others(self, task: SchedulerTask) -> None:
        """Into the queue, not to the worker whose data it would rather use."""
        demand = task.group.demand
        if any(dep.state is not MEMORY for dep in task.deps) or (demand and not demand.able):
            self.requeue(task)
            return
        task.state = QUEUED
        if demand is None:
            self._state.ready.push(task)
        else:
            demand.ready.push(task)
            self._state.fresh[demand] = None

    def inputs_missing(self, fact: s.InputsMissing) -> None:
        """Believe the worker: who did not give an input does not hold it."""
        state = self._state
        worker = state.workers.get(fact.worker)
        if worker is None:
            return
        state.story.note(state.now, "lacked inputs", fact.ids, worker.label)
        tasks = [
            task
            for task in map(self._current, [worker] * len(fact.ids), fact.ids, fact.attempts)
            if task is not None
        ]
        for task in tasks:
            unassign(task)
            task.state = WAITING
        silent: dict[SchedulerTask, SchedulerWorker] = {}
        for dep_id, address in zip(fact.missing, fact.addresses):
            dep = state.tasks.get(dep_id)
            holder = worker if address == HERE else state.by_address.get(address)
            worker.fetching.pop(dep_id, None)
            if dep is None or holder is None or holder not in (dep.who_has or ()):
                continue  # it is known: it may be just being made there again
            if fact.silent:  # its lease says whether it lives; it may hold this all the same
                silent[dep] = holder
            else:
                state.outbox.release(holder, dep)
                lose_result(state, dep, holder)
        for task in tasks:
            if task.state is WAITING:
                where = [silent[dep] for dep in task.deps if dep in silent]
                self._queue_at(task, where[0] if where else None)
        self._end(worker)

    def _queue_at(self, task: SchedulerTask, holder: SchedulerWorker | None) -> None:
        """As `requeue`, but where an input is that could not be brought elsewhere."""
        demand = task.group.demand
        may = demand is None or (holder in demand.able and not demand.resources)
        stays = holder is not None and holder.retiring is None
        if (
            holder is None
            or not stays
            or not may
            or any(dep.state is not MEMORY for dep in task.deps)
        ):
            self.requeue(task)
        else:
            task.state = QUEUED
            enqueue_at(self._state, holder, task)

    def tasks_seceded(self, fact: s.TasksSeceded) -> None:
        """Running tasks began to wait for others, or go on: their threads are free or not."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id, attempt in zip(fact.ids, fact.attempts):
            task = self._current_one(worker, task_id, attempt)
            if task is None:
                note_waits(self._state, worker, task_id, attempt, fact.waiting)
                continue
            if (task in worker.seceded) is fact.waiting:
                continue
            if fact.waiting:
                worker.seceded[task] = None
                worker.is_odd = True
                worker.busy -= 1
                worker.occupancy -= worker.processing[task]
            else:
                del worker.seceded[task]
                worker.busy += 1
                worker.occupancy += worker.processing[task]
                self._state.unbalanced = True
        self._state.touch((worker,))

    def _current_one(
        self, worker: SchedulerWorker, task_id: TaskId, attempt: int
    ) -> SchedulerTask | None:
        """As `_current`, for what is no answer."""
        task = self._state.tasks.get(task_id)
        is_current = task and task.processing_on is worker and task.attempt == attempt
        return task if is_current else None

    # -- attempts that came to nothing

    def worker_lost(self, task: SchedulerTask, worker: SchedulerWorker, reason: str) -> None:
        """The worker that had a task is gone."""
        if task.state is WAITING:
            told = f"{_who(task, worker)}: the worker was lost: {reason}"
            self.try_again(task, LOST_BUDGET, ALLOWED_FAILURES, (WORKER_LOST, b"", told))

    def watch_limits(self) -> None:
        """Have attempts end that were just begun and may only take so long."""
        limited, self._state.limited = self._state.limited, []
        for task in limited:
            instant = self._state.now + task.group.options.timeout_s
            self._state.alarms.at(instant, partial(self._time_out, task, task.attempt))

    def _time_out(self, task: SchedulerTask, attempt: int) -> None:
        """An attempt takes longer than it may: have it stopped, and learn where it was."""
        worker = task.processing_on
        if worker is None or task.attempt != attempt:
            return
        self._state.story.note(self._state.now, "timed out", [task.id], worker.label)
        worker.overdue[task] = None
        worker.is_odd = True
        self._state.outbox.stop(worker, task)
        instant = self._state.now + STOP_GRACE_S
        self._state.alarms.at(instant, partial(self._give_up_overdue, task, attempt))

    def _give_up_overdue(self, task: SchedulerTask, attempt: int) -> None:
        """Its worker has not stopped it either; what still runs of it is ignored."""
        worker = task.processing_on
        if worker is not None and task.attempt == attempt and task in worker.overdue:
            withdraw(self._state, task)
            self._time_is_up(task, worker, "its worker does not say where it is")

    def _end_overdue(self, task: SchedulerTask, worker: SchedulerWorker, where: str) -> None:
        unassign(task)
        self._time_is_up(task, worker, where)

    def _time_is_up(self, task: SchedulerTask, worker: SchedulerWorker, where: str) -> None:
        task.state = WAITING
        options = task.group.options
        limit = f"not done within timeout={options.timeout_s:g} s"
        told = f"{_who(task, worker)}: {limit}; {where}"
        self.try_again(task, RAISED_BUDGET, options.retries, (TIMED_OUT, b"", told))

    def try_again(
        self, task: SchedulerTask, budget: int, allowed: int, erred_by: tuple[str, bytes, str]
    ) -> None:
        """Queue a task whose attempt failed, or fail it when *budget* is spent."""
        failures = task.failures
        if failures is None:
            failures = task.failures = [0, 0, 0]
        failures[budget] += 1
        if failures[budget] > allowed:
            fail(self._state, task, erred_by)
        else:
            self.requeue(task)

    def requeue(self, task: SchedulerTask) -> None:
        """An attempt came to nothing: WAITING for lost inputs, or QUEUED again."""
        task.state = WAITING
        task.waiting_on = sum(dep.state is not MEMORY for dep in task.deps)
        for dep in task.deps:
            if dep.state is RELEASED:
                activate(self._state, dep)
        if task.state is WAITING and not task.waiting_on:
            make_ready(self._state, task)


def _who(task: SchedulerTask, worker: SchedulerWorker) -> str:
    return f"{task.name}, attempt {task.attempt}, on worker {worker.label}"
