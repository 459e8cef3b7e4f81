"""Errands: calls that are made beside the tasks, each in a thread of its own, whatever those do."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable
from typing import Final

from twisted_dist.aliases import Digest, TaskId
from twisted_dist.errors import RefusedError, TaskStopped
from twisted_dist.execution.current import running
from twisted_dist.execution.errand_rules import MOST_ERRANDS
from twisted_dist.execution.graphs import call_given
from twisted_dist.execution.payloads import dump_exception
from twisted_dist.execution.pending import Pending
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec
from twisted_dist.execution.slots import leave_copy
from twisted_dist.execution.stopping import meet, raise_in

#: stands for what calls a function that comes with its arguments; no function's has this length
_CALL: Final[Digest] = b"errand"


class ErrandPool:
    """Runs errands of one process.

    Args:
        runner: makes outcomes of calls.
        deliver: takes each outcome; in the errand's thread, or in that of an event loop.
    """

    def __init__(self, runner: TaskRunner, deliver: Callable[[Outcome], None]) -> None:
        self._runner = runner
        runner.add_function(_CALL, pickle.dumps(call_given))
        self._deliver = deliver
        #: an errand has forked, and this is not its process
        self.is_copy = False
        self._lock = threading.Lock()
        #: {errand under way: its thread, None once it waits on the event loop}
        self._running: dict[TaskSpec, int | None] = {}
        self._pending = Pending(runner, self._end, lambda: None, lambda index, spec: None)

    def begin(self, errand: TaskId, blob: bytes) -> None:
        """Make a call: *blob* is a pickle of ``((function, …), {…})``."""
        spec = TaskSpec(errand, 0, _CALL, blob, ())
        if len(self._running) >= MOST_ERRANDS:
            told = f"{MOST_ERRANDS} calls of run() are under way on this worker: no more at a time"
            self._refuse(spec, RefusedError(told))
            return
        with self._lock:
            self._running[spec] = None
        name = f"errand-{errand:x}"
        try:
            threading.Thread(target=self._work, args=(spec,), name=name, daemon=True).start()
        except RuntimeError as problem:  # the system has no more threads
            self._refuse(spec, problem)

    def _refuse(self, spec: TaskSpec, problem: Exception) -> None:
        outcome = Outcome(spec)
        outcome.error = dump_exception(problem)
        self._end(outcome)

    def _work(self, spec: TaskSpec) -> None:
        try:
            try:
                with self._lock:
                    self._running[spec] = threading.get_ident()
                if spec.stopping:  # before there was a thread to raise it in
                    raise TaskStopped
                running.spec = spec  # whose output it is
                outcome = self._runner.run(spec)  # raises nothing of its own
                if self.is_copy:  # where no lock can be had any more
                    leave_copy()
            finally:
                with self._lock:
                    spec.ended = True
                    self._running[spec] = None
                if spec.stopping:
                    meet()
        except TaskStopped as problem:  # from here on, nobody has this thread stop any more
            outcome = Outcome(spec)
            outcome.error = dump_exception(problem)
        if outcome.awaited is None:
            self._end(outcome)
        else:
            self._pending.add(spec, outcome)  # which has room for more than there can be

    def _end(self, outcome: Outcome) -> None:
        with self._lock:
            for spec in [each for each in self._running if each.task_id == outcome.task_id]:
                del self._running[spec]
        self._deliver(outcome)

    def stop(self, ids: Iterable[TaskId]) -> None:
        """Have `TaskStopped` raised in errands that run, and cancel what waits.

        One that is in C for long, or handles that, goes on to its end.
        """
        wanted = set(ids)
        self._pending.stop_tasks({(each, 0) for each in wanted})
        with self._lock:
            for spec, thread in self._running.items():
                if spec.task_id in wanted and not spec.stopping:
                    spec.stopping = True  # which one that is about to wait finds
                    if thread is not None:
                        raise_in(thread)

    def close(self) -> None:
        """Stop all, as far as they can be."""
        self.stop([each.task_id for each in list(self._running)])
        self._pending.close()
