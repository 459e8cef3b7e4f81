"""A pool of long-lived threads that run tasks from one queue.

A hand-off to a thread costs tens of microseconds, a task of a batch well under one
(docs/benchmarks.md), so outcomes are delivered in batches: when the queue runs empty, or
when the last delivery is more than a millisecond ago. The owner calls `flush` every few
milliseconds while tasks are unfinished, so a fast result never waits behind a slow task.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from time import perf_counter
from typing import Final, NoReturn

from attrs import frozen

from twisted_dist.aliases import TaskId
from twisted_dist.errors import RefusedError, TaskStopped
from twisted_dist.execution import runner as runners
from twisted_dist.execution.current import Pass, RunningTask, running
from twisted_dist.execution.payloads import dump_exception
from twisted_dist.execution.pending import Pending
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec
from twisted_dist.execution.stopping import meet, raise_in, where_is

#: seconds after which a busy slot delivers what has gathered
DELIVER_S: Final = 0.001
#: tasks of one pool that may wait for others at a time, each with a thread of its own
MOST_WAITING: Final = 1000
_LOOK: Final = object()


def leave_copy() -> NoReturn:
    """End a copy of the process where the task's function has returned in it."""
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _no_pass(task: RunningTask) -> Pass:
    raise RefusedError("tasks cannot submit tasks here")


@frozen
class Hooks:
    """What a pool's owner wants to know, and does for it.

    Attributes:
        on_thread: told a slot and that its tasks will run in the current thread.
        on_start: told slot, task id and attempt when a task begins.
        on_end: told a slot whose tasks have ended, and their outcomes were delivered: not before,
            since what a task has broken shows there at the latest.
        on_wait: told ids and attempts, and whether those use no slot from now on, or one again.
        on_pending: told an index and the task that waits there without a slot, or None.
        ask_pass: blocks for a pass for a running task.
        lead: asked for a task by a slot that finds none, before it waits for one; may block.
        more: whether `lead` would find one at once; outcomes gather while it does.
        on_error: called when one of these, or *deliver*, has raised: a slot is lost then.
    """

    on_thread: Callable[[int], None] = lambda slot: None
    on_start: Callable[[int, TaskId, int], None] = lambda slot, task_id, attempt: None
    on_end: Callable[[int], None] = lambda slot: None
    on_wait: Callable[[list[TaskId], list[int], bool], None] = lambda ids, attempts, waits: None
    on_pending: Callable[[int, TaskSpec | None], None] = lambda index, spec: None
    ask_pass: Callable[[RunningTask], Pass] = _no_pass
    lead: Callable[[], TaskSpec | None] | None = None
    more: Callable[[], bool] = lambda: False
    on_error: Callable[[], object] | None = None


