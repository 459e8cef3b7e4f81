"""Values with futures in them that came from other clients by way of the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from twisted_dist.client.future import BaseFuture, Record
from twisted_dist.client.session import Session
from twisted_dist.execution.payloads import load_call

#: makes a client's own kind of future
MakeFuture: TypeAlias = Callable[[Session, Record], BaseFuture]


def unwrap(session: Session, make: MakeFuture, told: Sequence[Any]) -> Any:
    """The value, with futures of this client in the places of those that it was made with."""
    blob, ids, keys = told
    futures = [make(session, record) for record in session.adopt(ids, keys)]
    (value,), _ = load_call(blob, futures)
    return value


def decline(session: Session, told: Sequence[Any] | None) -> None:
    """Let go of the futures in a value that came when nobody waited for it any more."""
    if told is not None:
        _, ids, keys = told
        for record in session.adopt(ids, keys):
            session.drop(record.id)
