"""Tasks that have been called and are not done: coroutines, and Twisted's Deferreds.

They wait on an event loop in a thread of its own, thousands at a time, and use no slot
meanwhile. Coroutines are asyncio's. A Deferred is of whatever reactor is installed in this
process, which is run in another thread if nobody runs it.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

from twisted_dist.aliases import TaskId
from twisted_dist.execution.output import awaited_task
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec
from twisted_dist.execution.stopping import MAX_WHERE

#: that may wait at a time; what is more keeps its slot until it is done
MOST_PENDING: Final = 10_000
#: seconds that outcomes gather before they are delivered
GATHER_S: Final = 0.001


class Pending:
    """The tasks of one process that wait on its event loop.

    Args:
        runner: makes outcomes of what comes of them.
        add: takes an outcome.
        flush: delivers what was added; in the loop's thread.
        note: told an index below `MOST_PENDING` and the task that waits there, None if none does
            any more.
    """

    def __init__(
        self,
        runner: TaskRunner,
        add: Callable[[Outcome], None],
        flush: Callable[[], None],
        note: Callable[[int, TaskSpec | None], None],
    ) -> None:
        self._runner = runner
        self._add = add
        self._flush = flush
        self._note = note
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = list(range(MOST_PENDING - 1, -1, -1))
        #: {task: what it waits for}
        self._tasks: dict[TaskSpec, asyncio.Task[None] | None] = {}
        self._flushing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, spec: TaskSpec, outcome: Outcome) -> bool:
        """Wait for what *outcome* waits for, and deliver what comes of it; from any thread.

        Returns:
            False where there are too many already, and nothing was done.
        """
        with self._lock:
            if not self._free:
                return False
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = self._loop.run_forever
                self._thread = threading.Thread(target=run, name="task-loop", daemon=True)
                self._thread.start()
            index = self._free.pop()
        self._tasks[spec] = None
        self._loop.call_soon_threadsafe(self._begin, spec, outcome, index)
        return True

    def _begin(self, spec: TaskSpec, outcome: Outcome, index: int) -> None:
        assert self._loop is not None
        self._note(index, spec)
        token = awaited_task.set(spec)  # which the coroutine inherits
        task = self._loop.create_task(self._runner.complete(outcome))
        awaited_task.reset(token)
        self._tasks[spec] = task
        task.add_done_callback(lambda _: self._end(spec, outcome, index))
        if spec.stopping:  # it was told to before it was here
            task.cancel()

    def _end(self, spec: TaskSpec, outcome: Outcome, index: int) -> None:
        assert self._loop is not None
        self._runner.give_up(outcome)  # where it was cancelled before it had begun to wait
        self._add(outcome)
        del self._tasks[spec]
        self._note(index, None)
        self._free.append(index)
        if not self._flushing:
            self._flushing = True
            self._loop.call_later(GATHER_S, self._deliver)

    def _deliver(self) -> None:
        self._flushing = False
        self._flush()

    def stop_tasks(self, which: set[tuple[TaskId, int]]) -> list[tuple[TaskId, int, str]]:
        """Cancel tasks, by id and attempt: those that wait, and where each was."""
        stopped = []
        for spec, task in list(self._tasks.items()):
            if (spec.task_id, spec.attempt) not in which or spec.stopping:
                continue
            spec.stopping = True
            where = ""
            if task is not None and self._loop is not None:
                where = _where(task.get_coro())
                self._loop.call_soon_threadsafe(task.cancel)
            stopped.append((spec.task_id, spec.attempt, where))
        return stopped

    def close(self) -> None:
        """End the loop; what waits is forgotten."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(1.0)
            if not loop.is_running():
                loop.close()


def _where(coroutine: Any) -> str:
    """The user's part of what a coroutine waits in, as text."""
    entries: list[traceback.FrameSummary] = []
    seen = 0
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        seen += 1
        if seen > 1:  # the first is the runner's
            entries += traceback.extract_stack(frame, limit=1)
        coroutine = coroutine.cr_await
    text = "".join(traceback.format_list(entries)).rstrip()
    return text.encode(errors="backslashreplace").decode()[-MAX_WHERE:]
