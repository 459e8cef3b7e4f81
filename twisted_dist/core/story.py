"""`Story`: what has happened to tasks lately, bounded, for `core.explain`.

One entry for each batch, holding the batch's own list of ids, so that remembering costs
next to nothing for a task; finding one task's entries looks through all of them.
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


class Story:
    """The entries, oldest first."""

    def __init__(self, most_entries: int = MOST_ENTRIES, most_ids: int = MOST_IDS) -> None:
        #: as `Entry`, but plain: this is called for every batch, however small
        self._entries: deque[tuple[float, str, Sequence[TaskId], str]] = deque()
        self._most_entries = most_entries
        self._most_ids = most_ids
        #: ids in entries that have many
        self._ids = 0

    def note(self, now: float, what: str, ids: Sequence[TaskId], where: str) -> None:
        """Remember; *ids* is kept, and not copied."""
        self._entries.append((now, what, ids, where))
        if len(ids) > MANY_IDS or len(self._entries) > self._most_entries:
            self._ids += _weight(ids)
            self._trim()

    def _trim(self) -> None:
        entries = self._entries
        while len(entries) > self._most_entries or self._ids > self._most_ids:
            if len(entries) == 1:
                break
            self._ids -= _weight(entries.popleft()[2])

    def of(self, task_id: TaskId) -> Iterator[Entry]:
        """What is remembered of one task, in order."""
        return (Entry(*entry) for entry in self._entries if task_id in entry[2])


def _weight(ids: Sequence[TaskId]) -> int:
    """What an entry counts among those with many ids; a range takes no memory for its own."""
    return len(ids) if len(ids) > MANY_IDS and type(ids) is not range else 0
