"""`SlotPool.stop_tasks`: what runs ends, whenever it is told to, and nothing else does."""

from __future__ import annotations

import pickle
import random
import threading
from queue import Empty, SimpleQueue

import pytest

from twisted_dist.errors import TaskStopped
from twisted_dist.execution.current import running_task
from twisted_dist.execution.runner import TaskRunner, TaskSpec
from twisted_dist.execution.slots import Hooks, SlotPool
from twisted_dist.execution.stopping import where_is

BEGUN = SimpleQueue()
GATE = threading.Event()


def spin(n):
    """A task that ends only if it is stopped."""
    BEGUN.put(n)
    while True:
        sum(range(100))


def clean_up(n):
    """A task that says that it was stopped, in its own way."""
    BEGUN.put(n)
    try:
        while True:
            sum(range(100))
    except TaskStopped:
        return "cleaned up"


def count(n):
    """A task of a moment."""
    return sum(range(n))


def wait_for_others(n):
    """A task that gives its slot away now and then."""
    for _ in range(n):
        with running_task().wait():
            GATE.wait(0.0001)
    return n


FUNCTIONS = {b"s": spin, b"c": clean_up, b"n": count, b"w": wait_for_others}


class Pool:
    """A pool, and what comes of its tasks."""

    def __init__(self, slots):
        runner = TaskRunner()
        for digest, function in FUNCTIONS.items():
            runner.add_function(digest, pickle.dumps(function))
        self.outcomes = SimpleQueue()
        self.broken = threading.Event()
        hooks = Hooks(on_error=self.broken.set)
        self.slots = SlotPool(slots, runner, self._deliver, hooks)
        self.slots.start()
        while not BEGUN.empty():
            BEGUN.get()

    def _deliver(self, outcomes):
        for each in outcomes:
            self.outcomes.put(each)

    def put(self, digest, task_id, attempt=1, argument=1):
        """Queue a call."""
        call = pickle.dumps(((argument,), {}))
        self.slots.put([TaskSpec(task_id, attempt, digest, call, ())])

    def next(self):
        """``(id, value or exception)`` of the next that ends."""
        outcome = self.outcomes.get(timeout=20)
        if outcome.error is None:
            return outcome.task_id, pickle.loads(outcome.value)
        return outcome.task_id, pickle.loads(outcome.error[0])


@pytest.fixture
def pool():
    """One of two slots, none of which may be lost."""
    made = Pool(2)
    yield made
    made.slots.stop()
    assert not made.broken.is_set()


def test_running_task_is_stopped(pool):
    """`SlotPool.stop_tasks` ends a loop, says where it was, and lets its neighbour be."""
    pool.put(b"s", 1)
    BEGUN.get(timeout=20)
    ((task_id, attempt, where),) = pool.slots.stop_tasks([(1, 1), (9, 1)])
    assert (task_id, attempt) == (1, 1)
    assert "in spin" in where
    assert "slots.py" not in where
    task_id, problem = pool.next()
    assert (task_id, type(problem)) == (1, TaskStopped)
    pool.put(b"n", 2, argument=10)
    assert pool.next() == (2, 45)


def test_stopped_task_may_clean_up(pool):
    """A task that ends in its own way has a result."""
    pool.put(b"c", 1)
    BEGUN.get(timeout=20)
    assert pool.slots.stop_tasks([(1, 1)])
    assert pool.next() == (1, "cleaned up")


def test_only_the_attempt_that_is_meant(pool):
    """`SlotPool.stop_tasks` lets another attempt be, and tells each once."""
    pool.put(b"s", 1, attempt=2)
    BEGUN.get(timeout=20)
    assert not pool.slots.stop_tasks([(1, 1)])
    assert pool.slots.stop_tasks([(1, 2)])
    assert not pool.slots.stop_tasks([(1, 2)])
    assert isinstance(pool.next()[1], TaskStopped)


@pytest.mark.parametrize(("digest", "argument"), [(b"n", 300), (b"w", 3)], ids=["runs", "waits"])
def test_stopped_at_any_moment(pool, digest, argument):
    """Whenever a task is told to stop, it ends once, its slot goes on, and no other is hit."""
    chance = random.Random(1)
    pause = threading.Event()
    for n in range(1, 1500):
        pool.put(digest, n, argument=argument)
        if chance.random() < 0.8:
            pause.wait(chance.random() * 0.0003)
            pool.slots.stop_tasks([(n, 1)])
        task_id, value = pool.next()
        assert task_id == n
        assert isinstance(value, TaskStopped) or value in (sum(range(300)), 3)
    pool.put(b"n", 9999, argument=10)
    pool.put(b"n", 10000, argument=10)
    assert sorted([pool.next(), pool.next()]) == [(9999, 45), (10000, 45)]
    with pytest.raises(Empty):
        pool.outcomes.get(timeout=0.05)


def test_both_slots_are_there_after_all(pool):
    """Tasks that waited for others when they were stopped have left no slot too many or few."""
    for n in range(50):
        pool.put(b"w", n, argument=1000)
        while not pool.slots.stop_tasks([(n, 1)]):
            pass
        assert isinstance(pool.next()[1], TaskStopped)
    for n in range(100, 103):
        pool.put(b"s", n, argument=n)
    began = {BEGUN.get(timeout=20) for _ in range(2)}
    with pytest.raises(Empty):
        BEGUN.get(timeout=0.2)
    for n in began:
        assert pool.slots.stop_tasks([(n, 1)])
        pool.next()
    (last,) = {100, 101, 102} - began
    assert BEGUN.get(timeout=20) == last
    assert pool.slots.stop_tasks([(last, 1)])
    pool.next()


def test_no_such_thread():
    """`where_is` has nothing to say of a thread that is gone."""
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert where_is(thread.ident, "") == ""
