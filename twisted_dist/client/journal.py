"""What a client would have to say again to a scheduler that knows nothing of it.

Every record has an *origin*: the batch with which its task was submitted, or the data that was
scattered. A batch keeps the bytes that were sent, and refers to the origins of what its tasks
need. So all that may have to be computed again can be told again, and what nobody has a future
of, and nothing needs, is let go by Python itself.

A scheduler keeps the same, for the same reason (`core.transitions`): a lost result is computed
again from what it was made of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Union

from twisted_dist.aliases import Digest, TaskId
from twisted_dist.client.future import PENDING, Record
from twisted_dist.client.outbox import Batch, Ids
from twisted_dist.client.records import Records
from twisted_dist.wire import schema

if TYPE_CHECKING:
    from typing import TypeAlias

#: data is told so many at a time
AT_ONCE = 50_000
#: what data has for a holder whose number nobody knows any more
NO_HOLDER = 0


class Data:
    """The origin of a record of scattered data.

    Attributes:
        is_there: some worker has it. Before, nobody is told of it: who cannot find what was told
            takes it to be lost.
    """

    __slots__ = ("first", "is_there", "nbytes")

    def __init__(self, task_id: TaskId, nbytes: int, *, is_there: bool) -> None:
        self.first = task_id
        self.nbytes = nbytes
        self.is_there = is_there


Origin: TypeAlias = Union[Batch, Data]


class Journal:
    """Tells a client's story once more.

    Args:
        records: the client's.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        #: held while tasks get into the outbox and have their origin
        self.lock = threading.Lock()
        self._functions: dict[Digest, bytes] = {}
        #: tasks that run to their end whoever holds futures, as long as they do
        self._runaways: dict[TaskId, Record] = {}
        #: those of which no future is left here
        self._unheld: set[TaskId] = set()
        #: has the scheduler told that a task is of no use here any more
        self.drop: Callable[[TaskId], None] = lambda task_id: None
        self._cancelled: set[TaskId] = set()

    def add_function(self, digest: Digest, payload: bytes) -> None:
        """A function was defined by this message."""
        self._functions[digest] = payload

    def let_run(self, ids: Iterable[TaskId]) -> None:
        """These run to their end: they are kept until they have, though nobody else may."""
        for record in self._records.known(ids):
            if record.status is PENDING:
                self._runaways[record.id] = record
                self._records.when_done(record, self._has_run)

    @property
    def runs_on(self) -> bool:
        """Whether anything is to run to its end, and has not."""
        return bool(self._runaways)

    def _has_run(self, record: Record) -> None:
        if self._runaways.pop(record.id, None) is not None and record.id in self._unheld:
            self._unheld.remove(record.id)
            self.drop(record.id)

    def forget(self, task_id: TaskId) -> bool:
        """No future of a task is left; whether the scheduler is to be told that, now.

        What runs away is still owed to this client, which so learns when it has ended.
        """
        if task_id in self._runaways:
            self._unheld.add(task_id)
            return False
        return self._records.forget(task_id)

    def cancel(self, ids: Iterable[TaskId]) -> None:
        """These were cancelled, if the scheduler has heard of it."""
        for record in self._records.known(ids):
            if record.status is PENDING:
                self._cancelled.add(record.id)
                self._records.when_done(record, lambda record: self._cancelled.discard(record.id))

    def retell(self) -> tuple[list[bytes], list[TaskId]]:
        """The messages, in order, and ids of pending tasks that nobody can tell of any more.

        Those are futures that the scheduler handed to this client: others have submitted them.
        """
        with self.lock:
            living = self._records.all()
        orphans = [r.id for r in living if r.origin is None and r.value is None]
        origins = _all_of(each.origin for each in [*living, *self._runaways.values()])
        batches = [each for each in origins if isinstance(each, Batch) and each.payloads]
        # all of them: those that only earlier tasks had may be used again, and are not sent twice
        out = list(self._functions.values())
        data = [each for each in origins if isinstance(each, Data) and each.is_there]
        for start in range(0, len(data), AT_ONCE):
            part = data[start : start + AT_ONCE]
            out.append(
                schema.SCATTERED.pack(
                    [each.first for each in part], [each.nbytes for each in part], NO_HOLDER
                )
            )
        for batch in sorted(batches, key=lambda each: each.first):
            out += batch.payloads
        if self._runaways:
            out += schema.RUNAWAYS.encode(Ids(list(self._runaways)))
        released = [task_id for each in origins for task_id in self._unwanted(each)]
        if released:
            out += schema.RELEASE.encode(Ids(released))
        if self._cancelled:
            out += schema.CANCEL.encode(Ids(list(self._cancelled)))
        return out, orphans

    def _unwanted(self, origin: Origin) -> Iterable[TaskId]:
        """What telling of *origin* asks for, and this client has no use for any more."""
        if isinstance(origin, Data):
            ids: Iterable[TaskId] = (origin.first,)
        else:
            ids = origin.wanted_ids()
        return self._records.without_use(ids)


def _all_of(origins: Iterable[Origin | None]) -> list[Origin]:
    """These, and all that their tasks need, each once, in the order of their ids."""
    stack = [each for each in dict.fromkeys(origins) if each is not None]
    seen = dict.fromkeys(stack)
    while stack:
        each = stack.pop()
        if isinstance(each, Batch):
            for needed in list(each.needs):
                if needed not in seen:
                    seen[needed] = None
                    stack.append(needed)
    return sorted(seen, key=lambda each: each.first)
