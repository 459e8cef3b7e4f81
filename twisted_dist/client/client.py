"""`Client`: the blocking front of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from twisted_dist.access.find import GivenAccess
from twisted_dist.client import operations as op
from twisted_dist.client.blocking import acquire_shared, release_shared
from twisted_dist.client.future import Future
from twisted_dist.client.session import Session, as_client
from twisted_dist.errors import TwistedDistError


class Client:
    """Submits work to a network from any thread, script, REPL or notebook.

    Args:
        address: the scheduler's ``host:port``; nothing starts an embedded `LocalCluster`
            that ends with this client.
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

    def __init__(
        self,
        address: str | None = None,
        timeout: float = 10.0,
        name: str = "",
        access: GivenAccess = None,
        insecure: bool = False,
    ) -> None:
        membership = as_client(access, insecure)
        self.cluster: Any = None
        self._session: Session | None = None
        if address is None:
            from twisted_dist.launchers.local import LocalCluster

            self.cluster = LocalCluster()
            address = self.cluster.scheduler_address
        self.address = address
        self._thread = acquire_shared()
        session = Session(self._thread.reactor, address, name, membership)
        try:
            self._thread.call(session.connect, timeout)
        except BaseException:
            release_shared()
            if self.cluster is not None:
                self.cluster.close()
            raise
        self._session = session

    @property
    def session(self) -> Session:
        """The session below; for this package's own modules."""
        if self._session is None:
            raise TwistedDistError("this client is closed")
        return self._session

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._thread.call(function, *args)

    # -- work

    def submit(
        self,
        func: Callable[..., Any],
        *args: Any,
        key: str | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        retries: int = 0,
        priority: int = 0,
        **kwargs: Any,
    ) -> Future:
        """Run ``func(*args, **kwargs)`` on the network; futures may be arguments.

        Args:
            func: the function.
            args: its arguments; futures in them, nested too, become their results.
            key: a name; tasks of one name share one computation.
            workers: addresses, hosts or names of workers that may run it.
            allow_other_workers: others may, when none of those is there.
            retries: how often an exception of its own is tried again.
            priority: higher runs earlier.
            kwargs: its keyword arguments.
        """
        session = self.session
        names = op.as_names(workers)
        (record,) = session.submit(
            func, [(args, kwargs)], key, names, allow_other_workers, retries, priority
        )
        return Future(session, record)

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any],
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        retries: int = 0,
        priority: int = 0,
        **kwargs: Any,
    ) -> list[Future]:
        """One task for each element (or each row of several iterables), in order."""
        session = self.session
        records = session.submit(
            func,
            ((row, kwargs) for row in zip(*iterables)),
            None,
            op.as_names(workers),
            allow_other_workers,
            retries,
            priority,
        )
        return [Future(session, record) for record in records]

    def gather(self, futures: Any, errors: str = "raise") -> Any:
        """The results of futures, in the shape given: one, a list, a tuple or a dict.

        Args:
            futures: futures, nested as you like.
            errors: ``raise`` the first failure, or ``skip`` what failed in lists.
        """
        op.check_errors(errors)
        records = [each._record for each in op.flatten(futures)]
        session = self.session
        session.wait_all(records, None)
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
        names = op.as_names(workers)
        values = op.scattered_values(data)
        records = self._call(op.scatter, self.session, values, names, broadcast)
        return op.scattered_shape(data, [Future(self.session, record) for record in records])

    def cancel(self, futures: Future | Iterable[Future]) -> None:
        """End tasks that have no result yet, and all that need them."""
        self.session.cancel([each._record.id for each in op.flatten(futures)])

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

    def wait_for_workers(self, n: int = 1, timeout: float | None = None) -> None:
        """Block until *n* workers are registered. Raises TimeoutError."""
        self._call(op.wait_for_workers, self.session, n, timeout)

    # -- the end

    def close(self) -> None:
        """Release everything and disconnect; ends an embedded cluster. May be called twice."""
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
