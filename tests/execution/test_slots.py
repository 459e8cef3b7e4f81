"""`SlotPool`, with functions that the tests hold up."""

import pickle
import threading
from queue import SimpleQueue

from twisted_dist.execution.current import running_task
from twisted_dist.execution.runner import TaskRunner, TaskSpec
from twisted_dist.execution.slots import SlotPool

#: what `hold` waits for, and what says that it has begun
GATE = threading.Event()
BEGUN = threading.Event()


def hold(_):
    """A task that ends when it is let."""
    BEGUN.set()
    GATE.wait(20)


def wait_for_gate(_):
    """A task that gives its slot away until it is let."""
    with running_task().wait():
        GATE.wait(20)


def spec(task_id, attempt, digest, argument=0):
    """A task of one of the functions below."""
    return TaskSpec(task_id, attempt, digest, pickle.dumps(((argument,), {})), ())


def pool():
    """A pool of one slot and its outcomes, one by one."""
    GATE.clear()
    BEGUN.clear()
    runner = TaskRunner()
    for digest, function in ((b"h", hold), (b"a", abs), (b"w", wait_for_gate)):
        runner.add_function(digest, pickle.dumps(function))
    outcomes = SimpleQueue()
    made = SlotPool(1, runner, lambda some: [outcomes.put(each) for each in some])
    made.start()
    return made, outcomes


def test_task_that_was_dropped_and_comes_again():
    """`SlotPool` runs a task that was dropped, when it is put anew before a slot was free."""
    slots, outcomes = pool()
    slots.put([spec(1, 1, b"h")])
    BEGUN.wait(20)
    slots.put([spec(2, 1, b"a", -5)])
    assert slots.drop([1, 2]) == [2]
    slots.put([spec(2, 2, b"a", -7)])
    GATE.set()
    ended = [outcomes.get(timeout=20) for _ in range(2)]
    assert [(each.task_id, each.attempt) for each in ended] == [(1, 1), (2, 2)]
    assert pickle.loads(ended[1].value) == 7
    slots.stop()


def test_slot_of_a_task_that_waits():
    """`SlotPool` runs others while a task waits, and has no more slots than before after it."""
    slots, outcomes = pool()
    slots.put([spec(1, 1, b"w"), spec(2, 1, b"a", -5)])
    assert outcomes.get(timeout=20).task_id == 2
    GATE.set()
    assert outcomes.get(timeout=20).task_id == 1
    slots.put([spec(n, 1, b"a", -n) for n in range(3, 100)])
    assert {outcomes.get(timeout=20).task_id for _ in range(97)} == set(range(3, 100))
    assert len(slots._threads) == 1
    slots.stop()
