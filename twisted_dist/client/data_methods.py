"""What `Client` and `AsyncClient` do alike with results that workers hold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from twisted_dist.client import data as data_op
from twisted_dist.client import logs as log_op
from twisted_dist.client.future import BaseFuture, Record
from twisted_dist.client.retiring import retire_workers
from twisted_dist.client.session import Session


class DataMethods:
    """Copies, moves, names and forgets data.

    The methods block and give what is said, with a `Client`; with an `AsyncClient` they give
    Deferreds of it.
    """

    @property
    @abstractmethod
    def session(self) -> Session:
        """The session below."""

    @abstractmethod
    def run_coroutine(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a coroutine function in the reactor's thread; for our own modules."""

    @staticmethod
    @abstractmethod
    def make_future(session: Session, record: Record) -> BaseFuture:
        """A future of the kind that this client gives; for our own modules."""

    def logs(self, what: Any = None, worker: str | None = None) -> Any:
        """What tasks have written to standard output and standard error, logging included.

        The scheduler keeps the last 256 KiB of each worker, also of one that is gone, and 64 KiB
        of each attempt at a task. Of a worker without a nanny nothing is kept.

        Args:
            what: futures, or keys, whose output is wanted; by default everybody's, and what no
                task of Python's wrote.
            worker: the name of one worker, or its address if it has none.

        Returns:
            A list of `LogEntry` in the order in which the scheduler heard of them.
        """
        return self.run_coroutine(log_op.all_of, self.session, log_op.as_keys(what), worker)

    def replicate(self, futures: Any, n: int | None = None) -> Any:
        """Keep *n* copies of results, on as many workers; by default one on each.

        The factor is kept up: where a copy is lost, or fewer workers were there than copies
        are wanted, others are made when they can be. ``n=1`` ends that. Returns when the
        copies of results that exist by now are made.
        """
        return self.run_coroutine(data_op.replicate, self.session, futures, n)

    def rebalance(self, futures: Any = None, workers: str | Iterable[str] | None = None) -> Any:
        """Move results from workers that hold most bytes to those that hold least.

        Args:
            futures: whose results may be moved; all by default, other clients' too.
            workers: addresses, hosts or names of workers to be evened out; all by default.
        """
        return self.run_coroutine(data_op.rebalance, self.session, futures, workers)

    def publish_dataset(
        self, *data: Any, name: str | None = None, override: bool = False, **datasets: Any
    ) -> Any:
        """Publish a value, with futures in it, for other clients and later ones.

        ``publish_dataset(value, name="x")`` or ``publish_dataset(x=value, y=other)``. The
        results of the futures are held until `unpublish_dataset`.

        Raises:
            RefusedError: there is one of that name already, and *override* is not set.
            UsageProblem: the value takes more than a megabyte beside its futures.
        """
        named = data_op.named(data, name, datasets)
        return self.run_coroutine(data_op.publish, self.session, named, override)

    def get_dataset(self, name: str) -> Any:
        """A published value, with futures of this client's in it. Raises RefusedError."""
        return self.run_coroutine(data_op.dataset, self.session, self.make_future, name)

    def list_datasets(self) -> Any:
        """The names of all published values."""
        return self.run_coroutine(self.session.ask, "datasets")

    def unpublish_dataset(self, name: str) -> Any:
        """Let go of a published value. Raises RefusedError where there is none."""
        return self.run_coroutine(self.session.ask, "unpublish", name)

    def retire_workers(
        self,
        workers: str | Iterable[str] | None = None,
        n: int | None = None,
        timeout: float | None = 300.0,
    ) -> Any:
        """Have workers leave gracefully; returns ``{address: name}`` once they have.

        They get no new tasks, hand back what they have not begun, end what they run, and their
        results go to others; then their processes end. Needs an admin's access.

        Args:
            workers: addresses, hosts or names.
            n: how many of them, or of all: those that hold least.
            timeout: seconds after which they leave all the same, and what they had is lost
                and, if need be, run again; None for never.

        Raises:
            RefusedError: there is no such worker, or this access is not an admin's.
        """
        return self.run_coroutine(retire_workers, self.session, workers, n, timeout)

    def restart(self, timeout: float = 60.0) -> Any:
        """Cancel all tasks, forget all data, and start the workers' processes anew.

        Futures of all clients become ``cancelled``, but for those whose values have come
        already; datasets, variables and queues are emptied, uploads forgotten. Returns when
        all workers are back. Needs an admin's access.

        Raises:
            TimeoutError: some are not back within *timeout* seconds; says which.
            RefusedError: this access is not an admin's.
        """
        return self.run_coroutine(data_op.restart, self.session, timeout)
