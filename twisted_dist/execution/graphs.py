"""What runs a graph's task where the call alone does not say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted_dist.execution.payloads import resolve_future


class Ref:
    """Stands for an input in a call: where the task runs, its result takes the place."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    def __reduce__(self) -> Any:
        return resolve_future, (self.position,)


class Nested:
    """A call among a task's arguments, made just before the task's own."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> Any:
        return Nested, (self.function, self.args)


def evaluate(argument: Any) -> Any:
    """An argument with the calls in it made; lists are looked into."""
    if isinstance(argument, Nested):
        return argument.function(*map(evaluate, argument.args))
    if type(argument) is list:
        return [evaluate(each) for each in argument]
    return argument


def run_nested(function: Callable[..., Any], *args: Any) -> Any:
    """Call *function* with evaluated arguments."""
    return function(*map(evaluate, args))


def as_it_is(value: Any) -> Any:
    """A value of a graph that is no call."""
    return evaluate(value)


def run_node(node: Any, keys: Sequence[Any], *values: Any) -> Any:
    """Run a node of dask's own kind, which knows its function and takes its inputs by key."""
    return node(dict(zip(keys, values)))
