"""The errands of a worker without a nanny: in threads of its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted_dist.aliases import TaskId
from twisted_dist.execution.errands import ErrandPool
from twisted_dist.execution.runner import Outcome, TaskRunner
from twisted_dist.services.worker_errands import Ended, as_ended


class ThreadErrands:
    """Each errand has a thread of its own, beside those of the tasks."""

    def __init__(self, reactor: Any, runner: TaskRunner) -> None:
        self.done: Callable[[TaskId, Ended], None] = lambda errand, ended: None
        self._reactor = reactor
        self._pool = ErrandPool(runner, self._deliver)

    def run(self, errand: TaskId, blob: bytes) -> None:
        """As every executor's."""
        self._pool.begin(errand, blob)

    def stop(self, ids: Iterable[TaskId]) -> None:
        """As every executor's."""
        self._pool.stop(ids)

    def close(self) -> None:
        """Stop all, as far as they can be; what goes on is left as a daemon thread."""
        self._pool.close()

    def _deliver(self, outcome: Outcome) -> None:
        """In an errand's thread."""
        self._reactor.callFromThread(self._done, outcome)

    def _done(self, outcome: Outcome) -> None:
        self.done(outcome.task_id, as_ended(outcome.value, outcome.nbytes, outcome.error))
