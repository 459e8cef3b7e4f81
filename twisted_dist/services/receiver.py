"""A worker's uploads: gets what the scheduler has and it lacks, and holds tasks meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import frozen
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.aliases import TaskId, Value
from twisted_dist.core.worker_side import messages as m
from twisted_dist.services.executor import Executor, Values
from twisted_dist.wire import schema

#: numbers of the messages that are for a `Receiver`
FOR_RECEIVER: Final = (schema.UPLOADS.number, schema.UPLOAD_PIECE.number)


@frozen
class _Listed:
    """What the scheduler says that there is."""

    number: int
    name: str
    digest: bytes
    size: int


class Receiver:
    """Stands before the executor: a task runs when all is there that was listed before it came.

    Args:
        executor: takes uploads, and tasks.
        send: puts a payload on the task stream, and writes.
        is_current: whether a task that was held is still to be run.
    """

    log = Logger()

    def __init__(
        self,
        executor: Executor,
        send: Callable[[bytes], None],
        is_current: Callable[[m.WorkerTask], bool],
    ) -> None:
        self._executor = executor
        self._send = send
        self._is_current = is_current
        self._listed: dict[int, _Listed] = {}
        #: {name: digest} of what the executor has
        self._here: dict[str, bytes] = {}
        #: numbers of `_listed` that the scheduler was told about
        self._told: set[int] = set()
        self._getting: defer.Deferred[None] | None = None
        #: the number of the upload under way, and what fires with its next piece, or with None
        #: when it is not wanted any more
        self._awaited: tuple[int, defer.Deferred[bytes | None]] | None = None
        self._held: list[tuple[m.WorkerTask, dict[TaskId, Value]]] = []

    # -- from the scheduler

    def received(self, number: int, fields: dict[str, Any]) -> None:
        """One message of those for this."""
        if number == schema.UPLOADS.number:
            columns = (fields[each] for each in ("numbers", "names", "digests", "sizes"))
            self._listed = {row[0]: _Listed(*row) for row in zip(*columns)}
            self._told &= self._listed.keys()
            if self._awaited is not None and self._awaited[0] not in self._listed:
                self._answer(None)
            if self._getting is None and self._next() is not None:
                getting = defer.Deferred.fromCoroutine(self._get_all())
                self._getting = None if getting.called else getting
                getting.addErrback(self._failed)
        elif self._awaited is not None and self._awaited[0] == fields["number"]:
            self._answer(fields["blob"])

    def _answer(self, piece: bytes | None) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited[1].callback(piece)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(defer.CancelledError):
            self.log.failure("uploads cannot be had", failure=failure)
            self._go_on()

    def _next(self) -> _Listed | None:
        return next((each for each in self._listed.values() if each.number not in self._told), None)

    async def _get_all(self) -> None:
        while (wanted := self._next()) is not None:
            error = await self._get(wanted)
            if error is None:  # another one has taken its place
                continue
            if error:
                self.log.error("cannot have {name}: {error}", name=wanted.name, error=error)
            self._told.add(wanted.number)
            self._send(schema.UPLOADED.pack(wanted.number, error))
        self._go_on()

    async def _get(self, wanted: _Listed) -> str | None:
        """Get one; what is wrong, "" for nothing, None where it is not wanted any more."""
        if self._here.get(wanted.name) == wanted.digest:
            return ""
        data = bytearray()
        digest = hashlib.sha256()
        while True:
            awaited: defer.Deferred[bytes | None] = defer.Deferred()
            self._awaited = wanted.number, awaited
            self._send(schema.UPLOAD_WANTED.pack(wanted.number, len(data)))
            piece = await awaited
            if piece is None:
                return None
            data += piece
            digest.update(piece)
            if len(data) >= wanted.size or not piece:
                break
        if digest.digest() != wanted.digest:
            return "it came damaged"
        error = await self._executor.add_upload(wanted.name, wanted.digest, bytes(data))
        if not error:
            self._here[wanted.name] = wanted.digest
        return error

    def _go_on(self) -> None:
        """Run what was held."""
        self._getting = None
        held, self._held = self._held, []
        tasks = [task for task, _ in held if self._is_current(task)]
        if tasks:
            values: dict[TaskId, Value] = {}
            for _, needed in held:
                values |= needed
            self._executor.run(tasks, values)

    def lose(self) -> None:
        """The scheduler is gone: what is here stays, another one says what else there is."""
        getting = self._break_off()
        if getting is not None:
            self._go_on()

    def _break_off(self) -> defer.Deferred[None] | None:
        getting, self._getting = self._getting, None
        self._awaited = None
        if getting is not None:
            getting.cancel()
        self._listed.clear()
        self._told.clear()
        return getting

    def forget(self) -> None:
        """A new life begins: what was uploaded counts no more, nor does what waits for it."""
        getting = self._break_off()
        self._held.clear()
        if getting is not None or self._here:
            self._here.clear()
            self._executor.forget_uploads()

    # -- as the executor

    def run(self, tasks: Sequence[m.WorkerTask], values: Values) -> None:
        """Run tasks, as soon as what was listed is there."""
        if self._getting is None:
            self._executor.run(tasks, values)
        else:
            self._held += ((each, {need: values[need] for need in each.deps}) for each in tasks)

    def drop(self, ids: Sequence[TaskId]) -> None:
        """As the executor's."""
        self._take_back(set(ids))
        self._executor.drop(ids)

    def stop_tasks(self, ids: Sequence[TaskId], attempts: Sequence[int]) -> None:
        """As the executor's."""
        self._take_back(set(ids))
        self._executor.stop_tasks(ids, attempts)

    def _take_back(self, ids: set[TaskId]) -> None:
        if not self._held:
            return
        back = [task.id for task, _ in self._held if task.id in ids]
        self._held = [each for each in self._held if each[0].id not in ids]
        if back:
            self._executor.tell(m.ExecutionReturned(back))
