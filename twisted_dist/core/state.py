"""The scheduler's tables, and the queue of tasks that could run."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count

from twisted_dist.aliases import Digest, Key, PeerId, TaskId
from twisted_dist.core.outbox import Outbox
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.policy.feeding import has_room
from twisted_dist.core.task import QUEUED, SchedulerFunction, SchedulerTask


class ReadyQueue:
    """Tasks that could run anywhere, in the order of `SchedulerTask.order`.

    A submitted `map` is one entry (a lane), so queueing a hundred thousand costs one push.
    Entries are dropped lazily: a task that left QUEUED is skipped when its turn comes.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int], int, deque[SchedulerTask]]] = []
        self._ticket = count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, lane: deque[SchedulerTask]) -> None:
        """Add tasks that are consecutive in order."""
        heapq.heappush(self._heap, (lane[0].order, next(self._ticket), lane))

    def peek(self) -> SchedulerTask | None:
        """The next task, without taking it; None when there is none."""
        heap = self._heap
        while heap:
            lane = heap[0][2]
            while lane and lane[0].state is not QUEUED:
                lane.popleft()
            if lane:
                return lane[0]
            heapq.heappop(heap)
        return None

    def first_lane(self) -> deque[SchedulerTask]:
        """The lane of `peek`'s task; whoever takes from it calls `settle` after."""
        return self._heap[0][2]

    def settle(self) -> None:
        """Put the first lane where its new first task belongs."""
        lane = self._heap[0][2]
        if lane:
            heapq.heapreplace(self._heap, (lane[0].order, next(self._ticket), lane))
        else:
            heapq.heappop(self._heap)

    def __iter__(self) -> Iterator[SchedulerTask]:
        for _order, _ticket, lane in self._heap:
            yield from lane


class SchedulerState:
    """All that the scheduler knows. Changed only by `core.transitions`."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, SchedulerTask] = {}
        #: tasks whose user gave them a name
        self.keys: dict[Key, SchedulerTask] = {}
        self.functions: dict[Digest, SchedulerFunction] = {}
        self.workers: dict[PeerId, SchedulerWorker] = {}
        self.by_address: dict[str, SchedulerWorker] = {}
        self.clients: dict[PeerId, SchedulerClient] = {}
        self.ready = ReadyQueue()
        #: tasks in the state no-worker
        self.unrunnable: dict[SchedulerTask, None] = {}
        #: workers with a free thread; a subset of `roomy`
        self.idle: dict[SchedulerWorker, None] = {}
        #: workers that should be given more (`feeding.has_room`)
        self.roomy: dict[SchedulerWorker, None] = {}
        #: workers with a backlog
        self.backlogged: dict[SchedulerWorker, None] = {}
        #: {(client, request): (asked ids with their tasks, how many are not in memory)}
        self.lookups: dict[tuple[SchedulerClient, int], dict[TaskId, SchedulerTask]] = {}
        self.submitted = 0
        self.outbox = Outbox()

    def note_room(self, worker: SchedulerWorker) -> None:
        """Keep `idle` and `roomy` true after a worker's load changed."""
        if has_room(worker):
            self.roomy[worker] = None
            if len(worker.processing) < worker.nthreads:
                self.idle[worker] = None
            else:
                self.idle.pop(worker, None)
        else:
            self.roomy.pop(worker, None)
            self.idle.pop(worker, None)
