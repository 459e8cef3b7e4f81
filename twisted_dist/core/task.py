"""The records that the scheduler keeps: functions, task groups and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from twisted_dist.aliases import Digest, Key, TaskId
from twisted_dist.core.options import PLAIN, Options

if TYPE_CHECKING:
    from twisted_dist.core.demand import Demand
    from twisted_dist.core.peers import SchedulerClient, SchedulerWorker

#: what `SchedulerTask.order` is
Order: TypeAlias = tuple[int, bool, int]
#: what `SchedulerTask.who_has` is: a tuple of few, a dict of more
Holders: TypeAlias = "tuple[SchedulerWorker, ...] | dict[SchedulerWorker, None]"

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
TIMED_OUT: Final = "timed-out"
UNMET: Final = "no-worker"

#: positions in `SchedulerTask.failures`: how often it raised, lost its worker, killed its process
RAISED_BUDGET, LOST_BUDGET, KILLED_BUDGET = range(3)

#: a measured duration counts as so many times what is known at most, and at least (see
#: `SchedulerFunction.learn`)
MOST_SURPRISE: Final = 16.0
LEAST_SURPRISE: Final = 1 / MOST_SURPRISE
#: the least duration that is told apart from none
LEAST_DURATION_S: Final = 1e-6


class SchedulerFunction:
    """A function as the scheduler knows it: opaque bytes and what its tasks take."""

    __slots__ = ("blob", "digest", "duration", "name", "nbytes")

    def __init__(self, digest: Digest, name: str, blob: bytes) -> None:
        self.digest = digest
        self.name = name
        self.blob = blob
        #: typical seconds, None until one has finished
        self.duration: float | None = None
        #: typical bytes of a result
        self.nbytes = 0.0

    def learn(self, duration: float, nbytes: float) -> None:
        """Fold in the mean of some measured tasks.

        The duration follows in logarithms, a quarter of the way, and no measurement counts as
        more than `MOST_SURPRISE` times off: one task that took a thousand times as long
        doubles what is expected, and ten ordinary ones afterwards put it right again.
        """
        duration = max(duration, LEAST_DURATION_S)
        known = self.duration
        if known is None:
            self.duration, self.nbytes = duration, nbytes
            return
        surprise = duration / known
        if surprise > MOST_SURPRISE:
            surprise = MOST_SURPRISE
        elif surprise < LEAST_SURPRISE:
            surprise = LEAST_SURPRISE
        self.duration = known * surprise**0.25
        self.nbytes += 0.25 * (nbytes - self.nbytes)


class TaskGroup:
    """What the tasks of one function in one submission share, stored once."""

    __slots__ = ("age", "call_bytes", "demand", "function", "is_plain", "options", "rank")

    def __init__(
        self,
        function: SchedulerFunction | None,
        first: TaskId,
        base: int,
        options: Options = PLAIN,
        demand: Demand | None = None,
    ) -> None:
        #: None for scattered data, which nothing can compute again
        self.function = function
        self.options = options
        #: of `SchedulerTask.order`: the first, and what with a task's id makes the last of it,
        #: where *base* is the order of the first task among all ever submitted
        self.rank = -options.priority
        self.age = base - first
        self.demand = demand
        #: typical bytes of a call; 0 where they are few
        self.call_bytes = 0.0
        #: giving one out takes nothing but a thread, for as long as it likes
        self.is_plain = demand is None and not options.timeout_s


class Rare:
    """What few tasks have: a user's key, or failures."""

    __slots__ = ("erred_by", "failures", "key")

    def __init__(self) -> None:
        #: (raised, lost or killed) so far, None until the first
        self.failures: list[int] | None = None
        #: (kind, pickled exception, text); set exactly in ERRED
        self.erred_by: tuple[str, bytes, str] | None = None
        self.key: Key | None = None


class SchedulerTask:
    """One task. 14 slots; collections are None until needed, so a `map` stays small."""

    __slots__ = (
        "attempt",
        "call",
        "dependents",
        "deps",
        "group",
        "id",
        "nbytes",
        "processing_on",
        "rare",
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
        #: in the order in which they came; inverse of `deps`. A tuple of few, a dict of more
        self.dependents: tuple[SchedulerTask, ...] | dict[SchedulerTask, None] | None = None
        #: number of deps not in memory; meaningful exactly in WAITING
        self.waiting_on = 0
        #: number of dependents that still need the result; it is held while there are any
        self.waiters = 0
        #: the worker that has it; set exactly in PROCESSING
        self.processing_on: SchedulerWorker | None = None
        #: workers holding the result, in the order in which they came to; set exactly in MEMORY;
        #: inverse of has_what. Never changed in place: most have one holder, and share that
        #: worker's `alone`
        self.who_has: Holders | None = None
        #: clients holding a future, and whether the value was pushed there; shared likewise
        self.wanted_by: dict[SchedulerClient, bool] | None = None
        #: increases with every assignment: a late answer of an earlier one is dropped
        self.attempt = 0
        self.nbytes = 0
        #: None until needed; read and written by the properties of its fields
        self.rare: Rare | None = None

    def _rare(self) -> Rare:
        if self.rare is None:
            self.rare = Rare()
        return self.rare

    @property
    def key(self) -> Key | None:
        """The user's."""
        return None if self.rare is None else self.rare.key

    @key.setter
    def key(self, key: Key) -> None:
        self._rare().key = key

    @property
    def failures(self) -> list[int] | None:
        """As of `Rare`."""
        return None if self.rare is None else self.rare.failures

    @failures.setter
    def failures(self, failures: list[int]) -> None:
        self._rare().failures = failures

    @property
    def erred_by(self) -> tuple[str, bytes, str] | None:
        """As of `Rare`."""
        return None if self.rare is None else self.rare.erred_by

    @erred_by.setter
    def erred_by(self, erred_by: tuple[str, bytes, str]) -> None:
        self._rare().erred_by = erred_by

    @property
    def order(self) -> Order:
        """Sorts tasks as they should run: the user's priority, what uses results, age.

        A task with inputs comes before those without, however much older: it lets go of data,
        they make more. The age within a graph is its depth-first order.
        """
        group = self.group
        return (group.rank, not self.deps, group.age + self.id)

    @property
    def name(self) -> Key:
        """The user's key, or one made from the function's name and the id."""
        if self.key:
            return self.key
        function = self.group.function
        return f"{function.name if function else 'data'}-{self.id:x}"
