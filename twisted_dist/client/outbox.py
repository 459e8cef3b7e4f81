"""What a client is about to send: payloads, and submissions that still gather.

Single submissions that follow one another become one message, as a `map` is: a message for
each would cost client and scheduler ten times as much as the task in it. One that comes
when nothing else is there is ready to go at once, and what follows gathers behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from twisted_dist.aliases import Digest, TaskId
from twisted_dist.client.options import WireOptions
from twisted_dist.client.pickling import Calls
from twisted_dist.wire import schema
from twisted_dist.wire.frames import TARGET_BYTES

#: bytes of a task in a message beside its call: its id among others' dependencies
ID_BYTES: Final = 9
#: a batch stops to gather there; it is sent in pieces anyway
MOST_GATHERED: Final = 50_000
MOST_FUNCTIONS: Final = 16


class Batch:
    """Tasks with consecutive ids and the same options."""

    __slots__ = (
        "_count",
        "any_deps",
        "calls",
        "deps",
        "digests",
        "first",
        "keys",
        "needs",
        "options",
        "payloads",
        "shared",
        "wanted",
        "which",
    )

    def __init__(self, first: TaskId, options: WireOptions, shared: bool) -> None:
        self.first = first
        self.options = options
        self.shared = shared
        self.digests: list[Digest] = []
        self.which: list[int] = []
        self.calls: list[bytes] = []
        self.deps: list[list[TaskId]] = []
        self.keys: list[str] = []
        #: positions that are wanted; None for all
        self.wanted: list[int] | None = None
        self.any_deps = False
        #: origins (`client.journal`) of inputs that earlier submissions make
        self.needs: set[Any] = set()
        #: what was sent; the columns are empty from then on
        self.payloads: list[bytes] = []
        self._count = 0

    def wanted_ids(self) -> Iterable[TaskId]:
        """The tasks that the client was to have futures of."""
        if self.wanted is not None:
            return [self.first + each for each in self.wanted]
        return range(self.first, self.first + self._count)

    def send(self) -> list[bytes]:
        """`encode`, once; what was sent is all that is kept."""
        self.payloads = self.encode()
        self._count = len(self.calls)
        self.which, self.calls, self.deps, self.keys = [], [], [], []
        return self.payloads

    def send_alone(self, digest: Digest, pickled: Calls, keys: Sequence[str]) -> bytes:
        """The one payload of a single task."""
        self.digests.append(digest)
        self._count = 1
        deps = pickled.deps if pickled.any_deps else []
        payload = schema.SUBMIT.pack(
            self.first, [digest], [], pickled.blobs, deps, keys, self.shared, [], self.options
        )
        self.payloads = [payload]
        return payload

    def add(self, digest: Digest, pickled: Calls, keys: Sequence[str] | None) -> None:
        """Add calls of one function."""
        try:
            which = self.digests.index(digest)
        except ValueError:
            which = len(self.digests)
            self.digests.append(digest)
        self.which += [which] * len(pickled.blobs)
        self.calls += pickled.blobs
        self.deps += pickled.deps
        self.any_deps = self.any_deps or pickled.any_deps
        if keys is not None:
            self.keys += keys

    def takes(self, first: TaskId, options: WireOptions, shared: bool) -> bool:
        """Whether tasks from id *first* on can be added."""
        return (
            self.first + len(self.calls) == first
            and self.shared is shared
            and self.wanted is None
            and len(self.calls) < MOST_GATHERED
            and len(self.digests) < MOST_FUNCTIONS
            and self.options == options
        )

    def encode(self) -> list[bytes]:
        """Payloads of about `TARGET_BYTES`; nearly always one."""
        count = len(self.calls)
        payloads: list[bytes] = []
        start = 0
        needed = self._needed_later() if self.wanted is not None else None
        held: list[TaskId] = []
        while start < count:
            end, size = start, 0
            while end < count and size < TARGET_BYTES:
                size += len(self.calls[end]) + ID_BYTES * (2 + len(self.deps[end]))
                size += len(self.keys[end]) if self.keys else 0
                end += 1
            wanted: list[int] = []
            if needed is not None and self.wanted is not None:
                own = {n for n in self.wanted if start <= n < end}
                # what a later piece needs is held until that has come
                later = [n for n in range(start, end) if needed[n] >= end and n not in own]
                held += [self.first + n for n in later]
                wanted = sorted(n - start for n in (*own, *later))
            payloads.append(self._piece(start, end, wanted))
            start = end
        if held:
            payloads += schema.RELEASE.encode(Ids(held))
        return payloads

    def _needed_later(self) -> list[int]:
        """For each task the last position that needs it; -1 where none does."""
        needed = [-1] * len(self.calls)
        for position, deps in enumerate(self.deps):
            for each in deps:
                if each >= self.first:
                    needed[each - self.first] = position
        return needed

    def _piece(self, start: int, end: int, wanted: list[int]) -> bytes:
        part = slice(start, end)
        return schema.SUBMIT.pack(
            self.first + start,
            list(self.digests),
            self.which[part] if len(self.digests) > 1 else [],
            self.calls[part],
            self.deps[part] if self.any_deps else [],
            self.keys[part],
            self.shared,
            wanted,
            self.options,
        )


class Ids:
    """Task ids, as a message's only field."""

    __slots__ = ("ids",)

    def __init__(self, ids: Sequence[TaskId]) -> None:
        self.ids = ids


class Outbox:
    """Filled by users' threads, emptied by the reactor's; in order.

    Attributes:
        nbytes: of what is there, but for one submission that is alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[bytes | Batch] = []
        self.nbytes = 0

    def put(self, entry: bytes | Batch) -> None:
        """Add a payload, or a batch that is complete."""
        nbytes = sum(map(len, entry.calls)) if isinstance(entry, Batch) else len(entry)
        with self._lock:
            # what was there alone may have been sent by the thread that it came from
            self.nbytes = self.nbytes + nbytes if self._entries else nbytes
            self._entries.append(entry)

    def add(
        self,
        first: TaskId,
        options: WireOptions,
        digest: Digest,
        pickled: Calls,
        keys: Sequence[str] | None,
    ) -> Batch:
        """Add tasks, to the batch that was added last if they continue it; their batch."""
        shared = keys is not None
        alone = len(pickled.blobs) == 1
        with self._lock:
            if alone and not self._entries:  # somebody may wait for it: what follows gathers
                batch = Batch(first, options, shared)
                self._entries.append(batch.send_alone(digest, pickled, keys or []))
                return batch
            last = self._entries[-1] if self._entries else None
            if not isinstance(last, Batch) or not last.takes(first, options, shared):
                last = Batch(first, options, shared)
                self._entries.append(last)
            last.add(digest, pickled, keys)
            self.nbytes += pickled.nbytes
            return last

    def alone(self, most_bytes: int) -> list[Any] | None:
        """The list of what is there, if that is one payload of *most_bytes* at most.

        For one who sends it, and then removes it there; it may grow in the meantime.
        """
        with self._lock:
            entries = self._entries
            if len(entries) != 1 or not isinstance(entries[0], bytes):
                return None
            return entries if len(entries[0]) <= most_bytes else None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0

    def take(self) -> list[bytes]:
        """All that is there, as payloads."""
        with self._lock:
            entries, self._entries = self._entries, []
            self.nbytes = 0
        payloads: list[bytes] = []
        for entry in entries:
            if isinstance(entry, Batch):
                payloads += entry.send()
            else:
                payloads.append(entry)
        return payloads
