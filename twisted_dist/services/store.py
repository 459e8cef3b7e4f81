"""`Store`: the values that a worker holds, in memory and, above a target, on disk."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from twisted.internet import defer, threads
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.aliases import TaskId, Value
from twisted_dist.execution.payloads import value_nbytes
from twisted_dist.segments.files import File, on_disk
from twisted_dist.segments.segment import ALIGNMENT, Segment, new_tag, offsets, span

#: what takes less stays in memory: on disk it would still need a third of that there
LEAST_SPILLED: Final = 1024
#: bytes that are written to disk in one go: between two goes it is seen whether more must
BATCH_BYTES: Final = 32 * 2**20
#: seconds until a disk that was full is tried again
RETRY_S: Final = 5.0
_WRITE_BYTES: Final = 4 * 2**20

#: a value, and what it becomes
Moved = tuple[TaskId, Value, Segment]


class Store:
    """Values by id.

    What is used is moved to disk last. A value on disk is read where it is, by tasks and by
    peers, through the system's own cache of the disk: it does not come back.

    Args:
        reactor: for time, and the threads that write to disk.
        directory: on which disk.
        in_thread: as `twisted.internet.threads.deferToThreadPool`'s short form.

    Attributes:
        memory: bytes that values take in memory.
        disk: bytes that they take on disk.
        is_stuck: nothing can be moved to disk, though something should be.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: str | None = None,
        in_thread: Callable[..., defer.Deferred[Any]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._directory = directory or tempfile.gettempdir()
        self._in_thread = in_thread or self._by_pool
        self._values: dict[TaskId, Value] = {}
        #: {value in memory that could be on disk: its bytes}, that used last at the end
        self._movable: OrderedDict[TaskId, int] = OrderedDict()
        self.memory = self.disk = 0
        self._target: int | None = None
        self._moving: defer.Deferred[None] | None = None
        self._not_before = 0.0
        self.is_stuck = False
        self._is_closed = False

    def _by_pool(self, function: Callable[..., Any], *args: Any) -> defer.Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return threads.deferToThreadPool(self._reactor, pool, function, *args)

    # -- values

    def get(self, task_id: TaskId) -> Value | None:
        """A value, None where it is not here."""
        if task_id in self._movable:
            self._movable.move_to_end(task_id)
        return self._values.get(task_id)

    def __getitem__(self, task_id: TaskId) -> Value:
        if task_id in self._movable:
            self._movable.move_to_end(task_id)
        return self._values[task_id]

    def __contains__(self, task_id: TaskId) -> bool:
        return task_id in self._values

    def __iter__(self) -> Iterator[TaskId]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def update(self, ids: Sequence[TaskId], values: Sequence[Value], nbytes: Sequence[int]) -> None:
        """Hold values; *nbytes* is what each takes."""
        if not ids:
            return
        if max(nbytes) < LEAST_SPILLED and self._values.keys().isdisjoint(ids):  # as a rule
            self._values.update(zip(ids, values))
            self.memory += sum(nbytes)
            return
        self.discard(ids)
        for task_id, value, size in zip(ids, values, nbytes):
            self._set(task_id, value, size)

    def _set(self, task_id: TaskId, value: Value, size: int) -> None:
        self._values[task_id] = value
        if isinstance(value, Segment) and not value.in_memory:
            self.disk += size
            return
        self.memory += size
        if size >= LEAST_SPILLED:
            self._movable[task_id] = size

    def discard(self, ids: Iterable[TaskId]) -> None:
        """Let go of values; of those that are not here, nothing."""
        for task_id in ids:
            value = self._values.pop(task_id, None)
            if value is None:
                continue
            self._movable.pop(task_id, None)
            if isinstance(value, Segment) and not value.in_memory:
                self.disk -= value.nbytes
                continue
            self.memory -= value_nbytes(value)

    def clear(self) -> None:
        """Let go of all."""
        self.discard(list(self._values))

    def close(self) -> defer.Deferred[None]:
        """Let go of all, and fires when nothing is being written any more."""
        self._is_closed = True
        self.clear()
        return self._moving or defer.succeed(None)

    # -- disk

    @property
    def is_moving(self) -> bool:
        """Whether values are being written to disk."""
        return self._moving is not None

    @property
    def directory(self) -> str:
        """On which disk."""
        return self._directory

    def keep_below(self, target: int) -> None:
        """Move values to disk, oldest first, while more than *target* bytes are in memory."""
        self._target = target
        if self.memory <= target:
            self.is_stuck = False
        elif self._moving is None and self._reactor.seconds() >= self._not_before:
            self._begin()

    def _begin(self) -> None:
        assert self._target is not None
        chosen: list[tuple[TaskId, Value]] = []
        wanted = min(self.memory - self._target, BATCH_BYTES)
        for task_id, size in self._movable.items():
            if wanted <= 0:
                break
            chosen.append((task_id, self._values[task_id]))
            wanted -= size
        if not chosen:
            return
        moved: list[Moved] = []
        self._moving = self._in_thread(_move, self._directory, chosen, moved)
        self._moving.addCallbacks(self._succeeded, self._failed)
        self._moving.addCallback(lambda _: self._moved(moved))

    def _succeeded(self, _: None) -> None:
        self.is_stuck = False

    def _failed(self, failure: Failure) -> None:
        self._not_before = self._reactor.seconds() + RETRY_S
        problem = failure.value
        full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
        if not self.is_stuck:
            why = "it is full" if full else failure.getErrorMessage()
            self.log.error("cannot move values to {d}: {why}", d=self._directory, why=why)
        self.is_stuck = True

    def _moved(self, moved: list[Moved]) -> None:
        self._moving = None
        for task_id, old, new in moved:
            if self._values.get(task_id) is old:
                self.discard([task_id])
                self._set(task_id, new, new.nbytes)
        if self._target is not None and not self._is_closed:
            self.keep_below(self._target)


def _move(directory: str, chosen: list[tuple[TaskId, Value]], moved: list[Moved]) -> None:
    """In a thread: write values to a file each, small ones together. Raises OSError."""
    small: list[tuple[TaskId, bytes | list[bytes]]] = []
    for task_id, value in chosen:
        if isinstance(value, Segment):
            moved.append((task_id, value, _copied(directory, value)))
        else:
            small.append((task_id, value))
    if not small:
        return
    file = File(on_disk(directory))
    written: list[Moved] = []
    start = 0
    for task_id, value in small:
        buffers = [value] if isinstance(value, bytes) else value
        segment = Segment(file, start, new_tag(), list(map(len, buffers)), in_memory=False)
        _write(file.fd, start, segment.tag)
        for at, each in zip(offsets(segment.lengths), buffers):
            _write(file.fd, start + at, each)
        start += segment.span
        written.append((task_id, value, segment))
    os.ftruncate(file.fd, start)
    moved += written


def _copied(directory: str, value: Segment) -> Segment:
    file = File(on_disk(directory))
    os.ftruncate(file.fd, span(value.lengths))
    tag = new_tag()
    _write(file.fd, 0, tag)
    for at in range(ALIGNMENT, value.span, _WRITE_BYTES):
        _write(file.fd, at, value.read(at, min(_WRITE_BYTES, value.span - at)))
    return Segment(file, 0, tag, value.lengths, in_memory=False)


def _write(fd: int, at: int, data: bytes) -> None:
    view = memoryview(data)
    while view.nbytes:
        done = os.pwrite(fd, view, at)
        view = view[done:]
        at += done
