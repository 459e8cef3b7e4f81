"""The functions that simulated tasks run, and the world that they run in.

A task tells the executor around it how it behaves by way of `world`: how long it takes and
whether it ends its process. What it does to the world outside of its result is kept there
too, for whoever wants to know whether it ran.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple


class World:
    """What tasks of one simulation do beside giving results.

    Attributes:
        pace: the longest that a task takes which says nothing of it, in seconds.
        begun: how often each task was begun, by its id.
        tries: how often each `flaky` task was begun, and not cut short with its process.
        tried: the number of the `flaky` task that was just begun.
        marks: what `mark` was called with.
        deaths: how many processes tasks have ended.
    """

    def __init__(self, pace=0.2):
        self.pace = pace
        self.begun = Counter()
        self.tries = Counter()
        self.marks = set()
        self.deaths = 0
        self._processes = 0
        self.forget_conduct()

    def forget_conduct(self):
        """Before the next task: nothing is known of how it behaves."""
        self.seconds = None
        self.kills = False
        self.nest = None
        self.tried = None

    def new_process_ip(self):
        """The address of a process whose tasks submit tasks."""
        self._processes += 1
        return f"10.3.{self._processes >> 8}.{self._processes & 255}"


class Nest(NamedTuple):
    """What a task submits, as functions and their arguments, and what it makes of the results."""

    calls: Sequence[tuple[Callable, tuple]]
    end: Callable


#: that of the task which is running; set by the executor
world = World()


class Oops(Exception):  # noqa: N818 - what tasks raise, not an error of ours
    """What a task raises."""


def double(x):
    """A task without inputs, as a rule."""
    return 2 * x


def add(x, y):
    """A task with two inputs."""
    return x + y


def subtract(x, y):
    """A task that cares for the order of its inputs."""
    return x - y


def total(parts, more=None):
    """A task with inputs in containers."""
    return sum(parts) + sum((more or {}).values())


def big(n):
    """A result that is too large to ride along; its content depends on *n*."""
    return bytes([n % 251]) * (70_000 + 1000 * (n % 64))


def buffer(n):
    """A large result that is serialised as a pickle and a buffer."""
    return pickle.PickleBuffer(big(n))


def length(data, n):
    """A small result of a large input."""
    return len(data) + n


def lasts(seconds, x):
    """A task that takes so long."""
    world.seconds = seconds
    return x


def oops(n):
    """A task that raises."""
    raise Oops(n)


def flaky(n, failures):
    """A task that raises the first *failures* times that it is begun."""
    world.tried = n
    world.tries[n] += 1
    if world.tries[n] <= failures:
        raise Oops(n)
    return n


def dies(x):
    """A task that ends its process."""
    world.kills = True
    return x


def nested(n, width, depth):
    """A task that submits others, which may do so too, and waits for them."""
    inner = (nested, (n, width, depth - 1)) if depth else (double, (n,))
    world.nest = Nest([inner, *((double, (n + k,)) for k in range(1, width))], sum)


def nested_value(n, width, depth):
    """What `nested` gives."""
    first = nested_value(n, width, depth - 1) if depth else 2 * n
    return first + sum(2 * (n + k) for k in range(1, width))


def mark(n):
    """A task that leaves a mark."""
    world.marks.add(n)
    return n
