"""`AsyncClient`: the same client in a reactor, with Deferreds for answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet import defer

from twisted_dist.access.find import GivenAccess
from twisted_dist.client import data as data_op
from twisted_dist.client import operations as op
from twisted_dist.client.current import note_client
from twisted_dist.client.errands import RunMethods
from twisted_dist.client.explanation import Explanation
from twisted_dist.client.future import BaseFuture, Record
from twisted_dist.client.options import as_names, as_options
from twisted_dist.client.session import Session, as_client


class AsyncFuture(BaseFuture):
    """A task submitted by an `AsyncClient`. All its callbacks run in the reactor's thread."""

    __slots__ = ()

    def result(self, timeout: float | None = None) -> defer.Deferred[Any]:
        """Fires with the task's value, or fails with what it raised.

        Fails with TimeoutError when not done within *timeout* seconds; the task goes on.
        Cancelling the Deferred leaves the task alone (`cancel` ends it).
        """
        return self._within(self._result(), timeout)

    def exception(self, timeout: float | None = None) -> defer.Deferred[BaseException | None]:
        """Fires with what the task raised, or None."""
        return self._within(self._exception(), timeout)

    def _within(self, coroutine: Any, timeout: float | None) -> defer.Deferred[Any]:
        answer: defer.Deferred[Any] = defer.Deferred.fromCoroutine(coroutine)
        if timeout is not None:
            answer.addTimeout(timeout, self._session.reactor, self._too_late)
        return answer

    def _too_late(self, _result: object, timeout: float) -> Any:
        raise TimeoutError(f"{self.key} was not done within {timeout} s")

    async def _result(self) -> Any:
        records = [self._record]
        await op.wait_done(self._session, records)
        away = op.to_fetch(records, "raise")
        if away:
            await self._session.fetcher.fetch(away)
        return self._record.result()

    async def _exception(self) -> BaseException | None:
        await op.wait_done(self._session, [self._record])
        return self._record.exception()

    def explain(self) -> defer.Deferred[Explanation]:
        """Fires with why the task is not running, or where its time went."""
        return defer.Deferred.fromCoroutine(self._session.explain(self._record))

    def add_done_callback(self, function: Callable[[AsyncFuture], Any]) -> None:
        """Call ``function(self)`` when done."""
        self._session.records.when_done(self._record, lambda record: function(self))


