"""The kinds of fields in the task stream's messages: what a value must be, down to its elements."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from twisted_dist.access.credential import is_certificate

_INT: Final[set[object]] = {int}
_NUMBERS: Final[set[object]] = {int, float}
_BYTES: Final[set[object]] = {bytes}
_MAYBE_BYTES: Final[set[object]] = {bytes, type(None)}
_STR: Final[set[object]] = {str}


def _column(kinds: AbstractSet[object]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and set(map(type, value)) <= kinds


_is_ints: Final = _column(_INT)
_is_blobs: Final = _column(_BYTES)


def _rows(value: Any) -> bool:
    return type(value) is list and (not value or all(map(_is_ints, value)))


#: digest, ids, attempts, calls, deps, wanted
_RUN_FIELDS: Final = 6


def _runs(value: Any) -> bool:
    if type(value) is not list:
        return False
    for run in value:
        if type(run) is not list or len(run) != _RUN_FIELDS:
            return False
        digest, ids, attempts, calls, deps, wanted = run
        if type(digest) is not bytes or type(wanted) is not bool:
            return False
        if not (_is_ints(ids) and _is_ints(attempts) and _is_blobs(calls) and _rows(deps)):
            return False
        if not len(ids) == len(attempts) == len(calls) or (deps and len(deps) != len(ids)):
            return False
    return True


#: an address and the ids that are there
_PAIR: Final = 2


def _sources(value: Any) -> bool:
    if type(value) is not list:
        return False
    if not value:
        return True
    if not all(type(pair) is list and len(pair) == _PAIR for pair in value):
        return False
    return all(type(address) is str and _is_ints(ids) for address, ids in value)


def _metrics(value: Any) -> bool:
    return (
        type(value) is dict
        and set(map(type, value)) <= _STR
        and set(map(type, value.values())) <= _NUMBERS
    )


def _keys(value: Any) -> bool:
    return (
        type(value) is dict
        and set(map(type, value.values())) <= _STR
        and set(map(type, value)) <= _BYTES
        and all(map(is_certificate, value))
    )


#: more than anybody can mean
MOST_RETRIES: Final = 10**9
MOST_AMOUNT: Final = 2**62


def is_amounts(value: Any) -> bool:
    """Whether it is ``{name of a resource: amount}``."""
    return (
        type(value) is dict
        and set(map(type, value)) <= _STR
        and all(type(each) is int and 0 <= each <= MOST_AMOUNT for each in value.values())
    )


#: {name: what says whether a value is one}; what is left out has its default
_OPTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "workers": _column(_STR),
    "allow_other_workers": lambda value: type(value) is bool,
    "resources": is_amounts,
    "retries": lambda value: type(value) is int and 0 <= value <= MOST_RETRIES,
    "priority": lambda value: type(value) is int,
    "timeout_s": lambda value: type(value) in _NUMBERS and 0 <= value < float("inf"),
    "wait_for_worker": lambda value: type(value) is bool,
}


def _options(value: Any) -> bool:
    if type(value) is not dict:
        return False
    if not value:  # nearly always
        return True
    return all(name in _OPTIONS and _OPTIONS[name](each) for name, each in value.items())


#: kinds of fields: what docs/protocol.md calls them, and the type, or the function that
#: says whether a value is one
KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "int": int,
    "str": str,
    "bytes": bytes,
    "bool": bool,
    "number": lambda value: type(value) in _NUMBERS,
    "any": lambda value: True,
    "ints": _is_ints,
    "strs": _column(_STR),
    "blobs": _is_blobs,
    "blobs?": _column(_MAYBE_BYTES),
    "rows": _rows,
    "runs": _runs,
    "sources": _sources,
    "metrics": _metrics,
    "keys": _keys,
    "options": _options,
}

#: the type that each kind's values have, where there is one
TYPES: Final[dict[str, type]] = {
    "int": int,
    "str": str,
    "bytes": bytes,
    "bool": bool,
    "metrics": dict,
    "keys": dict,
    "options": dict,
    **dict.fromkeys(("ints", "strs", "blobs", "blobs?", "rows", "runs", "sources"), list),
}
#: and the types of its elements, for kinds of which that is all
ELEMENTS: Final[dict[str, frozenset[object]]] = {
    "ints": frozenset(_INT),
    "strs": frozenset(_STR),
    "blobs": frozenset(_BYTES),
    "blobs?": frozenset(_MAYBE_BYTES),
}
SCALARS: Final = frozenset((int, str, bytes, bool))
