"""`Client`: the blocking front of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from twisted_dist.access.find import GivenAccess
from twisted_dist.access.roles import WORKER
from twisted_dist.client import data as data_op
from twisted_dist.client import logs as log_op
from twisted_dist.client import operations as op
from twisted_dist.client.blocking import acquire_shared, release_shared
from twisted_dist.client.current import note_client
from twisted_dist.client.errands import RunMethods
from twisted_dist.client.future import Future, Record
from twisted_dist.client.logs import LogEntry
from twisted_dist.client.options import as_names, as_options
from twisted_dist.client.session import Session, as_client
from twisted_dist.errors import TwistedDistError
from twisted_dist.execution.current import Pass, while_waiting
from twisted_dist.wire.membership import Membership

if TYPE_CHECKING:
    from twisted_dist.launchers.local import LocalCluster
    from twisted_dist.launchers.ssh_cluster import SSHCluster


class Client(RunMethods):
    """Submits work to a network from any thread, script, REPL or notebook.

    Args:
        address: the scheduler's ``host:port``, or a `LocalCluster` or `SSHCluster`; nothing
            starts a `LocalCluster` that ends with this client.
        timeout: seconds to wait for a scheduler that is not there yet.
        name: shown by the scheduler.
        access: an `Access`, the path of an access file, or a join string; by default looked
            for in ``TWISTED_DIST_ACCESS`` and in the user's home.
        insecure: the scheduler was started with ``--insecure``: no TLS, no credentials.

    Raises:
        ConnectError: nothing answered in time.
        AccessError: there is no access for that scheduler here.
        RefusedError: it does not let this access in, or not as a client.
    """

    #: what dask asks of a client that is given as ``scheduler=``
    asynchronous: Final = False

    def __init__(
        self,
        address: str | LocalCluster | SSHCluster | None = None,
        timeout: float = 10.0,
        name: str = "",
        access: GivenAccess = None,
        insecure: bool = False,
    ) -> None:
        self.cluster: Any = None
        membership = as_client(access, insecure)
        if address is None:
            from twisted_dist.launchers.local import LocalCluster

            address = self.cluster = LocalCluster()
        if not isinstance(address, str):
            address = address.scheduler_address
        try:
            self._connect(address, name, membership, timeout)
        except BaseException:
            if self.cluster is not None:
                self.cluster.close()
            raise
        note_client(self)

    def _connect(
        self, address: str, name: str, membership: Membership, timeout: float, ticket: bytes = b""
    ) -> None:
        self.address = address
        self._session: Session | None = None
        self._thread = acquire_shared()
        session = Session(self._thread.reactor, address, name, membership, ticket)
        try:
            self._thread.call(session.connect, timeout)
        except BaseException:  # Ctrl-C too, after which it would be connected all the same
            try:
                self._thread.call(session.close)
            finally:
                release_shared()
            raise
        self._session = session

    @classmethod
    def for_task(cls, given: Pass, name: str, timeout: float = 10.0) -> Client:
        """A client that submits on behalf of whoever submitted a task; see `get_client`."""
        client = cls.__new__(cls)
        client.cluster = None
        membership = Membership(given.access or None, not given.access, (WORKER,))
        client._connect(given.scheduler, name, membership, timeout, given.ticket)
        return client

    @property
    def is_open(self) -> bool:
        """Whether work can be submitted: neither closed, nor without its scheduler."""
        return self._session is not None and self._session.is_connected

    @property
    def session(self) -> Session:
        """The session below; for this package's own modules."""
        if self._session is None:
            raise TwistedDistError("this client is closed")
        return self._session

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._thread.call(function, *args)

    def run_coroutine(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a coroutine function in the reactor's thread and wait; for our own modules."""
        return while_waiting(self._thread.call, function, *args)

    @staticmethod
    def make_future(session: Session, record: Record) -> Future:
        """A future of the kind that this client gives; for our own modules."""
        return Future(session, record)

    # -- work

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
    ) -> Future:
        """Run ``func(*args, **kwargs)`` on the network; futures may be arguments.

        Args:
            func: the function.
            args: its arguments; futures in them, nested too, become their results.
            key: a name; tasks of one name share one computation, whoever submits them.
            workers: addresses, hosts or names of workers that may run it.
            allow_other_workers: others may, while none of those is there.
            resources: ``{name: amount}`` that it needs of what workers were started with; a
                worker runs no more at a time than it has for.
            retries: how often an exception of its own, or a timeout, is tried again.
            priority: higher runs earlier.
            timeout: seconds that an attempt may take; TimeoutError after the last.
            pure: name it by the function and the arguments, so that it is computed once.
            wait_for_worker: wait until some worker can run it. By default a task that no
                registered worker can fails with NoWorkerError; at once, or a minute after
                the last that could has left.
            kwargs: its keyword arguments.

        Raises:
            UsageProblem: something cannot be meant, or is too large; nothing was sent.
        """
        session = self.session
        options = as_options(
            workers, allow_other_workers, resources, retries, priority, timeout, wait_for_worker
        )
        keys = None if key is None else op.as_keys([key])
        (record,) = session.submitter.submit(func, ((args, kwargs),), options, keys, pure)
        return Future(session, record)

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
    ) -> list[Future]:
        """One task for each element (or each row of several iterables), in order.

        The first ones run while the last are pickled. Where an argument cannot be pickled, or
        an iterable raises, all tasks are released, and some may have run by then.

        Args:
            func: the function.
            iterables: its arguments.
            key: a name for each task, or one that is numbered.
            workers: as of `submit`, and so is all that follows.
            allow_other_workers: see there.
            resources: see there.
            retries: see there.
            priority: see there.
            timeout: see there.
            pure: see there.
            wait_for_worker: see there.
            kwargs: keyword arguments of every call.
        """
        session = self.session
        options = as_options(
            workers, allow_other_workers, resources, retries, priority, timeout, wait_for_worker
        )
        calls: Iterable[Any] = ((row, kwargs) for row in zip(*iterables))
        if key is not None:
            calls = list(calls)
            key = op.as_keys(key, len(calls))
        records = session.submitter.submit(func, calls, options, key, pure)
        return [Future(session, record) for record in records]

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
    ) -> Any:
        """Compute a dask graph; the results of *keys*, in their shape.

        The graph goes to the scheduler whole, and runs depth first, so that little data is
        held at a time. ``dask.config.set(scheduler=client.get)`` makes dask's collections
        compute here. Values in it that are too large for a message are scattered first, once
        a worker is there, and are lost with it.

        Args:
            dsk: ``{key: task}``; a task is a tuple of a function and its arguments, of which
                keys stand for their results. Or what dask's own collections have.
            keys: a key, or keys in nested lists.
            workers: as of `submit`, for all tasks, and so is all that follows.
            allow_other_workers: see there.
            resources: see there.
            retries: see there.
            priority: see there.
            timeout: see there.
            wait_for_worker: see there.

        Raises:
            UsageProblem: a key is missing, or the graph has a cycle; says which.
        """
        session = self.session
        options = as_options(
            workers, allow_other_workers, resources, retries, priority, timeout, wait_for_worker
        )
        graph, shaped = op.as_graph(dsk, keys)
        session.submitter.make_room()
        large = op.dumped(graph.data)
        data = self._call(data_op.put_large, session, self.make_future, large) if large else []
        records = session.submitter.submit_graph(graph, options, data)
        futures = [Future(session, record) for record in records]
        try:
            return shaped(self.gather(futures))
        finally:  # now, and not when the traceback of an error is let go
            for each in (*futures, *data):
                each.release()

    def gather(self, futures: Any, errors: str = "raise") -> Any:
        """The results of futures, in the shape given: one, a list, a tuple or a dict.

        Args:
            futures: futures, nested as you like.
            errors: ``raise`` the first failure, or ``skip`` what failed in lists.
        """
        op.check_errors(errors)
        records = [each._record for each in op.flatten(futures)]
        session = self.session
        session.records.wait_all(records, None)
        away = op.to_fetch(records, errors)
        if away:
            session.fetcher.fetch_blocking(away, None)
        return op.unpack(futures, errors == "skip")

    def scatter(
        self, data: Any, workers: str | Iterable[str] | None = None, broadcast: bool = False
    ) -> Any:
        """Put data on workers; futures in the shape given (a list, a dict, or one).

        Args:
            data: a list, tuple or dict is put element by element; anything else as one.
            workers: addresses, hosts or names of workers; by default any.
            broadcast: each element on every one of them, rather than in turn.

        Raises:
            UsageProblem: no such worker is registered.
        """
        names = as_names(workers)
        self.session.submitter.make_room()
        values = op.scattered_values(data)
        records = self._call(data_op.scatter, self.session, values, names, broadcast)
        return op.scattered_shape(data, [Future(self.session, record) for record in records])

    def cancel(self, futures: Future | Iterable[Future]) -> None:
        """End tasks that have no result yet, and all that need them."""
        self.session.cancel([each._record.id for each in op.flatten(futures)])

    def fire_and_forget(self, futures: Future | Iterable[Future]) -> None:
        """Let tasks run to their end even when no future of them is left."""
        self.session.let_run([each._record.id for each in op.flatten(futures)])

    # -- looking

    def who_has(self, futures: Iterable[Future] | None = None) -> dict[str, list[str]]:
        """``{key: [addresses of the workers that hold it]}``."""
        ids = None if futures is None else [each._record.id for each in op.flatten(futures)]
        return self._call(self.session.query, "who_has", ids)  # type: ignore[no-any-return]

    def has_what(self) -> dict[str, list[str]]:
        """``{worker address: [keys it holds]}``."""
        return self._call(self.session.query, "has_what")  # type: ignore[no-any-return]

    def nthreads(self) -> dict[str, int]:
        """``{worker address: threads}``."""
        return self._call(self.session.query, "nthreads")  # type: ignore[no-any-return]

    ncores = nthreads

    def scheduler_info(self) -> dict[str, Any]:
        """What the scheduler is and sees, worker by worker."""
        return self._call(self.session.query, "info")  # type: ignore[no-any-return]

    def follow_logs(self, what: Any = None, worker: str | None = None) -> Iterator[LogEntry]:
        """`logs`, and then what comes, for as long as this client is open: an endless iterator.

        Raises:
            ConnectionClosedError: the scheduler went away, or this client was closed.
        """
        keys = log_op.as_keys(what)
        return log_op.follow(self.session, self._call, keys, worker)

    def wait_for_workers(self, n: int = 1, timeout: float | None = None) -> None:
        """Block until *n* workers are registered. Raises TimeoutError."""
        self._call(op.wait_for_workers, self.session, n, timeout)

    # -- the end

    def close(self) -> None:
        """Release everything and disconnect; ends an embedded cluster. May be called twice.

        What `fire_and_forget` lets run, the scheduler has heard of then, unless it was out of
        reach for ten seconds, which is logged. One that takes nothing, as it is stopped, is
        given up after 20 seconds.
        """
        session, self._session = self._session, None
        if session is not None:
            self._call(session.close)
            release_shared()
            if self.cluster is not None:
                self.cluster.close()

    def shutdown(self) -> None:
        """End the network: every worker, the scheduler, then this client."""
        self._call(op.shutdown, self.session)
        self.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
