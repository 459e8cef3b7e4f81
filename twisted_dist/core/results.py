"""Results that workers have: what they have computed, a turn's in one pass, and what they copied.

Nothing happens as often as that a task ends, so the common way of `Results.tasks_finished` is
written out: it does what `core.processing.unassign`, `core.holders.add_holder` and
`core.transitions.report_memory` do, without a call for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat

from twisted_dist.aliases import TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.holders import add_holder, note_size
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.processing import answered, unassign
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import MEMORY, SchedulerFunction, SchedulerTask
from twisted_dist.core.transitions import INLINE_BUDGET, follow, report_memory

#: a worker, and what it says of one result: id, attempt, bytes, microseconds, maybe the value
_Row = tuple[SchedulerWorker, TaskId, int, int, int, "bytes | None"]


class Results:
    """Handles the stimuli that come from workers and are about results.

    Args:
        is_claimed: whether a worker's result is one that somebody may still ask for.
    """

    def __init__(
        self, state: SchedulerState, is_claimed: Callable[[SchedulerWorker, TaskId], bool]
    ) -> None:
        self._state = state
        self._is_claimed = is_claimed

    def tasks_finished(self, facts: Sequence[s.TasksFinished]) -> None:
        """Results are in workers' memories; surplus ones are released there."""
        state = self._state
        now, workers, note = state.now, state.workers, state.story.note
        heard: list[SchedulerWorker] = []
        singles: list[_Row] = []
        #: of the story: what came alone, and from where
        alone: list[TaskId] = []
        labels: list[str] = []
        parts: list[Iterable[_Row]] = [singles]
        for fact in facts:
            worker = workers.get(fact.worker)
            if worker is None:
                continue
            heard.append(worker)
            worker.last_answer = worker.last_seen = now
            ids, attempts, nbytes = fact.ids, fact.attempts, fact.nbytes
            durations_us, values = fact.durations_us, fact.values
            if len(ids) == 1:  # long tasks: `zip` of so many takes longer than this
                row = (worker, ids[0], attempts[0], nbytes[0], durations_us[0], values[0])
                singles.append(row)
                alone.append(ids[0])
                labels.append(worker.label)
            else:
                parts.append(zip(repeat(worker), ids, attempts, nbytes, durations_us, values))
                note(now, "finished", ids, worker.label)
        state.story.note_each(now, "finished", alone, labels)
        self._finish(chain.from_iterable(parts))
        state.touch(heard)

    def _finish(self, rows: Iterable[_Row]) -> None:
        """PROCESSING → MEMORY; the clients are told."""
        state = self._state
        tasks, measured, replicated = state.tasks, state.measured, state.replicated
        told: list[tuple[SchedulerTask, bytes | None]] = []
        function: SchedulerFunction | None = None
        for worker, task_id, attempt, nbytes, duration_us, value in rows:
            if worker.is_odd:  # this, and what follows, as `Answers._current`
                answered(worker, task_id, attempt)
            task = tasks.get(task_id)
            if task is None or task.processing_on is not worker or task.attempt != attempt:
                self._surplus(worker, task_id, attempt)
                continue
            group = task.group
            if worker.is_odd or not group.is_plain:
                unassign(task)
            else:  # the same
                task.processing_on = None
                processing = worker.processing
                seconds = processing.pop(task)
                worker.occupancy = worker.occupancy - seconds if processing else 0.0
                worker.busy -= 1
            if attempt > 1:  # else nothing of it was pushed to anybody
                note_size(task, nbytes)
            task.nbytes = nbytes
            if group.function is not function:
                function = group.function
                assert function is not None
                took, made = measured[function]
            took.append(duration_us)
            made.append(nbytes)
            task.state = MEMORY
            task.who_has = worker.alone  # it had no holder: this is `add_holder`
            worker.has_what[task] = None
            worker.nbytes += nbytes
            if worker.retiring is not None or (replicated and task in replicated):
                state.to_replicate[task] = None
            if task.wanted_by:
                told.append((task, value))
            follow(state, task)
        self._report(told)

    def _report(self, results: Iterable[tuple[SchedulerTask, bytes | None]]) -> None:
        """Tell clients of results; mostly of many that one client alone wants."""
        state = self._state
        alone: dict[SchedulerClient, bool] = {}
        for task, value in results:
            wanted = task.wanted_by
            if wanted is not alone:
                for client in wanted or ():
                    report_memory(state, client, task, value)
                    if wanted is client.alone and client.id and not client.names:
                        alone, only, report = wanted, client, state.outbox.reports[client]
                        add_id, add_size = report.ids.append, report.nbytes.append
                        add_value = report.values.append
                continue
            nbytes = task.nbytes
            add_id(task.id)  # as `report_memory`
            add_size(nbytes)
            if value is not None and only.inlined + nbytes <= INLINE_BUDGET:
                only.inlined += nbytes
                task.wanted_by = only.served
                add_value(value)
            else:
                add_value(None)

    def _surplus(self, worker: SchedulerWorker, task_id: TaskId, attempt: int) -> None:
        """A result nobody expects from this worker: it must not keep it."""
        if self._is_claimed(worker, task_id):
            return
        task = self._state.tasks.get(task_id)
        if task is None or task.who_has is None or worker not in task.who_has:
            self._state.outbox.release_attempt(worker, task_id, attempt)

    def replicas_added(self, fact: s.ReplicasAdded) -> None:
        """A worker copied results from others, and gives them from now on too."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id in fact.ids:
            task = self._state.tasks.get(task_id)
            attempt = worker.fetching.pop(task_id, None)
            if task is not None and task.state is MEMORY and task.attempt == attempt:
                add_holder(task, worker)
                if worker.retiring is not None:
                    self._state.to_replicate[task] = None
            else:  # nobody's any more, or of an attempt whose result was lost since
                self._surplus(worker, task_id, 0)
