"""The worker machine's stimuli and instructions, batches like the scheduler's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted_dist.aliases import Address, Digest, TaskId, Value
from twisted_dist.core.records import record


class WorkerTask:
    """One task as the worker sees it."""

    __slots__ = (
        "attempt",
        "call",
        "deps",
        "digest",
        "executing",
        "id",
        "missing",
        "waits",
        "wanted",
    )

    def __init__(
        self,
        task_id: TaskId,
        attempt: int,
        digest: Digest,
        call: bytes,
        deps: Sequence[TaskId],
        wanted: bool,
    ) -> None:
        self.id = task_id
        self.attempt = attempt
        self.digest = digest
        self.call = call
        self.deps = deps
        #: a client wants the value, so a small one rides with the report
        self.wanted = wanted
        #: inputs not here yet
        self.missing = 0
        self.executing = False
        #: it runs, and waits for other tasks
        self.waits = False


# -- stimuli


@record
class TasksGiven:
    """The scheduler gave tasks; *sources* says who holds the inputs that are not here."""

    runs: Sequence[Sequence[Any]]
    sources: Sequence[tuple[Address, Sequence[TaskId]]]


@record
class ExecutionFinished:
    """The executor has results."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]
    values: Sequence[Value]
    nbytes: Sequence[int]
    durations_us: Sequence[int]


@record
class ExecutionErred:
    """The executor's tasks raised."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]
    blobs: Sequence[bytes]
    texts: Sequence[str]


@record
class ExecutionReturned:
    """The executor never began these."""

    ids: Sequence[TaskId]


@record
class ExecutionWaits:
    """Running tasks wait for other tasks from now on, or no longer."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]
    waiting: bool


@record
class ExecutionStopped:
    """These were ended as asked; *texts* say where they were."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]
    texts: Sequence[str]


@record
class ExecutorDied:
    """The process that ran tasks ended; *running* are those of which one has ended it."""

    running: Sequence[TaskId]
    text: str


@record
class FetchFinished:
    """Values came from a peer; *absent* did not: it has none, or (*silent*) did not answer."""

    address: Address
    ids: Sequence[TaskId]
    nbytes: Sequence[int]
    absent: Sequence[TaskId]
    silent: bool = False


@record
class CopiesAsked:
    """The scheduler wants copies here, from where *sources* says they are."""

    sources: Sequence[tuple[Address, Sequence[TaskId]]]


@record
class DataPut:
    """A client stored values here."""

    ids: Sequence[TaskId]
    nbytes: Sequence[int]


@record
class DataForgotten:
    """The scheduler says that nobody needs these, unless they are of a later attempt."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]


@record
class DropRequested:
    """The scheduler wants these not to run."""

    ids: Sequence[TaskId]


@record
class StopRequested:
    """The scheduler wants these attempts to end, begun or not."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]


# -- instructions


@record
class Execute:
    """Run these; all their inputs are held."""

    tasks: list[WorkerTask]


@record
class DropExecution:
    """Take these back from the executor, where it has not begun."""

    ids: list[TaskId]


@record
class StopExecution:
    """End these, should they run."""

    ids: list[TaskId]
    attempts: list[int]


@record
class Fetch:
    """Get values from the peer at *address*."""

    address: Address
    ids: list[TaskId]


@record
class Keep:
    """Store values."""

    ids: Sequence[TaskId]
    values: Sequence[Value]
    nbytes: Sequence[int]


@record
class Discard:
    """Remove values from the store."""

    ids: Sequence[TaskId]


@record
class ReportDone:
    """Tell the scheduler of results; a value rides along when small and wanted."""

    ids: list[TaskId]
    attempts: list[int]
    nbytes: list[int]
    durations_us: list[int]
    values: list[bytes | None]


@record
class ReportFailed:
    """Tell the scheduler of exceptions."""

    ids: list[TaskId]
    attempts: list[int]
    blobs: list[bytes]
    texts: list[str]


@record
class ReportReturned:
    """Tell the scheduler that these did not run here."""

    ids: list[TaskId]
    attempts: list[int]


@record
class ReportKilled:
    """Tell the scheduler that the process died while these ran."""

    ids: list[TaskId]
    attempts: list[int]
    texts: list[str]


@record
class ReportStopped:
    """Tell the scheduler that these were ended as it asked."""

    ids: list[TaskId]
    attempts: list[int]
    texts: list[str]


@record
class ReportSeceded:
    """Tell the scheduler of running tasks that wait for others, or no longer."""

    ids: list[TaskId]
    attempts: list[int]
    waiting: bool


@record
class ReportMissing:
    """Tell the scheduler that inputs could not be had where it said."""

    ids: list[TaskId]
    attempts: list[int]
    missing: list[TaskId]
    addresses: list[Address]
    silent: bool = False


@record
class ReportPut:
    """Tell the scheduler that clients have stored these here."""

    ids: list[TaskId]


@record
class ReportCopies:
    """Tell the scheduler that these are held here too."""

    ids: list[TaskId]


@record
class ClaimResults:
    """Tell a scheduler that knows nothing of this worker what it holds."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]
    nbytes: Sequence[int]


@record
class ClaimTasks:
    """And what it has to run, or runs."""

    ids: Sequence[TaskId]
    attempts: Sequence[int]
    waiting: Sequence[TaskId]


@record
class ClaimedAll:
    """That was all."""
