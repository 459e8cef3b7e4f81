"""How a worker runs tasks: what every executor offers, and the one with threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future as ConcurrentFuture
from typing import Any, Protocol, TypeAlias

from twisted.internet import defer

from twisted_dist.aliases import Digest, TaskId, Value
from twisted_dist.core.worker_side import messages as m
from twisted_dist.errors import RefusedError
from twisted_dist.execution.current import Pass, RunningTask
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec
from twisted_dist.execution.scratch import sweep
from twisted_dist.execution.slots import Hooks, SlotPool
from twisted_dist.execution.uploads import Uploads
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.services.stops import Stops
from twisted_dist.services.thread_errands import ThreadErrands
from twisted_dist.services.worker_errands import ErrandExecutor

#: seconds between flushes while tasks are unfinished
TICK_S = 0.005


#: fires with a pass for a running task: its id, its attempt
GetPass: TypeAlias = Callable[[TaskId, int], "defer.Deferred[Pass]"]


def no_pass(task_id: TaskId, attempt: int) -> defer.Deferred[Pass]:
    """Where there is no network."""
    return defer.fail(RefusedError("tasks cannot submit tasks here"))


class Values(Protocol):
    """Where tasks' inputs are."""

    def __getitem__(self, task_id: TaskId, /) -> Value:
        """One that is there."""


class Executor(Protocol):
    """Runs tasks and says how they ended, as stimuli of the worker's machine.

    All calls, and all calls of *tell* and *get_pass*, happen in the reactor's thread.
    """

    tell: Callable[[object], None]
    get_pass: GetPass
    #: called with pieces of what tasks write: ``(task id, 0 for none; stream; text)``
    output: Callable[[Iterable[tuple[TaskId, int, str]]], None]
    #: called with one line when there is no hope of running any task
    gave_up: Callable[[str], None]

    @property
    def rss(self) -> int:
        """Bytes of memory of the process that runs tasks, where it is another one."""

    @property
    def errands(self) -> ErrandExecutor:
        """Runs what is called beside the tasks."""

    def start(self) -> Any:
        """Begin; fires (or returns) when tasks can be run."""

    def add_function(self, digest: Digest, blob: bytes) -> None:
        """Precedes the first task that needs it."""

    def add_upload(self, name: str, digest: bytes, blob: bytes) -> defer.Deferred[str]:
        """Have a file that was uploaded; fires with what is wrong, or "", when tasks find it."""

    def forget_uploads(self) -> None:
        """Let go of all uploads."""

    def run(self, tasks: Sequence[m.WorkerTask], values: Values) -> None:
        """Run tasks; *values* holds all their inputs, and more."""

    def drop(self, ids: Sequence[TaskId]) -> None:
        """Do not run these, where not begun; those are told as returned."""

    def stop_tasks(self, ids: Sequence[TaskId], attempts: Sequence[int]) -> None:
        """End these attempts; what had begun is told as stopped, unless it ends by itself."""

    def restart(self) -> Any:
        """Forget all tasks, whether they run or not; fires (or returns) when others can be run."""

    def stop(self) -> Any:
        """End; fires (or returns) when no thread, process or descriptor is left."""


