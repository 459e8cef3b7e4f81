"""`LargeValues`: finds, in a graph's calls, what is too large for a message."""

from __future__ import annotations

from typing import Any, Final

from twisted_dist.client.pickling import pickled_call
from twisted_dist.execution.graphs import Nested, Ref

#: pickled bytes from which on a value is taken out of a call that is too large
LARGE_BYTES: Final = 2**20


class LargeValues:
    """Values that go to workers before their graph does, each once, however many calls have it.

    Attributes:
        values: them, in the order in which they were found.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[int, int] = {}

    def take_out(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: int
    ) -> tuple[tuple[Any, ...], dict[str, Any], list[int]]:
        """A call without its large values.

        Args:
            args: its arguments, and
            kwargs: those by name.
            inputs: how many inputs it has.

        Returns:
            The arguments, with inputs in the values' places, and which of `values` these are.
        """
        taken: dict[int, Ref] = {}

        def replaced(value: Any) -> Any:
            if len(pickled_call((value,), {})) < LARGE_BYTES:
                return value
            if not _has_inputs(value):
                number = self._known.setdefault(id(value), len(self.values))
                if number == len(self.values):
                    self.values.append(value)
                return taken.setdefault(number, Ref(inputs + len(taken)))
            if isinstance(value, Nested):
                return Nested(value.function, map(replaced, value.args))
            if isinstance(value, dict):
                return {name: replaced(each) for name, each in value.items()}
            return type(value)(map(replaced, value))

        args = tuple(map(replaced, args))
        kwargs = {name: replaced(each) for name, each in kwargs.items()}
        return args, kwargs, list(taken)


def _has_inputs(value: Any) -> bool:
    """Whether inputs, or calls that may have some, are within."""
    if isinstance(value, (Ref, Nested)):
        return True
    if type(value) is dict:
        return any(map(_has_inputs, value.values()))
    return type(value) in (list, tuple) and any(map(_has_inputs, value))
