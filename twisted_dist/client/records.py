"""The client's side of its tasks: what they have become, and who waits for that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger

from twisted_dist.aliases import TaskId
from twisted_dist.client.future import FINISHED, LOST, PENDING, Countdown, ErredBy, Record
from twisted_dist.execution.current import while_waiting


class Records:
    """All records of a session. Thread-safe.

    Attributes:
        ended: how many are no longer pending, or were forgotten before.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._by_id: dict[TaskId, Record] = {}
        self.ended = 0

    def __getitem__(self, task_id: TaskId) -> Record:
        return self._by_id[task_id]

    def add(self, record: Record) -> None:
        """Keep a record."""
        self._by_id[record.id] = record

    def adopt(self, record: Record) -> None:
        """Keep one of a task that others have submitted; in the reactor's thread."""
        self.ended -= 1
        self.add(record)

    def make(
        self, first: TaskId, count: int, name: str, keys: Sequence[str] | None
    ) -> list[Record]:
        """Records of tasks from id *first* on, each with its key, or one made of *name*."""
        if keys is None:
            made = [Record(n, f"{name}-{n:x}") for n in range(first, first + count)]
        else:
            made = [Record(n, key) for n, key in enumerate(keys, first)]
        by_id = self._by_id
        for record in made:
            by_id[record.id] = record
        return made

    def known(self, ids: Iterable[TaskId]) -> list[Record]:
        """Those of *ids* that there are."""
        by_id = self._by_id
        return [by_id[each] for each in ids if each in by_id]

    def all(self) -> list[Record]:
        """All that there are."""
        return list(self._by_id.values())

    def without_use(self, ids: Iterable[TaskId]) -> list[TaskId]:
        """Those of *ids* of which there is no record, or one that has failed."""
        by_id = self._by_id
        return [n for n in ids if n not in by_id or by_id[n].error is not None]

    def forget(self, task_id: TaskId) -> bool:
        """Keep a record no longer; whether it was there."""
        record = self._by_id.pop(task_id, None)
        if record is None:
            return False
        self.ended += record.status is PENDING
        return True

    # -- what they become; in the reactor's thread

    def finished(
        self, ids: Iterable[TaskId], sizes: Iterable[int], values: Iterable[bytes | None]
    ) -> None:
        """Results exist; a value is None where it must be fetched."""
        by_id = self._by_id
        ended = 0
        waiting = []
        for task_id, nbytes, value in zip(ids, sizes, values):
            record = by_id.get(task_id)
            if record is None or record.error is not None:
                continue
            record.nbytes = nbytes
            if value is not None:
                record.value = value
            if record.status is PENDING:
                with self._lock:
                    record.status = FINISHED
                    waiters, record.waiters = record.waiters, None
                ended += 1
                if waiters:
                    waiting.append((record, waiters))
        self.ended += ended
        self._tell(waiting)

    def erred(self, task_id: TaskId, status: str, error: ErredBy) -> None:
        """A task has failed, or a result is lost."""
        record = self._by_id.get(task_id)
        # what is here cannot be lost, and what has failed does so once
        if record is not None and record.value is None and record.error is None:
            self._end(record, status, error)

    def _end(self, record: Record, status: str, error: ErredBy) -> None:
        self.ended += record.status is PENDING
        with self._lock:
            record.error = error
            record.status = status
            waiters, record.waiters = record.waiters, None
        self._tell([(record, waiters or [])])

    def lose_pending(self, text: str) -> None:
        """Nothing more will be heard of tasks."""
        for record in list(self._by_id.values()):
            if record.status is PENDING:
                self._end(record, LOST, ("connection", b"", text))

    def _tell(self, ended: Iterable[tuple[Record, Iterable[Callable[[Record], None]]]]) -> None:
        for record, waiters in ended:
            for each in waiters:
                try:
                    each(record)
                except Exception:
                    self._log.failure("a done callback failed")

    # -- waiting

    def when_done(self, record: Record, function: Callable[[Record], None]) -> None:
        """Call *function* in the reactor's thread when done; in this one if it is."""
        with self._lock:
            if record.status is PENDING:
                if record.waiters is None:
                    record.waiters = []
                record.waiters.append(function)
                return
        function(record)

    def wait_all(self, records: Sequence[Record], timeout: float | None) -> None:
        """Block until all are done. Raises TimeoutError."""
        pending = [each for each in records if each.status is PENDING]
        if not pending:
            return
        countdown = Countdown(len(pending))
        for each in pending:
            self.when_done(each, countdown)
        if not while_waiting(countdown.wait, timeout):
            left = sum(each.status is PENDING for each in pending)
            raise TimeoutError(f"{left} of {len(records)} tasks not done within {timeout} s")
