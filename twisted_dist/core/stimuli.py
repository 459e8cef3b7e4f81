"""What can happen to the scheduler: frozen facts, one for a whole batch of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field

from twisted_dist.aliases import Address, Digest, PeerId, TaskId
from twisted_dist.core.options import Options
from twisted_dist.core.records import record


@record
class WorkerJoined:
    """A worker registered; *address* is where its data can be had."""

    worker: PeerId
    address: Address
    name: str
    nthreads: int
    #: ``{name: amount}`` in `core.options.RESOURCE_UNIT`
    resources: Mapping[str, int] = field(factory=dict)
    #: it was here before, or in an earlier life of this scheduler, and says next what it has
    claims: bool = False


@record
class MemberReturned:
    """A member of an earlier life of this scheduler is about to come.

    Attributes:
        peers: how many workers it knew of.
        generation: how often the scheduler had begun anew, as far as it knew.
    """

    peers: int
    generation: int


@record
class ResultsClaimed:
    """A worker holds these results, of these attempts (0 for copies and scattered data)."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    nbytes: Sequence[int]


@record
class TasksClaimed:
    """A worker has these attempts, begun or not; those in *waiting* wait for other tasks."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    waiting: Sequence[TaskId]


@record
class AllClaimed:
    """A worker has said all that it has."""

    worker: PeerId


@record
class WorkerLost:
    """A worker's connection ended or its lease ran out."""

    worker: PeerId
    reason: str


@record
class WorkerCut:
    """A worker's connection was lost; it may dial again. It is *peer*: nothing was heard of it."""

    peer: PeerId
    reason: str


@record
class WorkerBack:
    """It has dialled again, and its session goes on."""

    worker: PeerId


@record
class Heartbeat:
    """A worker is alive; *metrics* are what it measured of itself."""

    worker: PeerId
    metrics: Mapping[str, float]


@record
class ClientJoined:
    """A client registered; *returns*: it submits again what it is owed."""

    client: PeerId
    name: str
    returns: bool = False


@record
class ClientLost:
    """A client is gone; what only it wanted is released."""

    client: PeerId


@record
class ClientCut:
    """A client's connection was lost; it may dial again."""

    client: PeerId


@record
class ClientBack:
    """It has dialled again, and its session goes on."""

    client: PeerId


@record
class FunctionDefined:
    """A client's pickled function, opaque, named by its digest."""

    client: PeerId
    digest: Digest
    name: str
    blob: bytes


@record
class TasksSubmitted:
    """Tasks ``first .. first + len(calls) - 1``: a single one, a `map`, or a whole graph.

    Attributes:
        digests: of their functions.
        which: for each task, which of *digests*; empty where all have the first.
        calls: the pickled ``(args, kwargs)`` of each.
        deps: for each task the ids it needs, earlier ones of this submission among them; empty
            when none needs any.
        keys: the users' names; empty, or for each task one, which may be empty.
        shared: tasks of one key are one computation, whoever submits them.
        wanted: which tasks the client has futures of, counted from *first*; empty for all.
        options: of all of them.
    """

    client: PeerId
    first: TaskId
    digests: Sequence[Digest]
    which: Sequence[int]
    calls: Sequence[bytes]
    deps: Sequence[Sequence[TaskId]]
    keys: Sequence[str]
    shared: bool
    wanted: Sequence[int]
    options: Options


@record
class DataScattered:
    """A client has put data on a worker; there is nothing to compute it again.

    Attributes:
        holder: the worker's number when it took the data: registered anew, it has none of it.
    """

    client: PeerId
    ids: Sequence[TaskId]
    nbytes: Sequence[int]
    holder: PeerId


@record
class KeysReleased:
    """A client no longer wants these results."""

    client: PeerId
    ids: Sequence[TaskId]


@record
class RunawaysNamed:
    """These run to their end, whether or not anybody still has a future of them."""

    client: PeerId
    ids: Sequence[TaskId]


@record
class CancelRequested:
    """A client wants these tasks, and all that need them, to end."""

    client: PeerId
    ids: Sequence[TaskId]


@record
class LocationsAsked:
    """A client wants to fetch values itself; answered once all of them exist."""

    client: PeerId
    request: int
    ids: Sequence[TaskId]


@record
class Asked:
    """A client wants something done by name, and an answer.

    Attributes:
        request: the client's number of it.
        what: which operation (`core.requests`).
        name: of the dataset, lock, queue, …
        blob: a pickled value, opaque, with futures in it as positions.
        ids: those futures.
        number: a limit, a count or a fencing token.
        timeout_s: how long to wait for what is not there yet; below 0 for ever.
    """

    client: PeerId
    request: int
    what: str
    name: str
    blob: bytes
    ids: Sequence[TaskId]
    number: int
    timeout_s: float


@record
class TasksFinished:
    """Results exist at *worker*; ``values[i]`` is bytes when it rode inline, else None."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    nbytes: Sequence[int]
    durations_us: Sequence[int]
    values: Sequence[bytes | None]


@record
class TasksErred:
    """Tasks raised; *blobs* are pickled exceptions, *texts* their tracebacks."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    blobs: Sequence[bytes]
    texts: Sequence[str]


@record
class TasksReturned:
    """The worker did not run these: dropped on request, or their process died under them."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]


@record
class TasksKilled:
    """The process died while these ran; *texts* say how."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    texts: Sequence[str]


@record
class TasksStopped:
    """These were ended as `StopTasks` asked; *texts* say where they were."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    texts: Sequence[str]


@record
class InputsMissing:
    """The worker cannot run *ids*: *addresses* lack *missing*, or (*silent*) did not answer."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    missing: Sequence[TaskId]
    addresses: Sequence[Address]
    silent: bool = False


@record
class TasksSeceded:
    """Running tasks wait for other tasks from now on, or (not *waiting*) no longer."""

    worker: PeerId
    ids: Sequence[TaskId]
    attempts: Sequence[int]
    waiting: bool


@record
class ReplicasAdded:
    """The worker fetched copies of these results."""

    worker: PeerId
    ids: Sequence[TaskId]


@record
class DataPut:
    """A client has stored values at the worker; it tells of them itself, unless it goes before."""

    worker: PeerId
    ids: Sequence[TaskId]


@record
class RetirementWanted:
    """A worker wants to leave gracefully, within *timeout_s* seconds; below 0 for ever.

    Where it does not wait, what it holds goes with it once no worker stays that could take it.
    """

    worker: PeerId
    timeout_s: float
    waits: bool = True


Stimulus = (
    DataPut
    | WorkerJoined
    | WorkerLost
    | WorkerCut
    | MemberReturned
    | ResultsClaimed
    | TasksClaimed
    | AllClaimed
    | WorkerBack
    | ClientCut
    | ClientBack
    | RetirementWanted
    | Heartbeat
    | ClientJoined
    | ClientLost
    | FunctionDefined
    | TasksSubmitted
    | DataScattered
    | KeysReleased
    | RunawaysNamed
    | CancelRequested
    | LocationsAsked
    | Asked
    | TasksFinished
    | TasksErred
    | TasksReturned
    | TasksKilled
    | TasksStopped
    | InputsMissing
    | TasksSeceded
    | ReplicasAdded
)
