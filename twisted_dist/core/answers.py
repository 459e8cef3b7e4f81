"""What workers say about tasks: results, failures, and attempts that came to nothing."""

from __future__ import annotations

from typing import Final

from twisted_dist.aliases import TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    KILLED,
    MEMORY,
    RAISED,
    RELEASED,
    WAITING,
    SchedulerFunction,
    SchedulerTask,
    TaskGroup,
)
from twisted_dist.core.transitions import (
    activate,
    fail,
    lose_result,
    make_ready,
    remember,
    unassign,
)

#: how often a task may kill its process, or lose its worker, before it is given up:
#: dask.distributed's `allowed-failures` and Ray's `max_retries` are 3 as well
ALLOWED_FAILURES: Final = 3
#: positions in `SchedulerTask.failures`
RAISED_BUDGET, LOST_BUDGET, KILLED_BUDGET = range(3)


class Answers:
    """Handles the stimuli that come from workers and are about tasks."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def _current(
        self, worker: SchedulerWorker, task_id: TaskId, attempt: int
    ) -> SchedulerTask | None:
        """The task, if this worker's answer about this attempt still counts."""
        task = self._state.tasks.get(task_id)
        if task is None or task.processing_on is not worker or task.attempt != attempt:
            return None
        return task

    def tasks_finished(self, fact: s.TasksFinished, now: float) -> None:
        """Results are in a worker's memory; surplus ones are released there."""
        state = self._state
        worker = state.workers.get(fact.worker)
        if worker is None:
            return
        worker.last_seen = now
        measured: dict[SchedulerFunction, tuple[int, int]] = {}
        for task_id, attempt, nbytes, duration, value in zip(
            fact.ids, fact.attempts, fact.nbytes, fact.durations_us, fact.values
        ):
            task = self._current(worker, task_id, attempt)
            if task is None:
                self._surplus(worker, task_id)
                continue
            function = task.group.function
            assert function is not None
            n, total = measured.get(function, (0, 0))
            measured[function] = (n + 1, total + duration)
            unassign(state, task)
            task.nbytes = nbytes
            remember(state, task, worker, value)
        for function, (n, total) in measured.items():
            function.learn(total / n / 1e6)
        state.note_room(worker)

    def _surplus(self, worker: SchedulerWorker, task_id: TaskId) -> None:
        """A result nobody expects from this worker: it must not keep it."""
        task = self._state.tasks.get(task_id)
        if task is None or task.who_has is None or worker not in task.who_has:
            self._state.outbox.release(
                worker, task or SchedulerTask(task_id, TaskGroup(None, task_id, 0), b"")
            )

    def tasks_erred(self, fact: s.TasksErred, now: float) -> None:
        """Tasks raised: their retries are counted, then they fail."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id, attempt, blob, text in zip(fact.ids, fact.attempts, fact.blobs, fact.texts):
            task = self._current(worker, task_id, attempt)
            if task is not None:
                unassign(self._state, task)
                task.state = WAITING
                self.try_again(task, RAISED_BUDGET, task.group.retries, (RAISED, blob, text))
        self._state.note_room(worker)

    def tasks_killed(self, fact: s.TasksKilled, now: float) -> None:
        """The process that ran tasks died: ALLOWED_FAILURES are counted, then they fail."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id, attempt, text in zip(fact.ids, fact.attempts, fact.texts):
            task = self._current(worker, task_id, attempt)
            if task is not None:
                unassign(self._state, task)
                task.state = WAITING
                told = f"{task.name}: {text} (attempt {task.attempt})"
                self.try_again(task, KILLED_BUDGET, ALLOWED_FAILURES - 1, (KILLED, b"", told))
        self._state.note_room(worker)

    def tasks_returned(self, fact: s.TasksReturned, now: float) -> None:
        """Tasks came back unrun, as their worker leaves or was asked to drop them."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id, attempt in zip(fact.ids, fact.attempts):
            task = self._current(worker, task_id, attempt)
            if task is not None:
                unassign(self._state, task)
                self._requeue(task)
        self._state.note_room(worker)

    def inputs_missing(self, fact: s.InputsMissing, now: float) -> None:
        """Believe the worker: who did not give an input does not hold it."""
        state = self._state
        worker = state.workers.get(fact.worker)
        if worker is None:
            return
        tasks = [
            task
            for task in map(self._current, [worker] * len(fact.ids), fact.ids, fact.attempts)
            if task is not None
        ]
        for task in tasks:
            unassign(state, task)
            task.state = WAITING
        for dep_id, address in zip(fact.missing, fact.addresses):
            dep = state.tasks.get(dep_id)
            holder = state.by_address.get(address)
            if dep is not None and holder is not None:
                state.outbox.release(holder, dep)
                lose_result(state, dep, holder)
        for task in tasks:
            if task.state is WAITING:
                self._requeue(task)
        state.note_room(worker)

    def replicas_added(self, fact: s.ReplicasAdded, now: float) -> None:
        """A worker copied results from others, and gives them from now on too."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id in fact.ids:
            task = self._state.tasks.get(task_id)
            if task is not None and task.who_has is not None:
                task.who_has[worker] = None
                worker.has_what[task] = None
            else:
                self._surplus(worker, task_id)

    def try_again(
        self, task: SchedulerTask, budget: int, allowed: int, erred_by: tuple[str, bytes, str]
    ) -> None:
        """Queue a task whose attempt failed, or fail it when *budget* is spent."""
        if task.failures is None:
            task.failures = [0, 0, 0]
        task.failures[budget] += 1
        if task.failures[budget] > allowed:
            fail(self._state, task, erred_by)
        else:
            self._requeue(task)

    def _requeue(self, task: SchedulerTask) -> None:
        """An attempt came to nothing: WAITING for lost inputs, or QUEUED again."""
        task.state = WAITING
        task.waiting_on = sum(dep.state is not MEMORY for dep in task.deps)
        for dep in task.deps:
            if dep.state is RELEASED:
                activate(self._state, dep)
        if task.state is WAITING and not task.waiting_on:
            make_ready(self._state, task)
