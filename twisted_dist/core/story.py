"""`Story`: what has happened to tasks lately, bounded, for `core.explain`.

One entry for each batch, holding the batch's own list of ids, so that remembering costs
next to nothing for a task; finding one task's entries looks through all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from twisted_dist.aliases import TaskId

#: ids that are remembered at most, about 40 bytes each; the oldest entries go first
MOST_IDS: Final = 100_000
#: an entry counts as so many ids more
LEAST_IDS: Final = 8


class Entry(NamedTuple):
    """Something that happened to some tasks at an instant; *where* is a worker or client."""

    now: float
    what: str
    ids: Sequence[TaskId]
    where: str


class Story:
    """The entries, oldest first."""

    def __init__(self, most: int = MOST_IDS) -> None:
        #: plain tuples, with what each counts as at the end: this is called for every batch
        self._entries: deque[tuple[float, str, Sequence[TaskId], str, int]] = deque()
        self._most = most
        self._size = 0

    def note(self, now: float, what: str, ids: Sequence[TaskId], where: str) -> None:
        """Remember; *ids* is kept, and not copied."""
        weight = LEAST_IDS if type(ids) is range else LEAST_IDS + len(ids)
        self._entries.append((now, what, ids, where, weight))
        self._size += weight
        while self._size > self._most and len(self._entries) > 1:
            self._size -= self._entries.popleft()[-1]

    def of(self, task_id: TaskId) -> Iterator[Entry]:
        """What is remembered of one task, in order."""
        return (Entry(*entry[:-1]) for entry in self._entries if task_id in entry[2])
