"""Collects what one stimulus leads to, so that each peer gets few, large instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted_dist.aliases import Address, TaskId
from twisted_dist.core.dispatch import Dispatch
from twisted_dist.core.instructions import (
    CopyData,
    DropTasks,
    EndClient,
    EndWorker,
    Instruction,
    LeaveNow,
    Log,
    ReleaseData,
    Reply,
    ReportErred,
    ReportFinished,
    ReportLocations,
    RestartWorker,
    StopTasks,
)
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker, stayers
from twisted_dist.core.story import Story
from twisted_dist.core.task import SchedulerTask

_Peer = TypeVar("_Peer", bound="SchedulerClient | SchedulerWorker")
_Message = TypeVar("_Message")


class _PerPeer(dict[_Peer, _Message]):
    """A message under way for each peer that something is to be said to."""

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[_Peer], _Message]) -> None:
        self._begin = begin

    def __missing__(self, peer: _Peer) -> _Message:
        message = self[peer] = self._begin(peer)
        return message


class Outbox:
    """Instructions under way, gathered per peer; `take` empties it.

    Order within a peer is kept where it matters: releases and drops, then functions,
    then tasks and copies; replies before reports. What was assigned to a worker stays in
    the order it was assigned.
    """

    def __init__(self, story: Story) -> None:
        #: what those write to directly that have much to say
        self.reports = _PerPeer[SchedulerClient, ReportFinished](
            lambda client: ReportFinished(client.id, [], [], [])
        )
        self.releases = _PerPeer[SchedulerWorker, ReleaseData](
            lambda worker: ReleaseData(worker.id, [], [])
        )
        self._erred = _PerPeer[SchedulerClient, ReportErred](
            lambda client: ReportErred(client.id, [], [], [], [])
        )
        self.dispatch = Dispatch(story)
        self._drop = _PerPeer[SchedulerWorker, DropTasks](lambda worker: DropTasks(worker.id, []))
        self._stop = _PerPeer[SchedulerWorker, StopTasks](
            lambda worker: StopTasks(worker.id, [], [])
        )
        self._copies: dict[SchedulerWorker, dict[Address, list[TaskId]]] = {}
        self._replies: list[Reply] = []
        self._other: list[Instruction] = []

    def take(self, now: float) -> list[Instruction]:
        """Everything collected since the last call, drops first; *now* is when."""
        out: list[Instruction] = []
        for each in (self._drop, self._stop, self.releases):
            if each:
                out += each.values()
                each.clear()
        if self.dispatch.given:
            out += self.dispatch.take(now)
        if self._copies:
            out += [CopyData(w.id, list(where.items())) for w, where in self._copies.items()]
            self._copies.clear()
        if self._replies:  # before what is reported of the futures that one hands out
            out += self._replies
            self._replies.clear()
        for reports in (self.reports, self._erred):
            if reports:
                out += reports.values()
                reports.clear()
        if self._other:
            out += self._other
            self._other.clear()
        return out

    def forget_worker(self, worker: SchedulerWorker) -> None:
        """Say nothing more to a worker that has just been lost."""
        for table in (
            self.dispatch.given,
            self.releases,
            self._drop,
            self._stop,
            self._copies,
        ):
            table.pop(worker, None)

    def add(self, instruction: Instruction) -> None:
        """An instruction that stands alone."""
        self._other.append(instruction)

    def finished(
        self, client: SchedulerClient, task_id: TaskId, nbytes: int, value: bytes | None
    ) -> None:
        """Tell *client* that one of its tasks has a result."""
        report = self.reports[client]
        report.ids.append(task_id)
        report.nbytes.append(nbytes)
        report.values.append(value)

    def erred(
        self, client: SchedulerClient, task_id: TaskId, kind: str, blob: bytes, text: str
    ) -> None:
        """Tell *client* that one of its tasks has failed."""
        report = self._erred[client]
        report.ids.append(task_id)
        report.kinds.append(kind)
        report.blobs.append(blob)
        report.texts.append(text)

    def locations(
        self, client: SchedulerClient, request: int, tasks: dict[TaskId, SchedulerTask]
    ) -> None:
        """Answer a client's `LocationsAsked`: one holder each, and another when asked again."""
        sources: dict[Address, list[TaskId]] = {}
        aliases: list[list[TaskId]] = []
        for asked, task in tasks.items():
            if asked != task.id:
                aliases.append([asked, task.id])
        for task in dict.fromkeys(tasks.values()):
            if task.who_has:
                several = stayers(task.who_has)
                holder = several[(task.id + request) % len(several)]
                sources.setdefault(holder.address, []).append(task.id)
        self._other.append(ReportLocations(client.id, request, list(sources.items()), aliases))

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

    def leave(self, worker: SchedulerWorker) -> None:
        """Have a worker go that is off the books: nothing is expected of it any more."""
        self._other.append(LeaveNow(worker.id))

    def log(self, text: str, *, is_warning: bool = False) -> None:
        """Have something said that whoever runs the network wants to know."""
        self._other.append(Log(text, is_warning))

    def release(self, worker: SchedulerWorker, task: SchedulerTask) -> None:
        """Let *worker* forget a result."""
        message = self.releases[worker]
        message.ids.append(task.id)
        message.attempts.append(task.attempt)

    def release_attempt(self, worker: SchedulerWorker, task_id: TaskId, attempt: int) -> None:
        """Let *worker* forget a result, unless it is a later attempt's; copies are of attempt 0."""
        message = self.releases[worker]
        message.ids.append(task_id)
        message.attempts.append(attempt)

    def drop(self, worker: SchedulerWorker, task: SchedulerTask) -> None:
        """Ask *worker* not to run a task."""
        self._drop[worker].ids.append(task.id)

    def drop_id(self, worker: SchedulerWorker, task_id: TaskId) -> None:
        """Likewise, of a task that is nobody's."""
        self._drop[worker].ids.append(task_id)

    def stop(self, worker: SchedulerWorker, task: SchedulerTask) -> None:
        """Ask *worker* to end a task, should it run."""
        message = self._stop[worker]
        message.ids.append(task.id)
        message.attempts.append(task.attempt)

    def end_worker(self, worker: SchedulerWorker, reason: str) -> None:
        """Close the connection of a worker that is given up."""
        self._other.append(EndWorker(worker.id, reason))

    def end_client(self, client: SchedulerClient, reason: str) -> None:
        """Close the session of a client that is given up."""
        self._other.append(EndClient(client.id, reason))
