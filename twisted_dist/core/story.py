"""`Story`: what has happened to tasks lately, bounded, for `core.explain`.

One entry for each batch, holding the batch's own list of ids, or for what came one by one in a
turn, so that remembering costs next to nothing for a task; finding one task's entries looks
through all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from twisted_dist.aliases import TaskId

#: entries that are remembered at most, and ids in those with more than `MANY_IDS`, about 40
#: bytes each: some megabytes in all; the oldest entries go first
MOST_ENTRIES: Final = 10_000
MOST_IDS: Final = 100_000
MANY_IDS: Final = 64


class Entry(NamedTuple):
    """Something that happened to some tasks at an instant; *where* is a worker or client."""

    now: float
    what: str
    ids: Sequence[TaskId]
    where: str


class _Many:
    """The ids of a batch with many, which can be let go of before its entry."""

    __slots__ = ("ids", "weight")

    def __init__(self, ids: Sequence[TaskId]) -> None:
        self.ids = ids
        #: a range takes no memory for its ids
        self.weight = 0 if type(ids) is range else len(ids)

    def __contains__(self, task_id: TaskId) -> bool:
        return task_id in self.ids


class _Each(NamedTuple):
    """Ids of which each was somewhere else."""

    ids: Sequence[TaskId]
    wheres: Sequence[str]


class Story:
    """The entries, oldest first."""

    def __init__(self, most_entries: int = MOST_ENTRIES, most_ids: int = MOST_IDS) -> None:
        #: as `Entry`, but plain: this is called for every batch, however small. Of a single id
        #: no list is kept: each that goes with its entry has left the caches long ago
        self._entries: deque[tuple[float, str, TaskId | Sequence[TaskId] | _Many | _Each, str]]
        self._entries = deque(maxlen=most_entries)
        self._most_ids = most_ids
        #: of the entries with many ids, those that still have them; and how many ids that is
        self._many: deque[_Many] = deque()
        self._ids = 0

    def note(self, now: float, what: str, ids: Sequence[TaskId], where: str) -> None:
        """Remember; *ids* is kept, and not copied."""
        if len(ids) == 1:
            self._entries.append((now, what, ids[0], where))
        elif len(ids) > MANY_IDS:
            self._entries.append((now, what, self._keep(ids), where))
        else:
            self._entries.append((now, what, ids, where))

    def note_each(
        self, now: float, what: str, ids: Sequence[TaskId], wheres: Sequence[str]
    ) -> None:
        """As `note`, of tasks of which each was elsewhere; copies of both are kept, in one entry.

        What costs is an entry, once the next ones have driven it out of the caches.
        """
        if len(ids) == 1:
            self.note(now, what, ids, wheres[0])
            return
        for start in range(0, len(ids), MANY_IDS):
            part = slice(start, start + MANY_IDS)
            self._entries.append((now, what, _Each(ids[part], wheres[part]), ""))

    def _keep(self, ids: Sequence[TaskId]) -> _Many:
        """Hold many ids, and let go of the oldest beyond the bound."""
        many = _Many(ids)
        self._many.append(many)
        self._ids += many.weight
        while self._ids > self._most_ids and len(self._many) > 1:
            old = self._many.popleft()
            self._ids -= old.weight
            old.ids = ()
        return many

    def of(self, task_id: TaskId) -> Iterator[Entry]:
        """What is remembered of one task, in order."""
        for now, what, ids, where in self._entries:
            if isinstance(ids, int):
                if task_id == ids:
                    yield Entry(now, what, (ids,), where)
            elif isinstance(ids, _Each):
                for each, its in zip(*ids):
                    if each == task_id:
                        yield Entry(now, what, (each,), its)
            elif task_id in ids:
                yield Entry(now, what, ids.ids if isinstance(ids, _Many) else ids, where)