class SlotPool:
    """*nthreads* slots; `put` tasks, get outcomes by *deliver* (called in a slot's thread).

    While a task waits for others there is one slot more; afterwards the first that becomes
    free ends.
    """

    def __init__(
        self,
        nthreads: int,
        runner: TaskRunner,
        deliver: Callable[[list[Outcome]], None],
        hooks: Hooks = Hooks(),
    ) -> None:
        self._runner = runner
        self._deliver = deliver
        self._hooks = hooks
        #: a task has forked, and this is not its process: no lock can be had here any more
        self.is_copy = False
        #: tasks; `_LOOK` sends a slot to `lead` again, None ends it
        self._queue: SimpleQueue[TaskSpec | object | None] = SimpleQueue()
        #: slots that wait for the queue
        self._idle: set[int] = set()
        #: not begun yet; whoever takes a task out, under the lock, owns it
        self._waiting: dict[TaskId, TaskSpec] = {}
        self._taking = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._delivered_at = 0.0
        #: {running task: its thread}
        self._running: dict[TaskSpec, int] = {}
        #: held while a thread is told to stop its task
        self._stopping = threading.Lock()
        #: running tasks that wait for others
        self._seceded: set[TaskSpec] = set()
        #: slots to end when they become free
        self._surplus = 0
        #: tasks that wait without a slot, and those of them that were not told of yet
        self._pending = Pending(runner, self._add, self.flush, hooks.on_pending)
        self._began: list[TaskSpec] = []
        self._free_slots = list(range(nthreads + MOST_WAITING - 1, nthreads - 1, -1))
        self._threads = {slot: self._thread(slot) for slot in range(nthreads)}

    def _thread(self, slot: int) -> threading.Thread:
        name = f"task-slot-{slot}"
        return threading.Thread(target=self._work, args=(slot,), name=name, daemon=True)

    def start(self) -> None:
        """Start the threads."""
        for each in list(self._threads.values()):
            each.start()

    @property
    def unfinished(self) -> bool:
        """Whether some task waits for a slot, uses one, or has an outcome not delivered."""
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
        with self._taking:
            return [each for each in ids if self._waiting.pop(each, None) is not None]

    def stop_tasks(self, wanted: Iterable[tuple[TaskId, int]]) -> list[tuple[TaskId, int, str]]:
        """Have `TaskStopped` raised in tasks that run, by id and attempt.

        Returns:
            Those that do, and where each was.
        """
        which = set(wanted)
        stopped = self._pending.stop_tasks(which)
        for spec, thread in list(self._running.items()):
            if (spec.task_id, spec.attempt) not in which or spec.stopping:
                continue
            with self._stopping:
                where = where_is(thread, runners.__file__)
                spec.stopping = True
                if not spec.ended:  # else its thread may not have seen that it is to stop
                    raise_in(thread)
                    stopped.append((spec.task_id, spec.attempt, where))
        return stopped

    def flush(self) -> None:
        """Deliver what has gathered."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
            began, self._began = self._began, []
            if began:
                ids, attempts = [s.task_id for s in began], [s.attempt for s in began]
                self._hooks.on_wait(ids, attempts, True)
            if outcomes:
                self._deliver(outcomes)

    def stop(self, patience_s: float = 1.0) -> None:
        """End idle threads; one that is inside a task is left behind, as a daemon."""
        self._waiting.clear()
        self._pending.close()
        threads = list(self._threads.values())
        for _ in threads:
            self._queue.put(None)
        for each in threads:
            each.join(patience_s)

    # -- tasks that wait for others

    def _task_waits(self, task: RunningTask, waits: bool) -> None:
        """In the task's thread: let another run in its place, or no longer."""
        with self._stopping:  # nobody has this thread stop meanwhile; who just has waits as well
            spec: TaskSpec = running.spec
            if spec.stopping:
                with suppress(TaskStopped):
                    meet()
                if waits:
                    raise TaskStopped
            if (spec in self._seceded) is not waits:
                self._secede(spec, waits)
        if spec.stopping:
            raise TaskStopped

    def _secede(self, spec: TaskSpec, waits: bool) -> None:
        with self._lock:
            if not waits:
                self._surplus += 1
                self._seceded.discard(spec)
            elif self._surplus:
                self._surplus -= 1
            elif self._free_slots:
                slot = self._free_slots.pop()
                self._threads[slot] = thread = self._thread(slot)
                thread.start()
            else:
                raise RuntimeError(f"more than {MOST_WAITING} tasks of one worker wait for others")
            if waits:
                self._seceded.add(spec)
        if not waits:
            self.look()  # an idle slot may be the one to end
        self._hooks.on_wait([spec.task_id], [spec.attempt], waits)
        if waits:
            self.flush()

    def _is_surplus(self, slot: int) -> bool:
        with self._lock:
            if not self._surplus:
                return False
            self._surplus -= 1
            del self._threads[slot]
            self._free_slots.append(slot)
            return True

    # -- a slot's thread

    def _next(self, slot: int) -> TaskSpec | object | None:
        """The next task: asked for where the queue is empty, or waited for."""
        lead = self._hooks.lead
        if not self._outcomes:
            self._hooks.on_end(slot)
        if lead is not None and self._queue.empty():
            spec = lead()
            if spec is not None:
                return spec
        self._idle.add(slot)
        try:
            return self._queue.get()
        finally:
            self._idle.discard(slot)

    def _work(self, slot: int) -> None:
        """Run tasks in this thread, until told to end."""
        running.make = self._running_task
        self._hooks.on_thread(slot)
        try:
            self._work_on(slot)
        except BaseException:
            if self._hooks.on_error is None:
                raise
            self._hooks.on_error()

    def _work_on(self, slot: int) -> None:
        waiting, more, on_end = self._waiting, self._hooks.more, self._hooks.on_end
        thread = threading.get_ident()
        while not (self._surplus and self._is_surplus(slot)):
            spec = self._next(slot)
            if spec is None:
                return
            if not isinstance(spec, TaskSpec):
                continue  # told to look
            with self._taking:  # one that was dropped, and came again, waits under the same id
                if waiting.get(spec.task_id) is not spec:
                    continue
                del waiting[spec.task_id]
            outcome = self._run(slot, spec, thread)
            if outcome.awaited is None:
                with self._lock:
                    self._outcomes.append(outcome)
            else:
                self._await(spec, outcome)
            del self._running[spec]
            now = perf_counter()
            if now - self._delivered_at > DELIVER_S or not (waiting or more()):
                self._delivered_at = now
                self.flush()
                on_end(slot)
            spec = outcome = None  # type: ignore[assignment]  # hold nothing while idle

    def _await(self, spec: TaskSpec, outcome: Outcome) -> None:
        """Let a task wait without its slot; where too many do already, it keeps that."""
        with self._lock:  # that it waits is told before what comes of it
            waits = self._pending.add(spec, outcome)
            if waits:
                self._began.append(spec)
        if not waits:
            asyncio.run(self._runner.complete(outcome))
            self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        with self._lock:
            self._outcomes.append(outcome)

    def _run(self, slot: int, spec: TaskSpec, thread: int) -> Outcome:
        """Run a task, and be sure that no stop that was meant for it comes later."""
        on_start = self._hooks.on_start
        try:
            self._running[spec] = thread
            on_start(slot, spec.task_id, spec.attempt)
            running.spec = spec
            outcome = self._runner.run(spec)  # raises nothing of its own
            if self.is_copy:
                leave_copy()
            spec.ended = True
            if spec.stopping:
                self._settle()
        except TaskStopped as problem:  # before or after its code: it had as good as ended
            outcome = Outcome(spec)
            outcome.error = dump_exception(problem)
            spec.ended = True
            self._settle()
        running.spec = None
        if self._seceded and spec in self._seceded:  # it was stopped just when it was to go on
            self._secede(spec, False)
        return outcome

    def _settle(self) -> None:
        """Wait until whoever stops this thread's task has done so, and meet that."""
        with self._stopping, suppress(TaskStopped):
            meet()

    def _running_task(self, spec: TaskSpec) -> RunningTask:
        return RunningTask(spec.task_id, spec.attempt, self._task_waits, self._hooks.ask_pass)
