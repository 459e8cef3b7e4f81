"""`ReadyQueue`: tasks that could run, in the order in which they should."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Union

from twisted_dist.core.task import QUEUED, Order, SchedulerTask

if TYPE_CHECKING:
    from typing import TypeAlias

#: tasks of one group that follow one another in order
Lane: TypeAlias = "deque[SchedulerTask]"
_Entry: TypeAlias = "tuple[Order, int, Union[SchedulerTask, Lane]]"


class ReadyQueue:
    """A heap of tasks and of lanes, by `SchedulerTask.order`.

    A submitted `map` is one entry (a lane), so queueing a hundred thousand costs one push.
    Entries are dropped lazily: a task that left QUEUED is skipped when its turn comes.
    """

    __slots__ = ("_heap", "_ticket")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._ticket = count()

    def __bool__(self) -> bool:
        """Whether there may be one; `peek` knows for certain."""
        return bool(self._heap)

    def __len__(self) -> int:
        """Entries, of which some may be stale; a lane counts once."""
        return len(self._heap)

    def __contains__(self, task: SchedulerTask) -> bool:
        return any(each is task for each in self)

    def push(self, task: SchedulerTask) -> None:
        """Add a QUEUED task."""
        group = task.group
        order = (group.rank, not task.deps, group.age + task.id)  # `SchedulerTask.order`
        heapq.heappush(self._heap, (order, next(self._ticket), task))

    def push_lane(self, lane: Lane) -> None:
        """Add QUEUED tasks of one group, one or more, that follow one another in order."""
        entry = lane if len(lane) > 1 else lane[0]
        heapq.heappush(self._heap, (lane[0].order, next(self._ticket), entry))

    def peek(self) -> Order | None:
        """The order of the next task, without taking it; None when there is none."""
        heap = self._heap
        while heap:
            order, _, entry = heap[0]
            if isinstance(entry, SchedulerTask):
                if entry.state is QUEUED:
                    return order
            else:
                while entry and entry[0].state is not QUEUED:
                    entry.popleft()
                if entry:
                    return order
            heapq.heappop(heap)
        return None

    def first(self) -> SchedulerTask:
        """The task that `peek` found."""
        entry = self._heap[0][2]
        return entry if isinstance(entry, SchedulerTask) else entry[0]

    def take(self, most: int) -> list[SchedulerTask]:
        """The next task, or up to *most* of its lane; after `peek` found one."""
        entry = self._heap[0][2]
        if isinstance(entry, SchedulerTask):
            heapq.heappop(self._heap)
            return [entry]
        if most == 1 and len(entry) > 1 and entry[1].state is QUEUED:
            taken = [entry.popleft()]  # which `peek` has seen to
            heapq.heapreplace(self._heap, (entry[0].order, next(self._ticket), entry))
            return taken
        taken = []
        while entry and len(taken) < most:
            task = entry.popleft()
            if task.state is QUEUED:
                taken.append(task)
        if entry:
            heapq.heapreplace(self._heap, (entry[0].order, next(self._ticket), entry))
        else:
            heapq.heappop(self._heap)
        return taken

    def ahead(self) -> int:
        """How many tasks `take` would give at most."""
        entry = self._heap[0][2]
        return 1 if isinstance(entry, SchedulerTask) else len(entry)

    def __iter__(self) -> Iterator[SchedulerTask]:
        for _, _, entry in self._heap:
            if isinstance(entry, SchedulerTask):
                yield entry
            else:
                yield from entry
