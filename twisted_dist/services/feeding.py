"""Which tasks a child gets, and when: all at once, as a rule.

Where a process of several tasks died and nobody knows which of them has ended it, each is
a suspect: it runs again alone in the process, so that whoever does it again is known, and what
only ran beside it is never blamed. Where a process is for so many tasks, it gets no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from twisted_dist.aliases import TaskId, Value
from twisted_dist.core.worker_side import messages as m

#: suspects that are remembered: they may come back here, or go to another worker
MOST_SUSPECTS: Final = 10_000
#: tasks that end here since the last death until suspects that have not come back are forgotten
FORGOTTEN_AFTER: Final = 10_000

#: a task and the values that it needs
Pair = tuple[m.WorkerTask, dict[TaskId, Value]]


class Feed:
    """What waits for one child after another, and what is in the present one.

    Args:
        recycle_after: tasks that a child is for; 0 for any number.
    """

    def __init__(self, recycle_after: int = 0) -> None:
        self._most = recycle_after
        self._held: list[Pair] = []
        self._suspects: dict[TaskId, None] = {}
        #: tasks that have ended since there are
        self._since = 0
        self._has_child = False
        #: tasks in the child, and all that it was given
        self._inside = self._given = 0
        #: those of them that wait for something, of which others may have to come in
        self._extra = 0
        #: those of them that have waited and are still there
        self._waiting: set[TaskId] = set()
        #: tasks that may be inside while memory is short; None while it is not
        self._cap: int | None = None
        #: the suspect that has the child to itself
        self._alone: TaskId | None = None

    @property
    def is_open(self) -> bool:
        """Whether all that comes may go to the child: then `note_given` is enough."""
        return self._has_child and not (
            self._most or self._suspects or self._held or self._cap is not None
        )

    @property
    def is_idle(self) -> bool:
        """Whether a child is there and has nothing."""
        return self._has_child and not self._inside

    @property
    def is_used_up(self) -> bool:
        """Whether the child has run as many tasks as it is for."""
        return bool(self._most and self._given >= self._most and not self._inside)

    def note_given(self, count: int) -> None:
        """So many went to the child, while this is open."""
        self._inside += count

    def offer(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Tasks have come; those that are to go to the child now."""
        self._held += pairs
        return self._next()

    def started(self) -> list[Pair]:
        """There is a new child; what is to go there."""
        self._has_child = True
        # not only when the last one died: it may have spoken since
        self._inside = self._given = self._extra = 0
        self._waiting.clear()
        self._alone = None
        return self._next()

    def ended(self, ids: Sequence[TaskId]) -> list[Pair]:
        """Tasks have left the child, however; those that may follow."""
        self._inside -= len(ids)
        if self._waiting:
            self._waiting.difference_update(ids)
        if self._alone is not None and self._alone in ids:
            self._suspects.pop(self._alone, None)
            self._alone = None
        if self._suspects:
            self._since += len(ids)
            if self._since > FORGOTTEN_AFTER:
                self._suspects.clear()
        return self._next() if self._held else []

    def allow(self, cap: int | None) -> list[Pair]:
        """So many tasks may be inside from now on, None for any number; those that may go.

        Beside what waits there, and what may have to end first so that it goes on: at least one.
        """
        self._cap = cap
        return self._next() if self._held else []

    def waits(self, ids: Sequence[TaskId]) -> list[Pair]:
        """Tasks in the child wait, maybe for others of these; those that may come to it."""
        self._extra += len(ids)
        self._waiting.update(ids)
        if self._alone is not None and self._alone in ids:
            self._alone = None
        return self._next() if self._held else []

    def take_back(self, ids: Iterable[TaskId]) -> list[TaskId]:
        """Of some tasks, those that had not gone to the child, and now never will."""
        wanted = set(ids)
        back = [task.id for task, _ in self._held if task.id in wanted]
        if back:
            self._held = [pair for pair in self._held if pair[0].id not in wanted]
        return back

    def child_died(self, suspects: Iterable[TaskId] = ()) -> None:
        """The child is gone, and all that it had, or was to have, is told as such."""
        self._has_child = False
        self._held.clear()
        self._since = 0
        self._suspects.update(dict.fromkeys(suspects))
        while len(self._suspects) > MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def _next(self) -> list[Pair]:
        if not self._has_child or self._alone is not None:
            return []
        room = self._most + self._extra - self._given if self._most else len(self._held)
        if self._cap is not None:
            cap = max(self._cap, 1) if self._waiting else self._cap
            room = min(room, cap + len(self._waiting) - self._inside)
        if room <= 0:
            return []
        if self._suspects:
            for index, (task, _) in enumerate(self._held):
                if task.id in self._suspects:
                    return self._isolate(index)
        out, self._held = self._held[:room], self._held[room:]
        self._inside += len(out)
        self._given += len(out)
        return out

    def _isolate(self, index: int) -> list[Pair]:
        if self._inside:  # nothing more goes in until all that is there has ended
            return []
        pair = self._held.pop(index)
        self._alone = pair[0].id
        self._inside += 1
        self._given += 1
        return [pair]
