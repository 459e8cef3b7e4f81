"""The scheduler's records of its peers: workers and clients."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from twisted_dist.aliases import CLIENT_SHIFT, Address, Digest, PeerId, TaskId
from twisted_dist.core.demand import Demand
from twisted_dist.core.ready import ReadyQueue
from twisted_dist.core.task import Holders, SchedulerTask

if TYPE_CHECKING:
    from twisted_dist.core.alarms import Alarm
    from twisted_dist.core.coordination.waiting import Waiter
    from twisted_dist.core.retirement import Retirement


class Dropped(NamedTuple):
    """An attempt that was given up, the resources it holds, and whether it waits for others."""

    attempt: int
    resources: tuple[tuple[str, int], ...]
    waits: bool


class SchedulerWorker:
    """A registered worker as the scheduler sees it."""

    __slots__ = (
        "address",
        "alone",
        "backlog",
        "busy",
        "demands",
        "dropped",
        "fetching",
        "free",
        "has_what",
        "host",
        "id",
        "is_cut",
        "is_odd",
        "known_functions",
        "label",
        "last_answer",
        "last_digest",
        "last_seen",
        "lease_alarm",
        "metrics",
        "name",
        "nbytes",
        "nthreads",
        "occupancy",
        "overdue",
        "processing",
        "recalled",
        "resources",
        "retiring",
        "seceded",
    )

    def __init__(
        self,
        worker: PeerId,
        address: Address,
        name: str,
        nthreads: int,
        now: float,
        resources: Mapping[str, int],
    ) -> None:
        self.id = worker
        self.address = address
        self.host = address.rpartition(":")[0]
        self.name = name
        #: name and address, for messages
        self.label = name if name == address else f"{name} ({address})"
        self.nthreads = nthreads
        #: {name: amount in `RESOURCE_UNIT`}: all it has, and what no task holds
        self.resources = dict(resources)
        self.free = dict(resources)
        #: demands by name that it meets; others it finds in `SchedulerState.wide`
        self.demands: dict[Demand, None] = {}
        #: insertion-ordered; {task: seconds it was expected to take when sent}
        self.processing: dict[SchedulerTask, float] = {}
        #: tasks that use a thread there, or will: of `processing` without `seceded`, and of
        #: `dropped` without those that wait
        self.busy = 0
        #: those of `processing` that only wait for other tasks, and so use no thread
        self.seceded: dict[SchedulerTask, None] = {}
        #: those of `processing` that were asked back
        self.recalled: dict[SchedulerTask, None] = {}
        #: those of `processing` that take too long, and were told to stop
        self.overdue: dict[SchedulerTask, None] = {}
        #: {task id: attempt} given up here, of which no answer has come: they may still be
        #: running
        self.dropped: dict[TaskId, Dropped] = {}
        #: whether there may be anything in `seceded`, `recalled`, `overdue` or `dropped`: with
        #: many workers, to look at each of these costs more than all else that is done for one
        self.is_odd = False
        #: {id of what it was told to fetch: of which attempt it was then}, until it says so
        self.fetching: dict[TaskId, int] = {}
        #: inverse of SchedulerTask.who_has
        self.has_what: dict[SchedulerTask, None] = {}
        #: bytes of `has_what`
        self.nbytes = 0
        #: the `who_has` of every result that is only here
        self.alone: Holders = (self,)
        #: tasks queued here because their data is here; not yet sent
        self.backlog = ReadyQueue()
        #: sum of `processing`'s values without those seceded, seconds
        self.occupancy = 0.0
        self.known_functions: set[Digest] = set()
        #: of the function that it was given last; b"" at first
        self.last_digest: Digest = b""
        self.last_seen = now
        #: what sees that it is silent for too long
        self.lease_alarm: Alarm | None = None
        #: when it last ended a task, or was given one while it had none
        self.last_answer = now
        self.metrics: Mapping[str, float] = {}
        #: its connection is lost: it gets nothing more until it dials again
        self.is_cut = False
        #: set from when it is to leave: it gets nothing more
        self.retiring: Retirement | None = None

    def answers_to(self, names: frozenset[str]) -> bool:
        """Whether a user's ``workers=`` means this worker: by address, host or name."""
        return self.address in names or self.host in names or self.name in names


def stayers(holders: Collection[SchedulerWorker]) -> list[SchedulerWorker]:
    """Of the holders of a result those that do not retire; all of them where all do."""
    if len(holders) == 1:
        return list(holders)
    return [each for each in holders if each.retiring is None] or list(holders)


class SchedulerClient:
    """A registered client as the scheduler sees it, or whoever else holds futures."""

    __slots__ = (
        "aliases",
        "alone",
        "borrowed",
        "cut_alarm",
        "cut_until",
        "forgone",
        "id",
        "inlined",
        "lease_alarm",
        "leases",
        "lent",
        "name",
        "names",
        "renewed_at",
        "returns",
        "served",
        "top",
        "waiters",
    )

    def __init__(self, client: PeerId, name: str, returns: bool = False) -> None:
        #: 0 for a holder that is told nothing: a published dataset, for instance
        self.id = client
        self.name = name
        #: it was given up before, and submits again what is on the books, maybe
        self.returns = returns
        #: the `wanted_by` of every task that only it wants, and of those among them whose
        #: value was pushed here
        self.alone: dict[SchedulerClient, bool] = {self: False}
        self.served: dict[SchedulerClient, bool] = {self: True}
        #: tasks that it wants and that are not of its own making; for those that are, their
        #: ids say so (`core.holders.wanted_tasks`)
        self.borrowed: dict[SchedulerTask, None] = {}
        #: ids of data that it told nobody of for so long that workers were told to forget it
        self.forgone: set[TaskId] = set()
        #: all ids of tasks that it made are lower
        self.top: TaskId = client << CLIENT_SHIFT
        #: {its own id: the task that another submission with the same key made}
        self.aliases: dict[TaskId, SchedulerTask] = {}
        #: inverse of `aliases`: {task: this client's own ids for it}
        self.names: dict[SchedulerTask, list[TaskId]] = {}
        #: bytes of values pushed to it that it has not released
        self.inlined = 0
        #: how many ids the scheduler has made for it, for futures handed to it
        self.lent = 0
        #: {token of a lease that it holds: name of the semaphore}, and when it said so last
        self.leases: dict[int, str] = {}
        self.renewed_at = 0.0
        #: what looks after them; set exactly while there are any
        self.lease_alarm: Alarm | None = None
        #: its connection is lost: when its lease is over, and what gives it up then
        self.cut_until = 0.0
        self.cut_alarm: Alarm | None = None
        #: its requests that are not answered yet
        self.waiters: dict[Waiter, None] = {}
