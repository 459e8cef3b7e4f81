"""A pool of long-lived threads that run tasks from one queue.

A hand-off to a thread costs tens of microseconds, a task of a batch well under one
(docs/benchmarks.md), so outcomes are delivered in batches: when the queue runs empty, or
when the last delivery is more than a millisecond ago. The owner calls `flush` every few
milliseconds while tasks are unfinished, so a fast result never waits behind a slow task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from time import perf_counter
from typing import Final

from twisted_dist.aliases import TaskId
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec

#: seconds after which a busy slot delivers what has gathered
DELIVER_S: Final = 0.001


class SlotPool:
    """*nthreads* slots; `put` tasks, get outcomes by *deliver* (called in a slot's thread).

    Args:
        on_start: told slot, task id and attempt when a task begins; task id -1 when it ended.
    """

    def __init__(
        self,
        nthreads: int,
        runner: TaskRunner,
        deliver: Callable[[list[Outcome]], None],
        on_start: Callable[[int, TaskId, int], None] | None = None,
    ) -> None:
        self._runner = runner
        self._deliver = deliver
        self._on_start = on_start
        self._queue: SimpleQueue[TaskSpec | None] = SimpleQueue()
        #: not begun yet; whoever pops a task owns it
        self._waiting: dict[TaskId, TaskSpec] = {}
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._delivered_at = 0.0
        self._running: set[TaskId] = set()
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"task-slot-{slot}", daemon=True)
            for slot in range(nthreads)
        ]
        for each in self._threads:
            each.start()

    @property
    def unfinished(self) -> bool:
        """Whether some task waits, runs, or has an outcome not delivered."""
        return bool(self._waiting or self._running or self._outcomes)

    def put(self, specs: Iterable[TaskSpec]) -> None:
        """Queue tasks, in order."""
        for spec in specs:
            self._waiting[spec.task_id] = spec
            self._queue.put(spec)

    def drop(self, ids: Iterable[TaskId]) -> list[TaskId]:
        """Take tasks back; returns those that had not begun, and now never will."""
        return [each for each in ids if self._waiting.pop(each, None) is not None]

    def flush(self) -> None:
        """Deliver what has gathered."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
            if outcomes:
                self._deliver(outcomes)

    def stop(self, patience_s: float = 1.0) -> None:
        """End idle threads; one that is inside a task is left behind, as a daemon."""
        self._waiting.clear()
        for _ in self._threads:
            self._queue.put(None)
        for each in self._threads:
            each.join(patience_s)

    def _work(self, slot: int) -> None:
        queue, waiting, on_start = self._queue, self._waiting, self._on_start
        while True:
            spec = queue.get()
            if spec is None:
                return
            if waiting.pop(spec.task_id, None) is not spec:
                continue  # dropped
            self._running.add(spec.task_id)
            if on_start is not None:
                on_start(slot, spec.task_id, spec.attempt)
            outcome = self._runner.run(spec)
            if on_start is not None:
                on_start(slot, -1, 0)
            with self._lock:
                self._outcomes.append(outcome)
            self._running.discard(spec.task_id)
            now = perf_counter()
            if not waiting or now - self._delivered_at > DELIVER_S:
                self._delivered_at = now
                self.flush()
            spec = outcome = None  # type: ignore[assignment]  # hold nothing while idle
