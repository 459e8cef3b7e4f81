"""`ErrandPool`: calls in threads of their own, and how they end."""

from __future__ import annotations

import pickle
import threading
from queue import SimpleQueue

import cloudpickle
import pytest

from twisted_dist.errors import RefusedError, TaskStopped
from twisted_dist.execution import errands as errands_module
from twisted_dist.execution.current import running
from twisted_dist.execution.errands import ErrandPool
from twisted_dist.execution.runner import TaskRunner

#: seconds that anything may take
PATIENCE_S = 30.0


def who(x, y):
    """Its arguments, and the errand that it is in."""
    return x, y, running.spec.task_id


class Errands:
    """A pool, and what it delivers."""

    def __init__(self):
        self.ends = SimpleQueue()
        self.pool = ErrandPool(TaskRunner(), self.ends.put)

    def begin(self, number, function, *args, **kwargs):
        """Make a call."""
        self.pool.begin(number, cloudpickle.dumps(((function, *args), kwargs)))

    def end(self):
        """The next that ends: its number, and its value or exception."""
        outcome = self.ends.get(timeout=PATIENCE_S)
        if outcome.error is not None:
            return outcome.task_id, pickle.loads(outcome.error[0])
        return outcome.task_id, pickle.loads(outcome.value)


@pytest.fixture
def errands():
    """One that is closed."""
    made = Errands()
    yield made
    made.pool.close()


def test_value_and_exception(errands):
    """`ErrandPool.begin` delivers what a call gives, or raises; its output is known as its own."""
    errands.begin(1, who, 1, y=2)
    assert errands.end() == (1, (1, 2, 1))
    errands.begin(2, lambda: {}["no"])
    number, problem = errands.end()
    assert (number, type(problem)) == (2, KeyError)
    errands.pool.begin(3, b"no pickle")
    assert type(errands.end()[1]) is pickle.UnpicklingError
    assert not errands.pool._running


def test_coroutines(errands):
    """`ErrandPool` waits for what a coroutine function gives."""

    async def give(x):
        return x

    errands.begin(1, give, 5)
    assert errands.end() == (1, 5)


def test_many_at_a_time(errands, monkeypatch):
    """Errands run side by side, so many at a time; what is more is refused."""
    monkeypatch.setattr(errands_module, "MOST_ERRANDS", 3)
    go = threading.Event()
    errands.pool._runner._functions[b"errand"] = lambda: go.wait(PATIENCE_S)
    blob = pickle.dumps(((), {}))
    for n in range(4):
        errands.pool.begin(n, blob)
    number, problem = errands.end()
    assert (number, type(problem)) == (3, RefusedError)
    go.set()
    assert sorted(errands.end() for _ in range(3)) == [(0, True), (1, True), (2, True)]


def test_a_system_without_threads(errands, monkeypatch):
    """Where no thread can be had, that is the errand's error, and the process goes on."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    errands.pool.begin(1, b"")
    assert type(errands.end()[1]) is RuntimeError
    assert not errands.pool._running


@pytest.mark.parametrize("waits", [False, True])
def test_stop(errands, waits):
    """`ErrandPool.stop` raises `TaskStopped` in a thread, and cancels a coroutine; no other."""

    async def wait():
        import asyncio

        await asyncio.sleep(PATIENCE_S)

    def spin():
        import time

        for _ in range(int(PATIENCE_S / 0.001)):
            time.sleep(0.001)  # noqa: TID251 - a thread that somebody has to stop

    errands.begin(1, wait if waits else spin)
    while not (errands.pool._pending if waits else any(errands.pool._running.values())):
        pass
    errands.pool.stop([1, 2])
    number, problem = errands.end()
    assert number == 1
    assert type(problem).__name__ == ("CancelledError" if waits else TaskStopped.__name__)
    errands.begin(1, int)
    assert errands.end() == (1, 0)
