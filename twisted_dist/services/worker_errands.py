"""A worker's errands: from the scheduler to what runs them, and how they ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from attrs import frozen

from twisted_dist.aliases import TaskId, Value
from twisted_dist.core.task import RAISED
from twisted_dist.core.worker_side.machine import INLINE_BYTES
from twisted_dist.execution.errand_rules import HELD, VALUE
from twisted_dist.wire import schema

#: numbers of the messages that are for `WorkerErrands`
FOR_ERRANDS: Final = (schema.ERRAND.number, schema.STOP_ERRANDS.number)


@frozen
class Ended:
    """How an errand has ended.

    Attributes:
        kind: `VALUE`, or why there is none (`core.task`).
        value: the result.
        nbytes: of it.
        blob: the pickled exception, of what has raised one.
        text: its traceback, or another reason.
    """

    kind: str
    value: Value = b""
    nbytes: int = 0
    blob: bytes = b""
    text: str = ""


def as_ended(value: Value, nbytes: int, error: Iterable[Any] | None) -> Ended:
    """What a runner's outcome is."""
    if error is None:
        return Ended(VALUE, value, nbytes)
    blob, text = error
    return Ended(RAISED, blob=blob, text=text)


class ErrandExecutor(Protocol):
    """Runs errands. All calls, and all of *done*, happen in the reactor's thread."""

    done: Callable[[TaskId, Ended], None]

    def run(self, errand: TaskId, blob: bytes) -> None:
        """Make a call, at once; ends with one call of *done*."""

    def stop(self, ids: Iterable[TaskId]) -> None:
        """End these, politely."""

    def close(self) -> None:
        """End all."""


class WorkerErrands:
    """The errands of one session with a scheduler.

    Args:
        executor: runs them.
        send: puts a payload on the task stream, and writes.
        keep: holds a large result, and tells the scheduler that it is here.
        flush: told before an end is told: what was written before is to be known.
    """

    def __init__(
        self,
        executor: ErrandExecutor,
        send: Callable[[bytes], None],
        keep: Callable[[list[TaskId], list[Value]], object],
        flush: Callable[[], None],
    ) -> None:
        self._executor = executor
        executor.done = self._done
        self._send = send
        self._keep = keep
        self._flush = flush
        self._under_way: set[TaskId] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def received(self, number: int, fields: dict[str, Any]) -> None:
        """One message of those for this."""
        if number == schema.ERRAND.number:
            self._under_way.add(fields["id"])
            self._executor.run(fields["id"], fields["blob"])
        else:
            self._forget(fields["ids"])

    def _forget(self, ids: Iterable[TaskId]) -> None:
        wanted = [each for each in ids if each in self._under_way]
        self._under_way.difference_update(wanted)
        if wanted:
            self._executor.stop(wanted)

    def lose(self) -> None:
        """Nobody waits for them any more."""
        self._forget(sorted(self._under_way))

    def _done(self, errand: TaskId, ended: Ended) -> None:
        if errand not in self._under_way:
            return
        self._under_way.discard(errand)
        self._flush()
        kind, blob = ended.kind, ended.blob
        if kind == VALUE and type(ended.value) is bytes and ended.nbytes <= INLINE_BYTES:
            blob = ended.value
        elif kind == VALUE:
            kind = HELD
            self._keep([errand], [ended.value])
        self._send(schema.ERRAND_DONE.pack(errand, kind, ended.nbytes, blob, ended.text))
