"""What both clients can do besides submitting: coroutines over a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.task import deferLater

from twisted_dist.aliases import Value
from twisted_dist.client.future import BaseFuture, Record
from twisted_dist.client.graphs import GraphReader, PickledGraph
from twisted_dist.client.options import check_text
from twisted_dist.client.rpc import terminate
from twisted_dist.client.session import Session
from twisted_dist.errors import UsageProblem
from twisted_dist.execution.payloads import dump_value
from twisted_dist.segments.files import CAN_SHARE

#: seconds between looks at how many workers there are
LOOK_S = 0.02


def check_errors(errors: str) -> None:
    """Refuse an ``errors=`` that means nothing."""
    if errors not in ("raise", "skip"):
        raise UsageProblem(f"errors={errors!r}: it is 'raise' or 'skip'")


def as_keys(key: str | Sequence[str] | None, count: int | None = None) -> list[str] | None:
    """``key=`` of `map` as a name for each task: given, or numbered from one."""
    if key is None:
        return None
    names = [f"{key}-{n}" for n in range(count or 0)] if isinstance(key, str) else list(key)
    if not all(isinstance(each, str) and each for each in names):
        raise UsageProblem(f"key={key!r}: names are strings that are not empty")
    check_text("key", *names)
    return names


def as_graph(dsk: Any, keys: Any) -> tuple[PickledGraph, Callable[[list[Any]], Any]]:
    """A graph to submit, and what puts its outputs' results in the shape of *keys*."""
    reader = GraphReader(dsk)
    graph = reader.read(keys)

    def shaped(values: list[Any], each: Any = keys) -> Any:
        if isinstance(each, list):
            return [shaped(values, one) for one in each]
        return values[reader.place(each)]

    return graph, shaped


def flatten(futures: Any) -> Iterator[BaseFuture]:
    """All futures in nested containers."""
    if isinstance(futures, BaseFuture):
        yield futures
    elif isinstance(futures, dict):
        yield from flatten(futures.values())
    elif isinstance(futures, Iterable) and not isinstance(futures, (str, bytes)):
        for each in futures:
            yield from flatten(each)


def unpack(futures: Any, skip: bool) -> Any:
    """*futures* with each future replaced by its result."""
    if isinstance(futures, BaseFuture):
        return futures._record.result()
    if isinstance(futures, dict):
        return {k: unpack(f, skip) for k, f in futures.items() if not (skip and _failed(f))}
    if isinstance(futures, Iterable) and not isinstance(futures, (str, bytes)):
        values: Sequence[Any] = [unpack(f, skip) for f in futures if not (skip and _failed(f))]
        return type(futures)(values) if isinstance(futures, (tuple, set)) else values
    return futures


def _failed(future: Any) -> bool:
    return isinstance(future, BaseFuture) and future._record.error is not None


def to_fetch(records: Sequence[Record], errors: str) -> list[Record]:
    """Of done records, those whose value is elsewhere; raises the first failure."""
    if errors == "raise":
        for record in records:
            problem = record.exception()
            if problem is not None:
                raise problem
    return [r for r in records if r.value is None and r.error is None]


def scattered_values(data: Any) -> list[Value]:
    """What `scatter` is to put on workers: the elements of a list, tuple or dict, or one.

    Serialised here: a blocking client does so in its user's thread, where what is large
    may take its time.
    """
    if isinstance(data, dict):
        return dumped(data.values())
    return dumped(data if isinstance(data, (list, tuple)) else [data])


def dumped(values: Iterable[Any]) -> list[Value]:
    """Values serialised, large ones into memory that workers of this host can read."""
    return [dump_value(each, CAN_SHARE) for each in values]


def scattered_shape(data: Any, futures: list[Any]) -> Any:
    """The futures in the shape of *data*."""
    if isinstance(data, dict):
        return dict(zip(data, futures))
    return futures if isinstance(data, (list, tuple)) else futures[0]


async def wait_for_workers(
    session: Session, n: int, timeout: float | None, *, staying: bool = False
) -> None:
    """Until *n* workers are registered, which (*staying*) do not retire. Raises TimeoutError."""
    reactor = session.reactor
    deadline = None if timeout is None else reactor.seconds() + timeout
    while True:
        workers = (await session.query("info"))["workers"].values() if staying else ()
        there = sum(each.get("status") != "retiring" for each in workers)
        if not staying:
            there = len(await session.query("nthreads"))
        if there >= n:
            return
        if deadline is not None and reactor.seconds() > deadline:
            raise TimeoutError(f"{there} of {n} workers registered within {timeout} s")
        await deferLater(reactor, LOOK_S)


async def wait_done(session: Session, records: Sequence[Record]) -> None:
    """Until none of *records* is pending."""
    left = len(records)
    done: defer.Deferred[None] = defer.Deferred()

    def one(_record: Record) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.callback(None)

    for record in records:
        session.records.when_done(record, one)
    if records:
        await done


async def shutdown(session: Session) -> None:
    """End every worker, then the scheduler. RefusedError unless this client is an admin's."""
    for address in list(await session.query("nthreads")):
        await terminate(session.reactor, address, session.membership.to_worker())
    entry = session.membership.to_scheduler(session.address)
    await terminate(session.reactor, session.address, entry)
