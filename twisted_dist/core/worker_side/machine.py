"""`WorkerCore`: stimuli in, instructions out, for one worker.

A task waits for its inputs (fetched from the peers that the scheduler named, each input
once however many tasks need it), executes, and ends with exactly one report.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from twisted_dist.aliases import ATTEMPTS_A_GENERATION, HERE, Address, TaskId
from twisted_dist.core.worker_side import messages as m

#: a value up to this size rides to the client with the report of its task
INLINE_BYTES: Final = 64 * 1024


class WorkerCore:
    """Decides what a worker does; does nothing."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, m.WorkerTask] = {}
        #: {held value: its size}
        self.held: dict[TaskId, int] = {}
        #: {held value that was computed here: by which attempt}
        self.made: dict[TaskId, int] = {}
        #: {value under way: (from where, the tasks waiting for it)}
        self.flights: dict[TaskId, tuple[Address, list[m.WorkerTask]]] = {}
        self._handlers: dict[type, Callable[[Any], list[object]]] = {
            m.TasksGiven: self._tasks_given,
            m.ExecutionFinished: self._finished,
            m.ExecutionErred: self._erred,
            m.ExecutionReturned: self._returned,
            m.ExecutionWaits: self._execution_waits,
            m.ExecutionStopped: self._execution_stopped,
            m.ExecutorDied: self._executor_died,
            m.FetchFinished: self._fetch_finished,
            m.CopiesAsked: self._copies_asked,
            m.DataPut: self._data_put,
            m.DataForgotten: self._data_forgotten,
            m.DropRequested: self._drop_requested,
            m.StopRequested: self._stop_requested,
        }

    def handle(self, stimulus: object) -> list[object]:
        """Take a fact in; give back what is to be done about it, in order."""
        return self._handlers[type(stimulus)](stimulus)

    def reset(self) -> list[object]:
        """A new life begins: forget everything that any scheduler has asked for."""
        ids = [task.id for task in self.tasks.values() if task.executing]
        held = list(self.held)
        self.tasks.clear()
        self.held.clear()
        self.made.clear()
        self.flights.clear()
        return [m.DropExecution(ids), m.Discard(held)]

    def _tasks_given(self, fact: m.TasksGiven) -> list[object]:
        ready: list[m.WorkerTask] = []
        fetches: dict[Address, list[TaskId]] = {}
        where: dict[TaskId, Address] | None = None
        missing = m.ReportMissing([], [], [], [])
        for digest, ids, attempts, calls, deps, wanted in fact.runs:
            if not deps:
                for task_id, attempt, call in zip(ids, attempts, calls):
                    task = m.WorkerTask(task_id, attempt, digest, call, (), wanted)
                    task.executing = True
                    self.tasks[task_id] = task
                    ready.append(task)
                continue
            if where is None:
                where = {each: address for address, held in fact.sources for each in held}
            for task_id, attempt, call, needs in zip(ids, attempts, calls, deps):
                task = m.WorkerTask(task_id, attempt, digest, call, needs, wanted)
                self._await_inputs(task, where, fetches, missing)
                if task.missing < 0:
                    continue
                self.tasks[task_id] = task
                if not task.missing:
                    task.executing = True
                    ready.append(task)
        out: list[object] = [m.Fetch(address, ids) for address, ids in fetches.items()]
        if ready:
            out.append(m.Execute(ready))
        if missing.ids:
            out.append(missing)
        return out

    def _await_inputs(
        self,
        task: m.WorkerTask,
        where: dict[TaskId, Address],
        fetches: dict[Address, list[TaskId]],
        missing: m.ReportMissing,
    ) -> None:
        unknown = [d for d in task.deps if d not in self.held and d not in self.flights]
        lost = [each for each in unknown if each not in where]
        if lost:  # the scheduler thinks that these are here: say so, let it decide anew
            _lack(task, lost, missing)
            task.missing = -1
            return
        for each in task.deps:
            if each in self.held:
                continue
            task.missing += 1
            flight = self.flights.get(each)
            if flight is None:
                address = where[each]
                fetches.setdefault(address, []).append(each)
                self.flights[each] = (address, [task])
            else:
                flight[1].append(task)

    def _finished(self, fact: m.ExecutionFinished) -> list[object]:
        report = m.ReportDone([], [], [], [], [])
        late = m.ReportReturned([], [])
        kept: list[Any] = []
        tasks = self.tasks
        for task_id, attempt, value, nbytes, duration in zip(
            fact.ids, fact.attempts, fact.values, fact.nbytes, fact.durations_us
        ):
            task = tasks.get(task_id)
            if task is None or task.attempt != attempt:
                continue
            del tasks[task_id]
            if task_id in self.held:  # another attempt's, that was quicker, elsewhere: it stays
                late.ids.append(task_id)
                late.attempts.append(attempt)
                continue
            self.held[task_id] = nbytes
            self.made[task_id] = attempt
            kept.append(value)
            report.ids.append(task_id)
            report.attempts.append(attempt)
            report.nbytes.append(nbytes)
            report.durations_us.append(duration)
            inline = task.wanted and nbytes <= INLINE_BYTES and type(value) is bytes
            report.values.append(value if inline else None)  # type: ignore[arg-type]
        out: list[object] = [m.Keep(report.ids, kept, report.nbytes), report] if report.ids else []
        return [*out, late] if late.ids else out

    def _erred(self, fact: m.ExecutionErred) -> list[object]:
        report = m.ReportFailed([], [], [], [])
        for task_id, attempt, blob, text in zip(fact.ids, fact.attempts, fact.blobs, fact.texts):
            task = self.tasks.get(task_id)
            if task is not None and task.attempt == attempt:
                del self.tasks[task_id]
                report.ids.append(task_id)
                report.attempts.append(attempt)
                report.blobs.append(blob)
                report.texts.append(text)
        return [report] if report.ids else []

    def _returned(self, fact: m.ExecutionReturned) -> list[object]:
        report = m.ReportReturned([], [])
        for task_id in fact.ids:
            task = self.tasks.pop(task_id, None)
            if task is not None:
                report.ids.append(task_id)
                report.attempts.append(task.attempt)
        return [report] if report.ids else []

    def _execution_waits(self, fact: m.ExecutionWaits) -> list[object]:
        current = [
            (task_id, attempt)
            for task_id, attempt in zip(fact.ids, fact.attempts)
            if (task := self.tasks.get(task_id)) is not None and task.attempt == attempt
        ]
        if not current:
            return []
        for task_id, _ in current:
            self.tasks[task_id].waits = fact.waiting
        ids, attempts = zip(*current)
        return [m.ReportSeceded(list(ids), list(attempts), fact.waiting)]

    def _execution_stopped(self, fact: m.ExecutionStopped) -> list[object]:
        report = m.ReportStopped([], [], [])
        for task_id, attempt, text in zip(fact.ids, fact.attempts, fact.texts):
            task = self.tasks.get(task_id)
            if task is not None and task.attempt == attempt:
                del self.tasks[task_id]
                report.ids.append(task_id)
                report.attempts.append(attempt)
                report.texts.append(text)
        return [report] if report.ids else []

    def _executor_died(self, fact: m.ExecutorDied) -> list[object]:
        killed = m.ReportKilled([], [], [])
        returned = m.ReportReturned([], [])
        running = set(fact.running)
        for task in [task for task in self.tasks.values() if task.executing]:
            del self.tasks[task.id]
            if task.id in running:
                killed.ids.append(task.id)
                killed.attempts.append(task.attempt)
                killed.texts.append(fact.text)
            else:
                returned.ids.append(task.id)
                returned.attempts.append(task.attempt)
        return [each for each in (killed, returned) if each.ids]

    def _fetch_finished(self, fact: m.FetchFinished) -> list[object]:
        ready: list[m.WorkerTask] = []
        copies: list[TaskId] = []
        unneeded: list[TaskId] = []
        missing = m.ReportMissing([], [], [], [], fact.silent)
        for task_id, nbytes in zip(fact.ids, fact.nbytes):
            flight = self.flights.pop(task_id, None)
            if flight is None:
                if task_id not in self.held:
                    unneeded.append(task_id)
                continue
            self.held[task_id] = nbytes
            copies.append(task_id)
            for task in flight[1]:
                task.missing -= 1
                if task.missing or self.tasks.get(task.id) is not task:
                    continue
                if all(each in self.held for each in task.deps):
                    task.executing = True
                    ready.append(task)
                else:  # one was here, and had to be forgotten since: let the scheduler decide anew
                    del self.tasks[task.id]
                    here = self.held.keys() | self.flights.keys()
                    _lack(task, [each for each in task.deps if each not in here], missing)
        for task_id in fact.absent:
            flight = self.flights.pop(task_id, None)
            if flight is None:
                continue
            missing.missing.append(task_id)
            missing.addresses.append(fact.address)
            for task in flight[1]:
                if self.tasks.get(task.id) is task:
                    del self.tasks[task.id]
                    missing.ids.append(task.id)
                    missing.attempts.append(task.attempt)
        out: list[object] = []
        if unneeded:
            out.append(m.Discard(unneeded))
        if copies:
            out.append(m.ReportCopies(copies))
        if ready:
            out.append(m.Execute(ready))
        if missing.ids or missing.missing:
            out.append(missing)
        return out

    def _copies_asked(self, fact: m.CopiesAsked) -> list[object]:
        out: list[object] = []
        here: list[TaskId] = []
        for address, ids in fact.sources:
            here += [each for each in ids if each in self.held]
            wanted = [each for each in ids if each not in self.held and each not in self.flights]
            for each in wanted:
                self.flights[each] = (address, [])
            if wanted:
                out.append(m.Fetch(address, wanted))
        if here:
            out.append(m.ReportCopies(here))
        return out

    def _data_put(self, fact: m.DataPut) -> list[object]:
        self.held.update(zip(fact.ids, fact.nbytes))
        return [m.ReportPut(list(fact.ids))]

    @property
    def generation(self) -> int:
        """The newest of those of which attempts are here.

        A scheduler that died may not have told of it: what it gave out came first.
        """
        attempts = chain((each.attempt for each in self.tasks.values()), self.made.values())
        return max(attempts, default=0) // ATTEMPTS_A_GENERATION

    def claims(self) -> list[object]:
        """What is here, for a scheduler that knows nothing of it, though it was told."""
        out: list[object] = []
        if self.held:
            attempts = [self.made.get(each, 0) for each in self.held]
            out.append(m.ClaimResults(list(self.held), attempts, list(self.held.values())))
        if self.tasks:
            tasks = self.tasks.values()
            waiting = [each.id for each in tasks if each.waits]
            out.append(m.ClaimTasks(list(self.tasks), [t.attempt for t in tasks], waiting))
        return [*out, m.ClaimedAll()]

    def report_held(self) -> list[object]:
        """Tell a scheduler that is new what is here: clients have put it meanwhile."""
        return [m.ReportPut(list(self.held))] if self.held else []

    def _data_forgotten(self, fact: m.DataForgotten) -> list[object]:
        gone = []
        for task_id, attempt in zip(fact.ids, fact.attempts):
            if task_id in self.held and self.made.get(task_id, 0) <= attempt:
                del self.held[task_id]
                self.made.pop(task_id, None)
                gone.append(task_id)
        return [m.Discard(gone)] if gone else []

    def _drop_requested(self, fact: m.DropRequested) -> list[object]:
        executing = []
        returned = m.ReportReturned([], [])
        for task_id in fact.ids:
            task = self.tasks.get(task_id)
            if task is None:
                continue
            if task.executing:
                executing.append(task_id)
            else:
                del self.tasks[task_id]
                returned.ids.append(task_id)
                returned.attempts.append(task.attempt)
        out: list[object] = [m.DropExecution(executing)] if executing else []
        return [*out, returned] if returned.ids else out

    def _stop_requested(self, fact: m.StopRequested) -> list[object]:
        running = m.StopExecution([], [])
        returned = m.ReportReturned([], [])
        for task_id, attempt in zip(fact.ids, fact.attempts):
            task = self.tasks.get(task_id)
            if task is None or task.attempt != attempt:
                continue
            if not task.executing:
                del self.tasks[task_id]
            which = running if task.executing else returned
            which.ids.append(task_id)
            which.attempts.append(attempt)
        return [each for each in (running, returned) if each.ids]


def _lack(task: m.WorkerTask, inputs: list[TaskId], missing: m.ReportMissing) -> None:
    """A task cannot run, as inputs that were, or should be, here are not."""
    missing.ids.append(task.id)
    missing.attempts.append(task.attempt)
    missing.missing.extend(inputs)
    missing.addresses.extend([HERE] * len(inputs))
