"""The scheduler's records of its peers: workers and clients."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from twisted_dist.aliases import Address, Digest, PeerId, TaskId
from twisted_dist.core.task import SchedulerTask


class SchedulerWorker:
    """A registered worker as the scheduler sees it."""

    __slots__ = (
        "address",
        "backlog",
        "has_what",
        "host",
        "id",
        "known_functions",
        "last_seen",
        "metrics",
        "name",
        "nthreads",
        "occupancy",
        "processing",
    )

    def __init__(
        self, worker: PeerId, address: Address, name: str, nthreads: int, now: float
    ) -> None:
        self.id = worker
        self.address = address
        self.host = address.rpartition(":")[0]
        self.name = name
        self.nthreads = nthreads
        #: insertion-ordered; {task: seconds it was expected to take when sent}
        self.processing: dict[SchedulerTask, float] = {}
        #: inverse of SchedulerTask.who_has
        self.has_what: dict[SchedulerTask, None] = {}
        #: tasks queued here because their data or their restriction is here; not yet sent
        self.backlog: deque[SchedulerTask] = deque()
        #: sum of `processing`'s values, seconds
        self.occupancy = 0.0
        self.known_functions: set[Digest] = set()
        self.last_seen = now
        self.metrics: Mapping[str, float] = {}

    def answers_to(self, names: frozenset[str]) -> bool:
        """Whether a user's ``workers=`` means this worker: by address, host or name."""
        return self.address in names or self.host in names or self.name in names


class SchedulerClient:
    """A registered client as the scheduler sees it."""

    __slots__ = ("aliases", "id", "inlined", "name", "names", "wants_what")

    def __init__(self, client: PeerId, name: str) -> None:
        self.id = client
        self.name = name
        #: {task: bytes of its value pushed here}; inverse of SchedulerTask.wanted_by
        self.wants_what: dict[SchedulerTask, int] = {}
        #: {its own id: the task that another submission with the same key made}
        self.aliases: dict[TaskId, SchedulerTask] = {}
        #: inverse of `aliases`: {task: this client's own ids for it}
        self.names: dict[SchedulerTask, list[TaskId]] = {}
        #: bytes of values pushed to it that it has not released
        self.inlined = 0
