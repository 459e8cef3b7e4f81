"""What clients do with results that workers hold: put, copy, move, publish, forget."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.task import deferLater

from twisted_dist.aliases import Value
from twisted_dist.client.future import Record
from twisted_dist.client.operations import LOOK_S, flatten, wait_done, wait_for_workers
from twisted_dist.client.options import as_names
from twisted_dist.client.parcels import MakeFuture, decline, unwrap
from twisted_dist.client.pickling import Calls
from twisted_dist.client.session import Session
from twisted_dist.errors import UsageProblem

#: seconds that copying and moving may take, beside the answer: more than a lease, so that a
#: worker that is lost meanwhile is given up before
COPY_S = 300.0


async def scatter(
    session: Session, values: list[Value], names: list[str], broadcast: bool
) -> list[Record]:
    """Put serialised values on workers, round robin over those that *names* permits, or on all.

    To have one on all, it is put on one, which gives it on to two, and so on.
    """
    workers = (await session.query("info"))["workers"]
    chosen = [
        address
        for address, about in workers.items()
        if about.get("status") != "retiring"
        and (not names or {address, about["name"], address.rpartition(":")[0]} & set(names))
    ]
    if not chosen:
        raise UsageProblem(f"no worker to hold the data{f' among {names}' if names else ''}")
    records = await session.scatter(values, chosen)
    if broadcast and len(chosen) > 1:
        parcel = Calls([b""], [[each.id for each in records]], bool(records), list(records))
        try:
            await session.ask("broadcast", "\n".join(chosen), parcel, timeout=COPY_S)
        except BaseException:
            for each in records:
                session.drop(each.id)
            raise
    return records


async def put_large(session: Session, make: MakeFuture, values: list[Value]) -> list[Any]:
    """Put what a graph's calls cannot carry on workers, once there are any; futures of it."""
    await wait_for_workers(session, 1, None, staying=True)
    return [make(session, each) for each in await scatter(session, values, [], broadcast=False)]


def _futures(futures: Any) -> Calls:
    """Futures to be sent along with a question."""
    ids = list(dict.fromkeys(each._record.id for each in flatten(futures)))
    return Calls([b""], [ids], bool(ids), list(flatten(futures)))


async def replicate(session: Session, futures: Any, n: int | None) -> None:
    """Have *n* copies of each; as many as there are workers where it is None."""
    await wait_done(session, [each._record for each in flatten(futures)])
    count = max(1, len(await session.query("nthreads"))) if n is None else n
    await session.ask("replicate", parcel=_futures(futures), number=count, timeout=COPY_S)


async def rebalance(session: Session, futures: Any, workers: Any) -> None:
    """Even out what workers hold."""
    if futures is not None:
        await wait_done(session, [each._record for each in flatten(futures)])
    names = "\n".join(as_names(workers))
    parcel = _futures(futures if futures is not None else ())
    if futures is not None and not parcel.any_deps:
        return  # nothing at all, where no futures at all would mean everything
    await session.ask("rebalance", names, parcel, timeout=COPY_S)


async def restart(session: Session, timeout: float) -> None:
    """Give everything up and start all workers anew. Raises TimeoutError."""
    reactor = session.reactor
    deadline = reactor.seconds() + timeout
    session.uploaded.clear()
    wanted = set(await session.ask("restart"))
    while True:
        missing = wanted - set(await session.query("nthreads"))
        if not missing:
            return
        if reactor.seconds() > deadline:
            names = ", ".join(sorted(missing))
            raise TimeoutError(f"not back within {timeout:g} s after the restart: {names}")
        await deferLater(reactor, LOOK_S)


async def publish(session: Session, datasets: dict[str, Any], override: bool) -> None:
    """Publish values by name."""
    for name, value in datasets.items():
        parcel = session.submitter.wrap(f"dataset {name!r}", value)
        await session.ask("publish", name, parcel, number=int(override))


async def dataset(session: Session, make: MakeFuture, name: str) -> Any:
    """A published value, with futures of this client in it."""
    told = await session.ask("dataset", name, late=partial(decline, session))
    return unwrap(session, make, told)


def named(data: tuple[Any, ...], name: str | None, datasets: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Client.publish_dataset` as ``{name: value}``."""
    if len(data) > 1 or (len(data) == 1) is not (name is not None):
        raise UsageProblem("publish_dataset(value, name='x') or publish_dataset(x=value, …)")
    return {**datasets, name: data[0]} if name is not None else datasets
