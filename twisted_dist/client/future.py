"""Futures: what a submitted task will have become."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from twisted_dist.aliases import Key, TaskId, Value
from twisted_dist.client.explanation import Explanation
from twisted_dist.core import task as kinds
from twisted_dist.errors import (
    CancelledError,
    ConnectionClosedError,
    DataLostError,
    DependencyLostError,
    NoWorkerError,
    RemoteError,
    RemoteTraceback,
    TaskKilledError,
    UsageProblem,
    WorkerLostError,
)
from twisted_dist.execution.payloads import load_value, resolve_future

if TYPE_CHECKING:
    from twisted_dist.client.session import Session

PENDING: Final = "pending"
FINISHED: Final = "finished"
ERROR: Final = "error"
CANCELLED: Final = "cancelled"
LOST: Final = "lost"

_CLASSES: Final[dict[str, type[Exception]]] = {
    kinds.KILLED: TaskKilledError,
    kinds.WORKER_LOST: WorkerLostError,
    kinds.DATA_LOST: DataLostError,
    kinds.DEPENDENCY_LOST: DependencyLostError,
    kinds.CANCELLED: CancelledError,
    kinds.TIMED_OUT: TimeoutError,
    kinds.UNMET: NoWorkerError,
    "connection": ConnectionClosedError,
}


#: kind (see `core.task`), pickled exception, text
ErredBy: TypeAlias = tuple[str, bytes, str]


class Record:
    """The client's side of one task; outlives no `Future` of it for long."""

    __slots__ = ("error", "id", "key", "nbytes", "origin", "status", "value", "waiters")

    def __init__(self, task_id: TaskId, key: Key) -> None:
        self.id = task_id
        self.key = key
        self.status: str = PENDING
        self.nbytes = 0
        #: the serialised result, once it is here
        self.value: Value | None = None
        self.error: ErredBy | None = None
        #: how the scheduler was told of it (`client.journal`); None where it has told us
        self.origin: Any = None
        #: called with this record, in the reactor's thread, when it is no longer pending
        self.waiters: list[Callable[[Record], None]] | None = None

    def exception(self) -> BaseException | None:
        """The exception, as itself, its remote traceback as the cause."""
        if self.error is None:
            return None
        kind, blob, text = self.error
        if kind != kinds.RAISED:
            return _CLASSES[kind](text)
        try:
            problem = pickle.loads(blob)
        except Exception as why:  # its class cannot be imported here, for instance
            last = text.strip().rpartition("\n")[2]
            problem = RemoteError(f"{last} (the exception itself cannot be loaded: {why})")
        problem.__cause__ = RemoteTraceback(text)
        return problem  # type: ignore[no-any-return]

    def result(self) -> Any:
        """The value that was brought here, or the exception, raised: it may be lost on its way.

        Or cancelled, and come all the same: that is told as it was told first.
        """
        if self.error is not None:
            problem = self.exception()
            assert problem is not None
            raise problem
        assert self.value is not None  # who fetches says so where it comes to nothing
        return load_value(self.value)


class BaseFuture:
    """What blocking and Deferred futures share. Dropping the last one releases the result."""

    __slots__ = ("__weakref__", "_record", "_session")

    def __init__(self, session: Session, record: Record) -> None:
        self._session = session
        self._record = record

    def __del__(self) -> None:
        try:
            self._session.drop(self._record.id)
        except AttributeError:  # never fully made
            pass

    def __reduce__(self) -> Any:
        position = self._session.submitter.collect(self._record.id, self)
        if position is None:
            raise UsageProblem(
                "a Future can be an argument of submit or map of its own client, "
                "but cannot be pickled otherwise"
            )
        return resolve_future, (position,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}: {self.status}>"

    @property
    def key(self) -> Key:
        """The task's name: the user's, or one made from the function's name."""
        return self._record.key

    @property
    def status(self) -> str:
        """``pending``, ``finished``, ``error``, ``cancelled`` or ``lost``."""
        return self._record.status

    def done(self) -> bool:
        """Whether it is no longer pending."""
        return self._record.status is not PENDING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._record.status is CANCELLED

    def traceback(self) -> str | None:
        """The remote traceback as text; None unless the task failed."""
        error = self._record.error
        return error[2] if error is not None else None

    def cancel(self) -> None:
        """Ask that the task, and what needs it, does not run."""
        self._session.cancel([self._record.id])

    def release(self) -> None:
        """Give the result up now, before the last reference is dropped."""
        self._session.drop(self._record.id)


class Future(BaseFuture):
    """A task submitted by a blocking `Client`."""

    __slots__ = ()

    def _wait(self, timeout: float | None) -> None:
        self._session.records.wait_all([self._record], timeout)

    def result(self, timeout: float | None = None) -> Any:
        """The task's value; raises what the task raised.

        Raises:
            TimeoutError: not done within *timeout* seconds; the task goes on.
            CancelledError: it was cancelled.
        """
        self._wait(timeout)
        record = self._record
        if record.value is None and record.error is None:
            self._session.fetcher.fetch_blocking([record], timeout)
        return record.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None."""
        self._wait(timeout)
        return self._record.exception()

    def explain(self) -> Explanation:
        """Why the task is not running, or where its time went; print it.

        Raises:
            RefusedError: the scheduler does not know it any more: it was released.
        """
        return self._session.explain_blocking(self._record)

    def add_done_callback(self, function: Callable[[Future], Any]) -> None:
        """Call ``function(self)`` when done, in the client's reactor thread."""
        self._session.records.when_done(self._record, lambda record: function(self))


class Countdown:
    """Wakes a waiting thread when enough records are done; one thread waits, once."""

    def __init__(self, count: int) -> None:
        self._count = count
        # counts in one step of the interpreter: records end in two threads
        self._done = itertools.count(1)
        # a lock that is taken, for the waiter to take again: an Event costs five times as much
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self, _record: Record) -> None:
        """One more is done."""
        if next(self._done) == self._count:
            self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Whether it came within *timeout* seconds."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX))
