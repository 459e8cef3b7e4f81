"""Tasks that wait on an event loop: coroutines and Deferreds, without a slot."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from twisted.internet import defer

from tests.execution.test_stopping import Pool
from twisted_dist.execution import pending as pending_module
from twisted_dist.execution.runner import TaskRunner, TaskSpec

GATES: dict[int, asyncio.Event] = {}
#: how many wait at the gate
AT_GATE = threading.Semaphore(0)
#: what `block` says when it begins, and what ends it
BLOCKS, LET_GO = threading.Event(), threading.Event()


async def wait_at_gate(n):
    """A task that is done when all are let."""
    gate = GATES.setdefault(0, asyncio.Event())
    AT_GATE.release()
    await gate.wait()
    return n


async def open_gate(n):
    """A task that lets them."""
    await asyncio.sleep(0)
    GATES.pop(0).set()
    return n


async def fail(n):
    """A task that raises, later."""
    await asyncio.sleep(0)
    raise ValueError(n)


async def block(n):
    """A task that does not let the loop go on."""
    BLOCKS.set()
    LET_GO.wait(n)
    return n


def deferred(n):
    """A task whose Deferred has fired."""
    return defer.succeed(n) if n > 0 else defer.fail(ValueError(n))


def wait_until(condition):
    """For what nobody tells of."""
    pause = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("not within 20 s")


FUNCTIONS = {b"g": wait_at_gate, b"o": open_gate, b"f": fail, b"b": block, b"d": deferred}


@pytest.fixture
def pool():
    """One of two slots; what it tells about waiting."""
    GATES.clear()
    BLOCKS.clear()
    LET_GO.clear()
    while AT_GATE.acquire(blocking=False):
        pass
    made = Pool(2)
    for digest, function in FUNCTIONS.items():
        made.slots._runner.add_function(digest, pickle.dumps(function))
    yield made
    made.slots.stop()
    assert not made.broken.is_set()


def test_many_wait_without_slots(pool):
    """`Pending` lets hundreds wait on a pool of two slots, and delivers each once."""
    for n in range(1, 401):
        pool.put(b"g", n, argument=n)
    for _ in range(400):
        assert AT_GATE.acquire(timeout=20)
    pool.put(b"o", 999)
    values = dict(pool.next() for _ in range(401))
    assert values == {**{n: n for n in range(1, 401)}, 999: 1}
    wait_until(lambda: not pool.slots._pending)


def test_errors_of_coroutines_and_deferreds(pool):
    """`TaskRunner.complete` makes outcomes of errors as well."""
    pool.put(b"f", 1, argument=7)
    pool.put(b"d", 2, argument=-7)
    pool.put(b"d", 3, argument=7)
    values = dict(pool.next() for _ in range(3))
    assert (repr(values[1]), repr(values[2]), values[3]) == ("ValueError(7)", "ValueError(-7)", 7)


def test_waiting_task_is_stopped(pool):
    """`Pending.stop_tasks` cancels the one that is meant, and says where it was."""
    for n in (1, 2):
        pool.put(b"g", n, argument=n)
    for _ in range(2):
        assert AT_GATE.acquire(timeout=20)
    assert not pool.slots.stop_tasks([(1, 2)])
    ((task_id, _, where),) = pool.slots.stop_tasks([(1, 1)])
    assert task_id == 1
    assert "in wait_at_gate" in where
    assert "runner.py" not in where
    task_id, problem = pool.next()
    assert (task_id, type(problem)) == (1, asyncio.CancelledError)
    pool.put(b"o", 3)
    assert {pool.next()[0], pool.next()[0]} == {2, 3}


def test_stopped_before_it_waits(pool):
    """A coroutine that is told to stop before the loop has come to it never begins."""
    pool.put(b"b", 1, argument=20)
    BLOCKS.wait(20)
    pool.put(b"g", 2)
    wait_until(lambda: len(pool.slots._pending) == 2)
    assert pool.slots.stop_tasks([(2, 1)])
    LET_GO.set()
    values = dict(pool.next() for _ in range(2))
    assert values[1] == 20
    assert isinstance(values[2], asyncio.CancelledError)
    assert not AT_GATE.acquire(blocking=False)


def test_too_many_keep_their_slots(monkeypatch):
    """Where too many wait, one more does so in its slot."""
    monkeypatch.setattr(pending_module, "MOST_PENDING", 1)
    pool = Pool(1)
    for digest, function in FUNCTIONS.items():
        pool.slots._runner.add_function(digest, pickle.dumps(function))
    GATES.clear()
    pool.put(b"g", 1)
    assert AT_GATE.acquire(timeout=20)
    pool.put(b"b", 2, argument=0)
    assert pool.next() == (2, 0)
    assert pool.slots.stop_tasks([(1, 1)])
    assert isinstance(pool.next()[1], asyncio.CancelledError)
    pool.slots.stop()


def test_duration_is_of_the_slot():
    """`Outcome.duration_us` is for how long a thread was used: what a worker is fed by."""
    now = iter(range(10))
    runner = TaskRunner(clock=lambda: next(now))
    runner.add_function(b"f", pickle.dumps(fail))
    outcome = runner.run(TaskSpec(1, 1, b"f", pickle.dumps(((1,), {})), ()))
    asyncio.run(runner.complete(outcome))
    assert outcome.duration_us == 1_000_000
    assert outcome.error is not None
