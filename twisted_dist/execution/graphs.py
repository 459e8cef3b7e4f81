"""What is in the pickled call of a graph's task, and what runs it where the call is not all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    """A call among a task's arguments: where the task runs, it is made and its result is there.

    It is made while the arguments are unpickled, after those within it and before the task's
    own, so that no list need be searched for it.
    """

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: Iterable[Any]) -> None:
        self.function = function
        self.args = tuple(args)

    def __reduce__(self) -> Any:
        return self.function, self.args


def call_given(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that came with the arguments, because no other task uses it."""
    return function(*args, **kwargs)


def as_it_is(value: Any) -> Any:
    """A value of a graph that is no call."""
    return value


def run_node(node: Any, keys: Sequence[Any], *values: Any) -> Any:
    """Run a node of dask's own kind, which knows its function and takes its inputs by key."""
    return node(dict(zip(keys, values)))
