"""The records that the scheduler keeps: functions, task groups and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted_dist.aliases import Digest, Key, TaskId

if TYPE_CHECKING:
    from twisted_dist.core.peers import SchedulerClient, SchedulerWorker

#: Nobody computes it; its result is not held. It can be wanted again.
RELEASED: Final = "released"
#: Some dependency has no result yet.
WAITING: Final = "waiting"
#: It could run, but no worker that may run it is there.
NO_WORKER: Final = "no-worker"
#: It could run and waits, at the scheduler, for room on a worker.
QUEUED: Final = "queued"
#: A worker has it.
PROCESSING: Final = "processing"
#: Some worker holds its result.
MEMORY: Final = "memory"
#: It failed for good, or something it needs did.
ERRED: Final = "erred"
#: Gone from the books.
FORGOTTEN: Final = "forgotten"

#: Kinds of failure on the wire; the client maps each to an exception class.
RAISED: Final = "raised"
KILLED: Final = "killed"
WORKER_LOST: Final = "worker-lost"
DATA_LOST: Final = "data-lost"
DEPENDENCY_LOST: Final = "dependency-lost"
CANCELLED: Final = "cancelled"


class SchedulerFunction:
    """A function as the scheduler knows it: opaque bytes and how long it takes."""

    __slots__ = ("blob", "digest", "duration", "name")

    def __init__(self, digest: Digest, name: str, blob: bytes) -> None:
        self.digest = digest
        self.name = name
        self.blob = blob
        #: moving average in seconds, None until one has finished
        self.duration: float | None = None

    def learn(self, duration: float) -> None:
        """Fold one measured duration in (weight 1/4: a few batches follow a change)."""
        known = self.duration
        self.duration = duration if known is None else known + 0.25 * (duration - known)


class TaskGroup:
    """What the tasks of one submission share, stored once."""

    __slots__ = ("base", "first", "function", "loose", "priority", "retries", "workers")

    def __init__(
        self,
        function: SchedulerFunction | None,
        first: TaskId,
        base: int,
        priority: int = 0,
        retries: int = 0,
        workers: frozenset[str] = frozenset(),
        loose: bool = False,
    ) -> None:
        #: None for scattered data, which nothing can compute again
        self.function = function
        self.first = first
        #: order of the first task among all ever submitted
        self.base = base
        self.priority = priority
        self.retries = retries
        self.workers = workers
        self.loose = loose


class SchedulerTask:
    """One task. 16 slots; collections are None until needed, so a `map` stays small."""

    __slots__ = (
        "attempt",
        "call",
        "dependents",
        "deps",
        "erred_by",
        "failures",
        "group",
        "id",
        "key",
        "nbytes",
        "processing_on",
        "state",
        "waiters",
        "waiting_on",
        "wanted_by",
        "who_has",
    )

    def __init__(self, task_id: TaskId, group: TaskGroup, call: bytes) -> None:
        self.id = task_id
        self.group = group
        self.call = call
        self.state: str = RELEASED
        #: the tasks whose results are arguments; inverse of `dependents`
        self.deps: Sequence[SchedulerTask] = ()
        #: insertion-ordered set; inverse of `deps`
        self.dependents: dict[SchedulerTask, None] | None = None
        #: number of deps not in memory; meaningful exactly in WAITING
        self.waiting_on = 0
        #: number of dependents that still need the result; it is held while there are any
        self.waiters = 0
        #: the worker that has it; set exactly in PROCESSING
        self.processing_on: SchedulerWorker | None = None
        #: workers holding the result; non-empty exactly in MEMORY; inverse of has_what
        self.who_has: dict[SchedulerWorker, None] | None = None
        #: clients holding a future; inverse of SchedulerClient.wants_what
        self.wanted_by: dict[SchedulerClient, None] | None = None
        #: increases with every assignment: a late answer of an earlier one is dropped
        self.attempt = 0
        self.nbytes = 0
        #: (raised, lost or killed) so far, None until the first
        self.failures: list[int] | None = None
        #: (kind, pickled exception, text); set exactly in ERRED
        self.erred_by: tuple[str, bytes, str] | None = None
        self.key: Key | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Sorts tasks as they should run: the user's priority, then age."""
        group = self.group
        return (-group.priority, group.base + self.id - group.first)

    @property
    def name(self) -> Key:
        """The user's key, or one made from the function's name and the id."""
        if self.key:
            return self.key
        function = self.group.function
        return f"{function.name if function else 'data'}-{self.id:x}"
