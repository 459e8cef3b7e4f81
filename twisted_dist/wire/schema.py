"""The messages of the task stream: one table, in docs/protocol.md's words and numbers.

A message is a msgpack array ``[number, field, field, …]``. `Message.encode` packs an
instruction (any object with attributes of those names); `decode` checks the shape and
gives the number and a ``{field: value}`` that the peer's end turns into a stimulus. What
passes here cannot make a core raise: kinds are checked element by element (by `set(map(type))`,
about 20 ns each), and columns that belong together have one length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgpack
from attrs import field, frozen

from twisted_dist.access.credential import is_certificate
from twisted_dist.errors import ProtocolError
from twisted_dist.wire.frames import MAX_FRAME_BYTES, TARGET_BYTES

_INT: Final[set[object]] = {int}
_NUMBERS: Final[set[object]] = {int, float}
_BYTES: Final[set[object]] = {bytes}
_MAYBE_BYTES: Final[set[object]] = {bytes, type(None)}
_STR: Final[set[object]] = {str}


def _column(kinds: AbstractSet[object]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and set(map(type, value)) <= kinds


def _rows(value: Any) -> bool:
    return type(value) is list and all(map(_column(_INT), value))


#: digest, ids, attempts, calls, deps, wanted
_RUN_FIELDS: Final = 6


def _runs(value: Any) -> bool:
    if type(value) is not list:
        return False
    for run in value:
        if type(run) is not list or len(run) != _RUN_FIELDS:
            return False
        digest, ids, attempts, calls, deps, wanted = run
        ok = type(digest) is bytes and type(wanted) is bool and _column(_BYTES)(calls)
        ok = ok and _column(_INT)(ids) and _column(_INT)(attempts) and _rows(deps)
        if not ok or not len(ids) == len(attempts) == len(calls):
            return False
        if deps and len(deps) != len(ids):
            return False
    return True


#: an address and the ids that are there
_PAIR: Final = 2


def _sources(value: Any) -> bool:
    if type(value) is not list:
        return False
    if not all(type(pair) is list and len(pair) == _PAIR for pair in value):
        return False
    return all(type(address) is str and _column(_INT)(ids) for address, ids in value)


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
    "ints": _column(_INT),
    "strs": _column(_STR),
    "blobs": _column(_BYTES),
    "blobs?": _column(_MAYBE_BYTES),
    "rows": _rows,
    "runs": _runs,
    "sources": _sources,
    "metrics": _metrics,
    "keys": _keys,
    "options": _options,
}

_SCALARS: Final = frozenset((int, str, bytes, bool))

BY_NUMBER: Final[dict[int, Message]] = {}

#: kinds of columns whose elements may be large
_HEAVY: Final = ("blobs", "blobs?", "strs")
#: bytes of a row beside what is heavy in it: five integers of nine bytes at most
_ROW_BYTES: Final = 45
_MOST_ROWS: Final = TARGET_BYTES // _ROW_BYTES


def pieces(count: int, heavy: Sequence[Sequence[Any]]) -> list[slice]:
    """Ranges of *count* rows whose bytes stay near `TARGET_BYTES`; one, nearly always.

    Args:
        count: of rows.
        heavy: columns of bytes, texts or None, whose lengths count.
    """
    weight = sum(len(each) for column in heavy for each in column if each)
    if count <= _MOST_ROWS and weight <= TARGET_BYTES:
        return [slice(0, count)]
    parts = []
    start = total = 0
    for index in range(count):
        size = sum(len(column[index] or b"") for column in heavy)
        if index > start and (total + size > TARGET_BYTES or index - start >= _MOST_ROWS):
            parts.append(slice(start, index))
            start, total = index, 0
        total += size
    return [*parts, slice(start, count)]


@frozen
class Message:
    """One kind of message.

    Attributes:
        number: on the wire; never used again for another.
        fields: ``name: kind`` in order.
        parallel: names of columns that have one length.
    """

    number: int
    name: str
    fields: tuple[tuple[str, str], ...]
    parallel: tuple[str, ...] = field(default=())
    #: indices of the fields that `encode` cuts, and of those whose elements may be large
    columns: tuple[int, ...] = field(init=False)
    heavy: tuple[int, ...] = field(init=False)
    #: name and kind of each field, with the type or the function that checks the kind
    checks: tuple[tuple[str, str, Callable[[Any], Any]], ...] = field(init=False)

    @columns.default
    def _columns(self) -> tuple[int, ...]:
        if not self.parallel:  # a lone column of ids may be cut too
            return (0,) if [kind for _, kind in self.fields] == ["ints"] else ()
        return tuple(n for n, (name, _) in enumerate(self.fields) if name in self.parallel)

    @heavy.default
    def _heavy(self) -> tuple[int, ...]:
        return tuple(index for index in self.columns if self.fields[index][1] in _HEAVY)

    @checks.default
    def _checks(self) -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
        return tuple((name, kind, KINDS[kind]) for name, kind in self.fields)

    def pack(self, *values: Any) -> bytes:
        """The payload of a frame, from field values in order."""
        packed = msgpack.packb([self.number, *values], use_bin_type=True)
        assert isinstance(packed, bytes)
        return packed

    def encode(self, instruction: object) -> list[bytes]:
        """Payloads of frames, from an object with attributes named as the fields.

        More than one where columns are long: each stays near `TARGET_BYTES`, so that no
        batch, however large, goes over the bound of a frame.
        """
        values = [getattr(instruction, name) for name, _kind in self.fields]
        columns = self.columns
        if not columns:
            return [self.pack(*values)]
        rows = len(values[columns[0]])
        if rows == 1:  # one row is one frame, however large
            return [self.pack(*values)]
        parts = pieces(rows, [values[each] for each in self.heavy])
        if len(parts) == 1:
            return [self.pack(*values)]
        return [
            self.pack(*[v[part] if n in columns else v for n, v in enumerate(values)])
            for part in parts
        ]


def _message(number: int, name: str, fields: str, parallel: str = "") -> Message:
    pairs: list[tuple[str, str]] = []
    for each in fields.split():
        column, _, kind = each.partition(":")
        pairs.append((column, kind))
    message = Message(number, name, tuple(pairs), tuple(parallel.split()))
    BY_NUMBER[number] = message
    return message


# scheduler → either
WELCOME = _message(1, "welcome", "index:int info:any")
KEYS = _message(2, "keys", "keys:keys")
# client → scheduler
FUNCTION = _message(10, "function", "digest:bytes name:str blob:bytes")
SUBMIT = _message(
    11,
    "submit",
    "first:int digests:blobs which:ints calls:blobs deps:rows keys:strs shared:bool wanted:ints "
    "options:options",
)
RELEASE = _message(12, "release", "ids:ints")
CANCEL = _message(13, "cancel", "ids:ints")
LOCATE = _message(14, "locate", "request:int ids:ints")
SCATTERED = _message(15, "scattered", "ids:ints nbytes:ints address:str", "ids nbytes")
ASK = _message(
    18, "ask", "request:int what:str name:str blob:bytes ids:ints number:int timeout_s:number"
)
RUNAWAYS = _message(17, "runaways", "ids:ints")
QUERY = _message(16, "query", "request:int what:str arguments:any")
# scheduler → client
FINISHED = _message(20, "finished", "ids:ints nbytes:ints values:blobs?", "ids nbytes values")
ERRED = _message(21, "erred", "ids:ints kinds:strs blobs:blobs texts:strs", "ids kinds blobs texts")
LOCATED = _message(22, "located", "request:int sources:sources aliases:rows")
ANSWER = _message(23, "answer", "request:int error:str result:any")
# scheduler → worker
GIVE_FUNCTION = _message(30, "give-function", "digest:bytes name:str blob:bytes")
TASKS = _message(31, "tasks", "runs:runs sources:sources")
FORGET = _message(32, "forget", "ids:ints attempts:ints", "ids attempts")
DROP = _message(33, "drop", "ids:ints")
RESTART = _message(34, "restart", "")
PASS = _message(36, "pass", "request:int ticket:bytes error:str")
COPY = _message(35, "copy", "sources:sources")
# worker → scheduler
DONE = _message(
    40,
    "done",
    "ids:ints attempts:ints nbytes:ints durations_us:ints values:blobs?",
    "ids attempts nbytes durations_us values",
)
FAILED = _message(
    41, "failed", "ids:ints attempts:ints blobs:blobs texts:strs", "ids attempts blobs texts"
)
RETURNED = _message(42, "returned", "ids:ints attempts:ints", "ids attempts")
KILLED = _message(43, "killed", "ids:ints attempts:ints texts:strs", "ids attempts texts")
MISSING = _message(44, "missing", "ids:ints attempts:ints missing:ints addresses:strs silent:bool")
COPIES = _message(45, "copies", "ids:ints")
PUT = _message(49, "put", "ids:ints")
SECEDED = _message(47, "seceded", "ids:ints attempts:ints waiting:bool", "ids attempts")
PASS_WANTED = _message(48, "pass-wanted", "request:int task:int attempt:int")
HEARTBEAT = _message(46, "heartbeat", "metrics:metrics")


def decode(payload: bytes, allowed: Sequence[int]) -> tuple[int, dict[str, Any]]:
    """Unpack and check one payload.

    Args:
        payload: of one frame.
        allowed: message numbers that this peer may send.

    Raises:
        ProtocolError: not msgpack, an unknown or misplaced number, or a wrong shape.
    """
    try:
        fields = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=False,
            max_bin_len=MAX_FRAME_BYTES,
            max_str_len=MAX_FRAME_BYTES,
        )
    except Exception as problem:
        raise ProtocolError(f"a frame that is not msgpack: {problem}") from None
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise ProtocolError("a frame that is not [number, field, …]")
    number = fields[0]
    message = BY_NUMBER.get(number)
    if message is None or number not in allowed:
        raise ProtocolError(f"message {number} is not one that this peer may send")
    if len(fields) - 1 != len(message.fields):
        raise ProtocolError(f"{message.name}: {len(message.fields)} fields expected")
    out = {}
    for (name, kind, check), value in zip(message.checks, fields[1:]):
        if type(value) is not check and (check in _SCALARS or not check(value)):
            raise ProtocolError(f"{message.name}.{name}: expected {kind}")
        out[name] = value
    if message.parallel and len({len(out[name]) for name in message.parallel}) != 1:
        raise ProtocolError(f"{message.name}: columns of different lengths")
    return number, out
