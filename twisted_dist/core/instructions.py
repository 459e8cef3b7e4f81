"""What the scheduler wants done: frozen imperatives, at most a few for each peer."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_dist.aliases import Address, Digest, PeerId, TaskId
from twisted_dist.core.records import record


@record
class Run:
    """Consecutive tasks of one function within a `SendTasks`.

    Attributes:
        deps: parallel to *ids*, or empty when none needs any.
        wanted: a client wants the values, so small ones should ride inline.
    """

    digest: Digest
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    calls: Sequence[bytes]
    deps: Sequence[Sequence[TaskId]]
    wanted: bool


@record
class SendFunction:
    """Give *worker* a function it has not seen; precedes the tasks that need it."""

    worker: PeerId
    digest: Digest
    name: str
    blob: bytes


@record
class SendTasks:
    """Give *worker* tasks; *sources* lists where inputs it lacks can be had."""

    worker: PeerId
    runs: Sequence[Run]
    sources: Sequence[tuple[Address, list[TaskId]]]


@record
class ReleaseData:
    """Tell *worker* to forget these results, of these attempts or earlier ones."""

    worker: PeerId
    ids: list[TaskId]
    attempts: list[int]


@record
class DropTasks:
    """Tell *worker* not to run these, where it has not begun."""

    worker: PeerId
    ids: list[TaskId]


@record
class StopTasks:
    """Tell *worker* that these attempts are to end, begun or not."""

    worker: PeerId
    ids: list[TaskId]
    attempts: list[int]


@record
class ReportFinished:
    """Tell *client* that results exist; a value is None when it must be fetched."""

    client: PeerId
    ids: list[TaskId]
    nbytes: list[int]
    values: list[bytes | None]


@record
class ReportErred:
    """Tell *client* that tasks failed; *kinds* says what with (see `core.task`)."""

    client: PeerId
    ids: list[TaskId]
    kinds: list[str]
    blobs: list[bytes]
    texts: list[str]


@record
class ReportLocations:
    """Answer `LocationsAsked`: who holds what; ids that failed are left out.

    Attributes:
        sources: the ids under which workers hold the values.
        aliases: ``[own id of the client, id at the workers]`` where those differ.
    """

    client: PeerId
    request: int
    sources: list[tuple[Address, list[TaskId]]]
    aliases: list[list[TaskId]]


@record
class Reply:
    """Answer an `Asked`: *error* is empty, or says what is wrong."""

    client: PeerId
    request: int
    error: str
    result: object


@record
class CopyData:
    """Tell *worker* to fetch copies of results and keep them."""

    worker: PeerId
    sources: list[tuple[Address, list[TaskId]]]


@record
class RestartWorker:
    """Tell *worker* to start anew: what runs there is ended, what it holds forgotten."""

    worker: PeerId


@record
class LeaveNow:
    """Tell *worker*, which has retired, to end."""

    worker: PeerId


@record
class Log:
    """Say something in the scheduler's log."""

    text: str
    is_warning: bool


@record
class EndWorker:
    """Close the connection of a worker that is given up."""

    worker: PeerId
    reason: str


@record
class EndClient:
    """Close the session of a client that is given up."""

    client: PeerId
    reason: str


Instruction = (
    SendFunction
    | SendTasks
    | ReleaseData
    | DropTasks
    | StopTasks
    | ReportFinished
    | ReportErred
    | ReportLocations
    | Reply
    | CopyData
    | RestartWorker
    | LeaveNow
    | Log
    | EndWorker
    | EndClient
)
