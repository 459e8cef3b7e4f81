"""What tasks have written to standard output and standard error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from twisted_dist.client.future import BaseFuture
from twisted_dist.client.operations import flatten
from twisted_dist.client.session import Session
from twisted_dist.errors import UsageProblem

#: seconds between questions of one who follows
FOLLOW_S: Final = 0.25
_STREAMS: Final = {1: "stdout", 2: "stderr"}


@frozen
class LogEntry:
    """A piece of what a task has written.

    Attributes:
        time: when the scheduler heard of it, seconds since the epoch.
        worker: the name of the worker, or its address.
        key: of the task; "" for what no task of Python's wrote: code in C, other processes.
        stream: ``"stdout"`` or ``"stderr"``.
        text: as it was written, line ends included.
    """

    time: float
    worker: str
    key: str
    stream: str
    text: str

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.time).strftime("%H:%M:%S")
        return f"{when} {self.worker} {self.key or '-'}: {self.text.rstrip()}"


def as_keys(what: Any) -> list[str] | None:
    """The keys of futures, in containers or alone, and of names; None for all tasks."""
    if what is None:
        return None
    if isinstance(what, str):
        return [what]
    if isinstance(what, (BaseFuture, dict)):
        return [each.key for each in flatten(what)]
    if isinstance(what, Iterable):
        return [key for each in what for key in as_keys(each) or ()]
    raise UsageProblem(f"logs of {what!r}: futures or keys are understood")


async def read(
    session: Session, keys: list[str] | None, worker: str | None, after: int
) -> tuple[list[LogEntry], int]:
    """All entries after a number, and the number to ask for next; in the reactor's thread."""
    found: list[LogEntry] = []
    while True:
        asked = {"after": after, "keys": keys, "worker": worker}
        answer = await session.query("logs", asked)
        for _, when, name, key, stream, text in answer["entries"]:
            found.append(LogEntry(when, name, key, _STREAMS.get(stream, "?"), text))
        if not answer["entries"] or answer["last"] == after:
            return found, answer["last"]
        after = answer["last"]


async def all_of(session: Session, keys: list[str] | None, worker: str | None) -> list[LogEntry]:
    """All entries; in the reactor's thread."""
    entries, _ = await read(session, keys, worker, 0)
    return entries


def follow(
    session: Session, call: Callable[..., Any], keys: list[str] | None, worker: str | None
) -> Iterator[LogEntry]:
    """Entries as they come, for ever; in a user's thread, by *call* from the reactor's."""
    pause = threading.Event()
    after = 0
    while True:
        entries, after = call(read, session, keys, worker, after)
        yield from entries
        if not entries:
            pause.wait(FOLLOW_S)
