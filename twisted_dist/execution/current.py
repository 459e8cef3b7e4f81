"""The task that the current thread runs, for code below it that wants to know.

A task that waits for other tasks says so (`waiting`): meanwhile another runs in its place,
so that tasks which submit tasks and wait for them never wait for one another's thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from twisted_dist.aliases import Address, TaskId


class Pass(NamedTuple):
    """What a task enters the network with, as a client on behalf of the one that submitted it."""

    scheduler: Address
    #: a join string; empty where the network is ``--insecure``
    access: str
    #: lets one client in
    ticket: bytes


class RunningTask:
    """A task while it runs.

    Args:
        on_wait: told when it begins to wait for others, and when it goes on.
        ask_pass: blocks for a `Pass`. Raises RefusedError or ConnectionClosedError.
    """

    __slots__ = ("_on_wait", "ask_pass", "attempt", "task_id")

    def __init__(
        self,
        task_id: TaskId,
        attempt: int,
        on_wait: Callable[[RunningTask, bool], Any],
        ask_pass: Callable[[RunningTask], Pass],
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self._on_wait = on_wait
        self.ask_pass = ask_pass

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """While the body runs, the task uses no thread of its worker's."""
        try:
            self._on_wait(self, True)
            yield
        finally:
            self._on_wait(self, False)


class _Running(threading.local):
    """What a thread runs: a task's identity, and what makes a `RunningTask` of that if asked."""

    make: Callable[[Any], RunningTask] | None = None
    spec: Any = None


#: a `SlotPool` sets ``running.spec`` around each task: a whole `RunningTask` for each would
#: cost every one of them, and nearly none asks
running: Final = _Running()


def running_task() -> RunningTask | None:
    """The task that this thread runs; None outside of tasks."""
    make, spec = running.make, running.spec
    return make(spec) if make is not None and spec is not None else None


_T = TypeVar("_T")


def while_waiting(function: Callable[..., _T], *args: Any) -> _T:
    """Call what blocks until other tasks have done something."""
    task = running_task()
    if task is None:
        return function(*args)
    with task.wait():
        return function(*args)
