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
_LOOK: Final = object()


class SlotPool:
    """*nthreads* slots; `put` tasks, get outcomes by *deliver* (called in a slot's thread).

    Args:
        on_start: told slot, task id and attempt when a task begins; task id -1 when it ended.
        lead: asked for a task by a slot that finds none, before it waits for one; may block.
        more: whether `lead` would find one at once; outcomes gather while it does.
        on_error: called when one of these, or *deliver*, has raised: a slot is lost then.
    """

    def __init__(
        self,
        nthreads: int,
        runner: TaskRunner,
        deliver: Callable[[list[Outcome]], None],
        on_start: Callable[[int, TaskId, int], None] | None = None,
        lead: Callable[[], TaskSpec | None] | None = None,
        more: Callable[[], bool] = lambda: False,
        on_error: Callable[[], object] | None = None,
    ) -> None:
        self._runner = runner
        self._deliver = deliver
        self._on_start = on_start
        self._lead = lead
        self._more = more
        self._on_error = on_error
        #: tasks; `_LOOK` sends a slot to `lead` again, None ends it
        self._queue: SimpleQueue[TaskSpec | object | None] = SimpleQueue()
        #: slots that wait for the queue
        self._idle: set[int] = set()
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

    def start(self) -> None:
        """Start the threads."""
        for each in self._threads:
            each.start()

    @property
    def unfinished(self) -> bool:
        """Whether some task waits, runs, or has an outcome not delivered."""
        return bool(self._waiting or self._running or self._outcomes)

    @property
    def idle(self) -> bool:
        """Whether some slot waits for the queue."""
        return bool(self._idle)

    def put(self, specs: Iterable[TaskSpec]) -> None:
        """Queue tasks, in order."""
        for spec in specs:
            self._waiting[spec.task_id] = spec
            self._queue.put(spec)

    def keep(self, spec: TaskSpec) -> None:
        """Note a task that `lead` will return, as `put` does."""
        self._waiting[spec.task_id] = spec

    def look(self) -> None:
        """Send an idle slot to `lead`."""
        self._queue.put(_LOOK)

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

    def _next(self, slot: int) -> TaskSpec | object | None:
        """The next task: asked for where the queue is empty, or waited for."""
        if self._lead is not None and self._queue.empty():
            spec = self._lead()
            if spec is not None:
                return spec
        self._idle.add(slot)
        try:
            return self._queue.get()
        finally:
            self._idle.discard(slot)

    def _work(self, slot: int) -> None:
        """Run tasks in this thread, until told to end."""
        try:
            self._work_on(slot)
        except BaseException:
            if self._on_error is None:
                raise
            self._on_error()

    def _work_on(self, slot: int) -> None:
        waiting, on_start = self._waiting, self._on_start
        while True:
            spec = self._next(slot)
            if spec is None:
                return
            if not isinstance(spec, TaskSpec) or waiting.pop(spec.task_id, None) is not spec:
                continue  # told to look, or the task was dropped
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
            if now - self._delivered_at > DELIVER_S or not (waiting or self._more()):
                self._delivered_at = now
                self.flush()
            spec = outcome = None  # type: ignore[assignment]  # hold nothing while idle