class AsyncClient(RunMethods):
    """Submits work from within a reactor; used in its thread.

    Args:
        address: the scheduler's ``host:port``.
        reactor: the reactor to live in; the installed one by default.
        timeout: seconds to wait for a scheduler that is not there yet.
        name: shown by the scheduler.
        access: as of `Client`.
        insecure: as of `Client`.
        chance: draws when a lost scheduler is dialled again.

    ``await client.start()`` first and ``await client.close()`` last. `submit` and `map`
    return futures at once; everything else gives Deferreds. They never wait: whoever submits
    without end awaits `room` now and then, or what is held grows without a bound.
    """

    def __init__(
        self,
        address: str,
        reactor: Any = None,
        timeout: float = 10.0,
        name: str = "",
        access: GivenAccess = None,
        insecure: bool = False,
        chance: Random | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.address = address
        self.timeout = timeout
        membership = as_client(access, insecure)
        self._session = Session(reactor, address, name, membership, chance=chance)

    @property
    def session(self) -> Session:
        """The session below; for this package's own modules."""
        return self._session

    def start(self) -> defer.Deferred[AsyncClient]:
        """Connect; fires with this client, fails as `Client` raises.

        Or with ConnectionClosedError, where `close` is called meanwhile.
        """

        async def connect() -> AsyncClient:
            await self.session.connect(self.timeout)
            note_client(self)
            return self

        return defer.Deferred.fromCoroutine(connect())

    def room(self) -> defer.Deferred[None]:
        """Fires when there is room for more tasks: at once, unless very many have not ended.

        A blocking `Client` waits for that by itself. Fires as well when the client is closed,
        or the scheduler given up; cancelling it does no harm.
        """
        return self.session.flow.room()

    def close(self) -> defer.Deferred[None]:
        """Release everything and disconnect; fires when that is done, as of `Client.close`."""
        return defer.Deferred.fromCoroutine(self.session.close())

    def shutdown(self) -> defer.Deferred[None]:
        """End the network: every worker, the scheduler, then this client."""

        async def end() -> None:
            await op.shutdown(self.session)
            await self.session.close()

        return defer.Deferred.fromCoroutine(end())

    def submit(
        self,
        func: Callable[..., Any],
        *args: Any,
        key: str | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        resources: Mapping[str, float] | None = None,
        retries: int = 0,
        priority: int = 0,
        timeout: float | None = None,
        pure: bool = False,
        wait_for_worker: bool = False,
        **kwargs: Any,
    ) -> AsyncFuture:
        """As `Client.submit`."""
        session = self.session
        options = as_options(
            workers, allow_other_workers, resources, retries, priority, timeout, wait_for_worker
        )
        keys = None if key is None else op.as_keys([key])
        (record,) = session.submitter.submit(func, ((args, kwargs),), options, keys, pure)
        return AsyncFuture(session, record)

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any],
        key: str | Sequence[str] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        resources: Mapping[str, float] | None = None,
        retries: int = 0,
        priority: int = 0,
        timeout: float | None = None,
        pure: bool = False,
        wait_for_worker: bool = False,
        **kwargs: Any,
    ) -> list[AsyncFuture]:
        """As `Client.map`."""
        session = self.session
        options = as_options(
            workers, allow_other_workers, resources, retries, priority, timeout, wait_for_worker
        )
        calls: Iterable[Any] = ((row, kwargs) for row in zip(*iterables))
        if key is not None:
            calls = list(calls)
            key = op.as_keys(key, len(calls))
        records = session.submitter.submit(func, calls, options, key, pure)
        return [AsyncFuture(session, record) for record in records]

    def get(
        self,
        dsk: Any,
        keys: Any,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        resources: Mapping[str, float] | None = None,
        retries: int = 0,
        priority: int = 0,
        timeout: float | None = None,
        wait_for_worker: bool = False,
    ) -> defer.Deferred[Any]:
        """Fires with the results of a dask graph; see `Client.get`."""

        async def compute() -> Any:
            session = self.session
            options = as_options(
                workers, allow_other_workers, resources, retries, priority, timeout, wait_for_worker
            )
            graph, shaped = op.as_graph(dsk, keys)
            large = op.dumped(graph.data)
            data = await data_op.put_large(session, self.make_future, large) if large else []
            records = session.submitter.submit_graph(graph, options, data)
            futures = [AsyncFuture(session, each) for each in records]
            try:
                return shaped(await self.gather(futures))
            finally:  # now, and not when the traceback of an error is let go
                for each in (*futures, *data):
                    each.release()

        return defer.Deferred.fromCoroutine(compute())

    def gather(self, futures: Any, errors: str = "raise") -> defer.Deferred[Any]:
        """Fires with the results, in the shape given; see `Client.gather`."""
        op.check_errors(errors)

        async def collect() -> Any:
            records: list[Record] = [each._record for each in op.flatten(futures)]
            await op.wait_done(self.session, records)
            away = op.to_fetch(records, errors)
            if away:
                await self.session.fetcher.fetch(away)
            return op.unpack(futures, errors == "skip")

        return defer.Deferred.fromCoroutine(collect())

    def scatter(
        self, data: Any, workers: str | Iterable[str] | None = None, broadcast: bool = False
    ) -> defer.Deferred[Any]:
        """Fires with futures in the shape given; see `Client.scatter`."""

        async def put() -> Any:
            values = op.scattered_values(data)
            records = await data_op.scatter(self.session, values, as_names(workers), broadcast)
            return op.scattered_shape(data, [AsyncFuture(self.session, r) for r in records])

        return defer.Deferred.fromCoroutine(put())

    def cancel(self, futures: Any) -> None:
        """End tasks that have no result yet, and all that need them."""
        self.session.cancel([each._record.id for each in op.flatten(futures)])

    def fire_and_forget(self, futures: Any) -> None:
        """Let tasks run to their end even when no future of them is left."""
        self.session.let_run([each._record.id for each in op.flatten(futures)])

    @property
    def is_open(self) -> bool:
        """As of `Client.is_open`."""
        return self.session.is_connected

    def run_coroutine(self, function: Callable[..., Any], *args: Any) -> defer.Deferred[Any]:
        """A Deferred of what a coroutine function gives; for our own modules."""
        return defer.Deferred.fromCoroutine(function(*args))

    @staticmethod
    def make_future(session: Session, record: Record) -> AsyncFuture:
        """A future of the kind that this client gives; for our own modules."""
        return AsyncFuture(session, record)

    def wait_for_workers(self, n: int = 1, timeout: float | None = None) -> defer.Deferred[None]:
        """Fires once *n* workers are registered; fails with TimeoutError."""
        return defer.Deferred.fromCoroutine(op.wait_for_workers(self.session, n, timeout))

    def _query(self, what: str, arguments: Any = None) -> defer.Deferred[Any]:
        return defer.Deferred.fromCoroutine(self.session.query(what, arguments))

    def who_has(self, futures: Any = None) -> defer.Deferred[dict[str, list[str]]]:
        """Fires with ``{key: [addresses of the workers that hold it]}``."""
        ids = None if futures is None else [f._record.id for f in op.flatten(futures)]
        return self._query("who_has", ids)

    def has_what(self) -> defer.Deferred[dict[str, list[str]]]:
        """Fires with ``{worker address: [keys it holds]}``."""
        return self._query("has_what")

    def nthreads(self) -> defer.Deferred[dict[str, int]]:
        """Fires with ``{worker address: threads}``."""
        return self._query("nthreads")

    ncores = nthreads

    def scheduler_info(self) -> defer.Deferred[dict[str, Any]]:
        """Fires with what the scheduler is and sees."""
        return self._query("info")
