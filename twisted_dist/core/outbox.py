"""Collects what one stimulus leads to, so that each peer gets few, large instructions."""

from __future__ import annotations

from twisted_dist.aliases import Address, TaskId
from twisted_dist.core.instructions import (
    CopyData,
    DropTasks,
    EndWorker,
    Instruction,
    ReleaseData,
    Reply,
    ReportErred,
    ReportFinished,
    ReportLocations,
    RestartWorker,
    Run,
    SendFunction,
    SendTasks,
)
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.task import SchedulerTask


class Outbox:
    """Instructions under way, gathered per peer; `take` empties it.

    Order within a peer is kept where it matters: releases and drops, then functions,
    then tasks and copies; replies before reports. What was assigned to a worker stays in
    the order it was assigned.
    """

    def __init__(self) -> None:
        self._finished: dict[SchedulerClient, ReportFinished] = {}
        self._erred: dict[SchedulerClient, ReportErred] = {}
        self._tasks: dict[SchedulerWorker, SendTasks] = {}
        self._sources: dict[SchedulerWorker, dict[TaskId, Address]] = {}
        self._release: dict[SchedulerWorker, ReleaseData] = {}
        self._drop: dict[SchedulerWorker, DropTasks] = {}
        self._functions: list[SendFunction] = []
        self._copies: dict[SchedulerWorker, dict[Address, list[TaskId]]] = {}
        self._replies: list[Reply] = []
        self._other: list[Instruction] = []
        #: {task: its inputs by position}, where two positions are one task, by way of a shared
        #: key; `SchedulerTask.deps` has each once
        self.rows: dict[SchedulerTask, list[SchedulerTask]] = {}

    def take(self) -> list[Instruction]:
        """Everything collected since the last call, drops first."""
        for worker, places in self._sources.items():
            by_address: dict[Address, list[TaskId]] = {}
            for task_id, address in places.items():
                by_address.setdefault(address, []).append(task_id)
            self._tasks[worker].sources.extend(by_address.items())
        out: list[Instruction] = []
        for each in (self._drop, self._release):
            if each:
                out += each.values()
                each.clear()
        if self._functions:
            out += self._functions
            self._functions.clear()
        if self._tasks:
            out += self._tasks.values()
            self._tasks.clear()
            self._sources.clear()
        if self._copies:
            out += [CopyData(w.id, list(where.items())) for w, where in self._copies.items()]
            self._copies.clear()
        if self._replies:  # before what is reported of the futures that one hands out
            out += self._replies
            self._replies.clear()
        for reports in (self._finished, self._erred):
            if reports:
                out += reports.values()
                reports.clear()
        if self._other:
            out += self._other
            self._other.clear()
        return out

    def forget_worker(self, worker: SchedulerWorker) -> None:
        """Say nothing more to a worker that has just been lost."""
        for table in (self._tasks, self._sources, self._release, self._drop, self._copies):
            table.pop(worker, None)
        self._functions = [each for each in self._functions if each.worker != worker.id]

    def add(self, instruction: Instruction) -> None:
        """An instruction that stands alone."""
        self._other.append(instruction)

    def finished(
        self, client: SchedulerClient, task_id: TaskId, nbytes: int, value: bytes | None
    ) -> None:
        """Tell *client* that one of its tasks has a result."""
        report = self._finished.get(client)
        if report is None:
            report = self._finished[client] = ReportFinished(client.id, [], [], [])
        report.ids.append(task_id)
        report.nbytes.append(nbytes)
        report.values.append(value)

    def erred(
        self, client: SchedulerClient, task_id: TaskId, kind: str, blob: bytes, text: str
    ) -> None:
        """Tell *client* that one of its tasks has failed."""
        report = self._erred.get(client)
        if report is None:
            report = self._erred[client] = ReportErred(client.id, [], [], [], [])
        report.ids.append(task_id)
        report.kinds.append(kind)
        report.blobs.append(blob)
        report.texts.append(text)

    def locations(
        self, client: SchedulerClient, request: int, tasks: dict[TaskId, SchedulerTask]
    ) -> None:
        """Answer a client's `LocationsAsked`: one holder each, spread over them."""
        sources: dict[Address, list[TaskId]] = {}
        aliases = []
        for asked, task in tasks.items():
            if asked != task.id:
                aliases.append([asked, task.id])
        for task in dict.fromkeys(tasks.values()):
            if task.who_has:
                holder = next(iter(task.who_has))
                sources.setdefault(holder.address, []).append(task.id)
        self._other.append(ReportLocations(client.id, request, list(sources.items()), aliases))

    def send(self, worker: SchedulerWorker, task: SchedulerTask) -> None:
        """Give *worker* a task: into the run it continues, or a new one."""
        message = self._tasks.get(worker)
        if message is None:
            message = self._tasks[worker] = SendTasks(worker.id, [], [])
        function = task.group.function
        assert function is not None
        runs = message.runs
        run = runs[-1] if runs else None
        wanted = task.wanted_by is not None
        deps = task.deps
        if (
            run is None
            or run.digest is not function.digest
            or run.wanted is not wanted
            or bool(run.deps) is not bool(deps)
        ):
            if function.digest not in worker.known_functions:
                worker.known_functions.add(function.digest)
                self._functions.append(
                    SendFunction(worker.id, function.digest, function.name, function.blob)
                )
            run = Run(function.digest, [], [], [], [], wanted)
            runs.append(run)
        run.ids.append(task.id)
        run.attempts.append(task.attempt)
        run.calls.append(task.call)
        if deps:
            run.deps.append([dep.id for dep in self.rows.get(task, deps)])
            places = None
            for dep in deps:
                holders = dep.who_has
                if holders and worker not in holders:
                    if places is None:
                        places = self._sources.setdefault(worker, {})
                    # spread a popular input over its holders by the asking task's number
                    choice = next(iter(holders))
                    if len(holders) > 1:
                        choice = list(holders)[task.id % len(holders)]
                    places[dep.id] = choice.address
                    # the first: what is under way already is not fetched again
                    worker.fetching.setdefault(dep.id, dep.attempt)

    def reply(self, client: SchedulerClient, request: int, result: object, error: str = "") -> None:
        """Answer what a client asked."""
        self._replies.append(Reply(client.id, request, error, result))

    def copy(self, worker: SchedulerWorker, task: SchedulerTask, holder: SchedulerWorker) -> None:
        """Have *worker* fetch a result from *holder*."""
        worker.fetching.setdefault(task.id, task.attempt)
        self._copies.setdefault(worker, {}).setdefault(holder.address, []).append(task.id)

    def restart_worker(self, worker: SchedulerWorker) -> None:
        """Have a worker start anew."""
        self._other.append(RestartWorker(worker.id))

    def release(self, worker: SchedulerWorker, task: SchedulerTask) -> None:
        """Let *worker* forget a result."""
        self.release_attempt(worker, task.id, task.attempt)

    def release_attempt(self, worker: SchedulerWorker, task_id: TaskId, attempt: int) -> None:
        """Let *worker* forget a result, unless it is a later attempt's; copies are of attempt 0."""
        message = self._release.get(worker)
        if message is None:
            message = self._release[worker] = ReleaseData(worker.id, [], [])
        message.ids.append(task_id)
        message.attempts.append(attempt)

    def drop(self, worker: SchedulerWorker, task: SchedulerTask) -> None:
        """Ask *worker* not to run a task."""
        message = self._drop.get(worker)
        if message is None:
            message = self._drop[worker] = DropTasks(worker.id, [])
        message.ids.append(task.id)

    def end_worker(self, worker: SchedulerWorker, reason: str) -> None:
        """Close the connection of a worker that is given up."""
        self._other.append(EndWorker(worker.id, reason))