class ThreadExecutor:
    """Runs tasks in threads of this process: for embedding, tests and trusted code.

    A task that is to stop and does not, as it is in C for long, goes on to its end. What tasks
    write goes where this process writes, and to nobody else.
    """

    rss = 0

    def __init__(self, reactor: Any, nthreads: int) -> None:
        self.gave_up: Callable[[str], None] = lambda why: None
        self.output: Callable[[Iterable[tuple[TaskId, int, str]]], None] = lambda pieces: None
        self._stops = Stops()
        self.tell: Callable[[object], None] = lambda fact: None
        self.get_pass: GetPass = no_pass
        self._reactor = reactor
        self._nthreads = nthreads
        self._runner = TaskRunner()
        self._runner.share = CAN_SHARE
        self._uploads = Uploads(self._runner.forget_loaded)
        self.errands = ThreadErrands(reactor, self._runner)
        self._pool: SlotPool | None = None
        self._lock = threading.Lock()
        self._arrived: list[Outcome] = []
        self._tick: Any = None

    def start(self) -> None:
        """Start the threads."""
        sweep()
        hooks = Hooks(on_wait=self._tell_waiting, ask_pass=self._ask_pass)
        self._pool = SlotPool(self._nthreads, self._runner, self._deliver, hooks)
        self._pool.start()

    def add_function(self, digest: Digest, blob: bytes) -> None:
        """Keep a pickled function; loaded when first needed."""
        self._runner.add_function(digest, blob)

    def add_upload(self, name: str, digest: bytes, blob: bytes) -> defer.Deferred[str]:
        """Write and unpack in a thread: that may take seconds."""
        done: defer.Deferred[str] = defer.Deferred()
        uploads = self._uploads

        def install() -> None:
            error = uploads.install(name, digest, blob)
            self._reactor.callFromThread(done.callback, error)

        threading.Thread(target=install, name=f"upload-{name}", daemon=True).start()
        return done

    def forget_uploads(self) -> None:
        """Let go of all uploads, unless others in this process have them."""
        self._uploads.close()
        self._uploads = Uploads(self._runner.forget_loaded)

    def run(self, tasks: Sequence[m.WorkerTask], values: Values) -> None:
        """Queue tasks for the threads."""
        assert self._pool is not None
        self._pool.put(
            TaskSpec(t.id, t.attempt, t.digest, t.call, [values[d] for d in t.deps]) for t in tasks
        )
        if self._tick is None:
            self._tick = self._reactor.callLater(TICK_S, self._flush)

    def _flush(self) -> None:
        self._tick = None
        if self._pool is not None and self._pool.unfinished:
            self._pool.flush()
            self._tick = self._reactor.callLater(TICK_S, self._flush)

    def drop(self, ids: Sequence[TaskId]) -> None:
        """Take back what has not begun."""
        if self._pool is not None:
            self.tell(m.ExecutionReturned(self._pool.drop(ids)))

    def stop_tasks(self, ids: Sequence[TaskId], attempts: Sequence[int]) -> None:
        """Take back what has not begun, and raise `TaskStopped` in what has."""
        self.drop(ids)
        if self._pool is None:
            return
        stopped = self._pool.stop_tasks(zip(ids, attempts))
        for task_id, attempt, where in stopped:
            self._stops.ask([task_id], [attempt])
            self._stops.note([task_id], [attempt], [where])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """In a slot's thread: hand over, waking the reactor once for what gathers."""
        with self._lock:
            first = not self._arrived
            self._arrived += outcomes
        if first:
            self._reactor.callFromThread(self._take)

    def _take(self) -> None:
        with self._lock:
            outcomes, self._arrived = self._arrived, []
        if self._pool is None:
            return
        good = [each for each in outcomes if each.error is None]
        bad = [(each, each.error) for each in outcomes if each.error is not None]
        if good:
            self.tell(
                m.ExecutionFinished(
                    [each.task_id for each in good],
                    [each.attempt for each in good],
                    [each.value for each in good],
                    [each.nbytes for each in good],
                    [each.duration_us for each in good],
                )
            )
        if bad:
            facts = self._stops.sort(
                [each.task_id for each, _ in bad],
                [each.attempt for each, _ in bad],
                [error[0] for _, error in bad],
                [error[1] for _, error in bad],
            )
            for fact in facts:
                self.tell(fact)

    def _tell_waiting(self, ids: list[TaskId], attempts: list[int], waits: bool) -> None:
        """In a slot's thread."""
        self._reactor.callFromThread(self.tell, m.ExecutionWaits(ids, attempts, waits))

    def _ask_pass(self, task: RunningTask) -> Pass:
        """In a slot's thread: block until the reactor's thread has one."""
        answer: ConcurrentFuture[Pass] = ConcurrentFuture()

        def ask() -> None:
            getting = self.get_pass(task.task_id, task.attempt)
            getting.addCallbacks(answer.set_result, lambda f: answer.set_exception(f.value))

        self._reactor.callFromThread(ask)
        return answer.result()

    def restart(self) -> None:
        """New threads; one that is inside a task is left as a daemon thread until it returns."""
        self.stop(patience_s=0.0)
        self.start()

    def stop(self, patience_s: float = 1.0) -> None:
        """End the threads; one inside a task is left as a daemon thread until it returns."""
        self.forget_uploads()
        self.errands.close()
        pool, self._pool = self._pool, None
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if pool is not None:
            pool.stop(patience_s)
