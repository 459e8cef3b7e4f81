"""Slots that run tasks from one queue, and the threads that fill them.

A hand-off to a thread costs tens of microseconds, a task of a batch well under one
(docs/benchmarks.md), so outcomes are delivered in batches: when the queue runs empty, or
when the last delivery is more than a millisecond ago. The owner calls `flush` every few
milliseconds while tasks are unfinished, so a fast result never waits behind a slow task.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from time import perf_counter
from typing import Final

from twisted_dist.aliases import TaskId
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec

#: seconds after which a busy slot delivers what has gathered
DELIVER_S: Final = 0.001


class SlotPool:
    """*nthreads* slots; `put` tasks, let threads `work`, get outcomes by *deliver*.

    Args:
        deliver: called with outcomes in the threads that work, one at a time.
        on_start: told slot, task id and attempt when a task begins; task id -1 when it ended.
    """

    def __init__(
        self,
        nthreads: int,
        runner: TaskRunner,
        deliver: Callable[[list[Outcome]], None],
        on_start: Callable[[int, TaskId, int], None] | None = None,
    ) -> None:
        self.nthreads = nthreads
        self._runner = runner
        self._deliver = deliver
        self._on_start = on_start
        #: guards the queue and the slots: a task and a free slot never miss each other
        self._mutex = threading.Lock()
        self._queue: deque[TaskSpec] = deque()
        self._free = list(reversed(range(nthreads)))
        #: not begun yet; whoever pops a task owns it
        self._waiting: dict[TaskId, TaskSpec] = {}
        self._delivering = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._delivered_at = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether some task waits, runs, or has an outcome not delivered."""
        return bool(self._waiting or len(self._free) < self.nthreads or self._outcomes)

    def put(self, specs: Iterable[TaskSpec]) -> None:
        """Queue tasks, in order; whoever calls `work` next runs them."""
        with self._mutex:
            for spec in specs:
                self._waiting[spec.task_id] = spec
                self._queue.append(spec)

    def drop(self, ids: Iterable[TaskId]) -> list[TaskId]:
        """Take tasks back; returns those that had not begun, and now never will."""
        return [each for each in ids if self._waiting.pop(each, None) is not None]

    def flush(self) -> None:
        """Deliver what has gathered."""
        with self._delivering:
            outcomes, self._outcomes = self._outcomes, []
            if outcomes:
                self._deliver(outcomes)

    def claim(self) -> tuple[int, TaskSpec] | None:
        """A free slot and the task that waits longest, to be given to `work`; or None."""
        with self._mutex:
            if not self._free:
                return None
            spec = self._next()
            return None if spec is None else (self._free.pop(), spec)

    def work(self, slot: int, spec: TaskSpec) -> None:
        """Run a claimed task, and then what waits, until nothing does."""
        on_start = self._on_start
        task: TaskSpec | None = spec
        while task is not None:
            if on_start is not None:
                on_start(slot, task.task_id, task.attempt)
            outcome = self._runner.run(task)
            if on_start is not None:
                on_start(slot, -1, 0)
            with self._delivering:
                self._outcomes.append(outcome)
            now = perf_counter()
            if not self._waiting or now - self._delivered_at > DELIVER_S:
                self._delivered_at = now
                self.flush()
            with self._mutex:
                task = self._next()
                if task is None:
                    self._free.append(slot)

    def _next(self) -> TaskSpec | None:
        while self._queue:
            spec = self._queue.popleft()
            if self._waiting.pop(spec.task_id, None) is spec:
                return spec  # or it was dropped
        return None

    def clear(self) -> None:
        """Forget what has not begun."""
        self._waiting.clear()


class SlotThreads(SlotPool):
    """A `SlotPool` with a thread for each slot, for processes whose main thread is busy."""

    def __init__(
        self,
        nthreads: int,
        runner: TaskRunner,
        deliver: Callable[[list[Outcome]], None],
        on_start: Callable[[int, TaskId, int], None] | None = None,
    ) -> None:
        super().__init__(nthreads, runner, deliver, on_start)
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"task-slot-{slot}", daemon=True)
            for slot in range(nthreads)
        ]
        for each in self._threads:
            each.start()

    def put(self, specs: Iterable[TaskSpec]) -> None:
        """Queue tasks, and wake threads to run them."""
        super().put(specs)
        for _ in range(min(len(self._waiting), len(self._free))):
            self._calls.put(True)

    def stop(self, patience_s: float = 1.0) -> None:
        """End idle threads; one that is inside a task is left behind, as a daemon."""
        self.clear()
        for _ in self._threads:
            self._calls.put(False)
        for each in self._threads:
            each.join(patience_s)

    def _serve(self) -> None:
        while self._calls.get():
            claimed = self.claim()
            if claimed is not None:
                self.work(*claimed)
