"""`Executor`: the network as a `concurrent.futures.Executor`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as StandardExecutor
from concurrent.futures import Future as StandardFuture
from typing import Any, TypeVar

from twisted.internet import defer

from twisted_dist.access.find import GivenAccess
from twisted_dist.client.client import Client
from twisted_dist.client.future import Future, Record
from twisted_dist.client.options import NOTHING
from twisted_dist.client.session import Session

T = TypeVar("T")


class _NetworkFuture(StandardFuture):  # type: ignore[type-arg]
    """A standard future that holds the network's one, and passes `cancel` on to it."""

    network_future: Future | None = None

    def cancel(self) -> bool:
        """Cancel the task where it has no result yet; whether it was cancelled."""
        cancelled = super().cancel()
        network_future = self.network_future
        if cancelled and network_future is not None:
            network_future.cancel()
            self.network_future = None
        return cancelled


def _when_settled(
    session: Session, record: Record, function: Callable[[Any, BaseException | None], None]
) -> None:
    """Call ``function(value, exception)`` in the reactor's thread, the value fetched."""

    def give() -> None:
        try:
            value = record.result()
        except BaseException as problem:
            function(None, problem)
        else:
            function(value, None)

    def fetch() -> None:
        fetching = defer.Deferred.fromCoroutine(session.fetcher.fetch([record]))
        fetching.addCallbacks(lambda _: give(), lambda f: function(None, f.value))

    def done(record: Record) -> None:
        problem = record.exception()
        if problem is not None:
            function(None, problem)
        elif record.value is not None:
            give()
        else:
            session.reactor.callFromThread(fetch)

    session.records.when_done(record, done)


class Executor(StandardExecutor):
    """Drop-in for `concurrent.futures.ProcessPoolExecutor`, over a network.

    Args:
        address: the scheduler's ``host:port``; nothing starts an embedded `LocalCluster`.
        timeout: seconds to wait for a scheduler that is not there yet.
        name: shown by the scheduler.
        access: as of `Client`.
        insecure: as of `Client`.

    `submit`, `map` and `shutdown` behave as the standard library says, with its own
    `Future` class, so that `concurrent.futures.wait` and `asyncio.wrap_future` work. Here a
    future counts as pending until its result is known, so it can be cancelled till then.

    Raises:
        ConnectError, AccessError, RefusedError: as of `Client`.
    """

    def __init__(
        self,
        address: str | None = None,
        timeout: float = 10.0,
        name: str = "",
        access: GivenAccess = None,
        insecure: bool = False,
    ) -> None:
        self.client = Client(address, timeout, name, access, insecure)
        self._lock = threading.Condition()
        #: pending futures are kept alive: what was submitted runs, held or not
        self._pending: set[_NetworkFuture] = set()
        #: calls of `_submit` under way; they may wait for room, and `shutdown` for them
        self._submitting = 0
        self._shut_down = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> StandardFuture[T]:
        """Run ``fn(*args, **kwargs)`` on the network. Raises RuntimeError after shutdown."""
        return self._submit(fn, [(args, kwargs)])[0]

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Results in order, as they come; all tasks are submitted at once.

        Args:
            fn: the function.
            iterables: its arguments, as the built-in `map` takes them.
            timeout: seconds from this call after which the iterator raises TimeoutError.
            chunksize: accepted for compatibility; tasks travel in batches anyway.
            buffersize: accepted for compatibility; all are submitted at once.
        """
        end = None if timeout is None else time.monotonic() + timeout
        futures = self._submit(fn, [(row, {}) for row in zip(*iterables)])

        def results() -> Iterator[T]:
            futures.reverse()
            try:
                while futures:
                    left = None if end is None else end - time.monotonic()
                    yield futures.pop().result(left)
            finally:
                for each in futures:
                    each.cancel()

        return results()

    def _submit(
        self, function: Callable[..., Any], calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> list[StandardFuture[Any]]:
        """A standard future for each call, settled from the client's reactor thread."""
        out: list[_NetworkFuture] = []
        with self._lock:  # `shutdown` has it refused, or waits for it
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            session = self.client.session
            self._submitting += 1
        try:
            records = session.submitter.submit(function, calls, NOTHING)
            for record in records:
                own = _NetworkFuture()
                own.network_future = Future(session, record)
                out.append(own)
            with self._lock:
                self._pending.update(out)
        finally:
            with self._lock:
                self._submitting -= 1
                self._lock.notify_all()
        for record, own in zip(records, out):
            _when_settled(session, record, self._settler(own))
        return [*out]

    def _settler(self, own: _NetworkFuture) -> Callable[[Any, BaseException | None], None]:
        def settle(value: Any, problem: BaseException | None) -> None:
            with self._lock:
                self._pending.discard(own)
            if own.set_running_or_notify_cancel():
                if problem is None:
                    own.set_result(value)
                else:
                    own.set_exception(problem)
            own.network_future = None

        return settle

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with *wait*, block until all are done, then disconnect.

        Without *wait* the connection stays until the last pending future is done.
        """
        with self._lock:
            already, self._shut_down = self._shut_down, True
            pending = list(self._pending)
        if cancel_futures:
            for each in pending:
                each.cancel()
        if wait:
            with self._lock:
                self._lock.wait_for(lambda: not self._submitting)
                pending = list(self._pending)
            for each in pending:
                if not each.cancelled():
                    each.exception()
            self.client.close()
        elif not already:
            threading.Thread(target=self.shutdown, name="twisted_dist-shutdown").start()
