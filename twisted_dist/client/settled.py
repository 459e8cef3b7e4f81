"""Which functions by value need not be pickled again, since what they refer to is the same.

A function of ``__main__``, or a lambda, goes to the network by value, with the globals that
it uses. To pickle one takes four times as long as all else that submitting a task takes, and
people submit in loops. So what its pickle depends on is compared instead: the code, the
defaults and the globals that it names, by identity, where none of these can change in place.
Whatever is not certain is pickled anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Final

#: kinds of values that cannot change in place, or that pickle as their name only
_FIXED: Final = frozenset(
    (BuiltinFunctionType, bool, bytes, complex, float, int, ModuleType, str, type(None))
)
_MISSING: Final = object()


def traits(function: Callable[..., Any], names: tuple[str, ...]) -> list[object] | None:
    """What the pickle of a function depends on, to be compared by identity.

    Args:
        function: any.
        names: `names_in` its code.

    Returns:
        None where its pickle may become another one without any of these becoming another.
    """
    if type(function) is not FunctionType or function.__closure__ or function.__dict__:
        return None
    found: list[object] = [function.__code__, function.__name__, function.__qualname__]
    found += [function.__module__, function.__defaults__]
    if function.__kwdefaults__ or any(type(v) not in _FIXED for v in function.__defaults__ or ()):
        return None
    globals_ = function.__globals__
    for name in names:
        value = globals_.get(name, _MISSING)
        if value is _MISSING:
            found.append(value)
            continue
        if type(value) not in _FIXED:
            return None
        if type(value) is ModuleType:
            if sys.modules.get(value.__name__) is not value:
                return None  # made by hand: it is pickled with all that is in it
            if hasattr(value, "__path__"):  # of its modules, those imported are pickled along
                found.append(len(sys.modules))
        found.append(value)
    return found


def names_in(code: CodeType) -> tuple[str, ...]:
    """All names in a function's code, and in those within it, that may be of globals."""
    return tuple(dict.fromkeys(_names(code)))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def are_same(one: list[object], other: list[object] | None) -> bool:
    """Whether two `traits` are of the same pickle."""
    if other is None or len(one) != len(other):
        return False
    return all(a is b or (type(a) is type(b) is int and a == b) for a, b in zip(one, other))
