"""The messages of the task stream: one table, in docs/protocol.md's words and numbers.

A message is a msgpack array ``[number, field, field, …]``. `Message.encode` packs an
instruction (any object with attributes of those names); `decode` checks the shape and
gives the number and a ``{field: value}`` that the peer's end turns into a stimulus. What
passes here cannot make a core raise: kinds are checked element by element (by `map(type)`,
about 20 ns each), and columns that belong together have one length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack
from attrs import field, frozen

from twisted_dist.errors import ProtocolError
from twisted_dist.wire.frames import MAX_FRAME_BYTES, TARGET_BYTES
from twisted_dist.wire.kinds import ELEMENTS, KINDS, SCALARS, TYPES

#: one packer for all: to make one takes longer than to pack. msgpack's, in C, holds the
#: interpreter's lock all the while, as there is no Python code in what it packs; where only
#: the one in Python could be installed, threads would mix their messages
_IS_IN_C: Final = msgpack.Packer.__module__ != "msgpack.fallback"
_PACK: Final = msgpack.Packer(use_bin_type=True).pack if _IS_IN_C else msgpack.packb

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
    names: tuple[str, ...] = field(init=False)
    #: the types of all fields; None for a field that may have several
    types: list[type | None] = field(init=False)
    #: indices of fields that are columns of these types, and nothing else
    plain: tuple[tuple[int, frozenset[object]], ...] = field(init=False)
    #: indices of other fields with more to check than their type, and what does
    others: tuple[tuple[int, Callable[[Any], Any]], ...] = field(init=False)
    #: indices of `parallel`
    lengths: tuple[int, ...] = field(init=False)

    @columns.default
    def _columns(self) -> tuple[int, ...]:
        if not self.parallel:  # a lone column of ids may be cut too
            return (0,) if [kind for _, kind in self.fields] == ["ints"] else ()
        return tuple(n for n, (name, _) in enumerate(self.fields) if name in self.parallel)

    @heavy.default
    def _heavy(self) -> tuple[int, ...]:
        return tuple(index for index in self.columns if self.fields[index][1] in _HEAVY)

    @names.default
    def _names(self) -> tuple[str, ...]:
        return tuple(name for name, _kind in self.fields)

    @types.default
    def _types(self) -> list[type | None]:
        return [TYPES.get(kind) for _name, kind in self.fields]

    @plain.default
    def _plain(self) -> tuple[tuple[int, frozenset[object]], ...]:
        kinds = [kind for _name, kind in self.fields]
        return tuple((n, ELEMENTS[kind]) for n, kind in enumerate(kinds) if kind in ELEMENTS)

    @others.default
    def _others(self) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
        kinds = [KINDS[kind] for _name, kind in self.fields]
        columns = [n for n, _elements in self.plain]
        return tuple(
            (n, check) for n, check in enumerate(kinds) if check not in SCALARS and n not in columns
        )

    @lengths.default
    def _lengths(self) -> tuple[int, ...]:
        return tuple(map(self.names.index, self.parallel))

    def pack(self, *values: Any) -> bytes:
        """The payload of a frame, from field values in order."""
        return _PACK([self.number, *values])  # type: ignore[no-any-return]

    def accepts(self, values: list[Any]) -> bool:
        """Whether each value is of its field's kind."""
        types = self.types
        if list(map(type, values)) != types:
            if None not in types or len(values) != len(types):
                return False
            if any(t is not None and type(v) is not t for v, t in zip(values, types)):
                return False
        for index, elements in self.plain:
            column = values[index]
            if len(column) == 1:  # quicker than what follows
                if type(column[0]) not in elements:
                    return False
            elif column and not elements.issuperset(map(type, column)):
                return False
        for index, check in self.others:
            value = values[index]
            if (value or types[index] is None) and not check(value):  # as a rule, it is empty
                return False
        return True

    def complaint(self, values: list[Any]) -> str:
        """What `accepts` does not like."""
        if len(values) != len(self.fields):
            return f"{self.name}: {len(self.fields)} fields expected"
        for (name, kind), value in zip(self.fields, values):
            check = KINDS[kind]
            if type(value) is not check and (check in SCALARS or not check(value)):
                return f"{self.name}.{name}: expected {kind}"
        return f"{self.name}: not as it should be"

    def encode(self, instruction: object) -> list[bytes]:
        """Payloads of frames, from an object with attributes named as the fields.

        More than one where columns are long: each stays near `TARGET_BYTES`, so that no
        batch, however large, goes over the bound of a frame.
        """
        values = [getattr(instruction, name) for name in self.names]
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
PEERS = _message(6, "peers", "workers:int generation:int")
# either → the other, of the session itself
ARRIVED = _message(3, "arrived", "position:int")
RESUMED = _message(4, "resumed", "received:int")
BYE = _message(5, "bye", "reason:str returns:bool")
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
SCATTERED = _message(15, "scattered", "ids:ints nbytes:ints holder:int", "ids nbytes")
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
STOP = _message(37, "stop", "ids:ints attempts:ints", "ids attempts")
RESTART = _message(34, "restart", "")
LEAVE = _message(28, "leave", "")
PASS = _message(36, "pass", "request:int ticket:bytes error:str")
COPY = _message(35, "copy", "sources:sources")
UPLOADS = _message(
    38, "uploads", "numbers:ints names:strs digests:blobs sizes:ints", "numbers names digests sizes"
)
UPLOAD_PIECE = _message(39, "upload-piece", "number:int offset:int blob:bytes")
RELAY = _message(29, "relay", "ticket:bytes asker:str")
ERRAND = _message(26, "errand", "id:int blob:bytes")
STOP_ERRANDS = _message(27, "stop-errands", "ids:ints")
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
STOPPED = _message(50, "stopped", "ids:ints attempts:ints texts:strs", "ids attempts texts")
MISSING = _message(44, "missing", "ids:ints attempts:ints missing:ints addresses:strs silent:bool")
COPIES = _message(45, "copies", "ids:ints")
PUT = _message(49, "put", "ids:ints")
SECEDED = _message(47, "seceded", "ids:ints attempts:ints waiting:bool", "ids attempts")
PASS_WANTED = _message(48, "pass-wanted", "request:int task:int attempt:int")
OUTPUT = _message(
    51, "output", "ids:ints streams:ints texts:strs left_out:int", "ids streams texts"
)
UPLOAD_WANTED = _message(52, "upload-wanted", "number:int offset:int")
UPLOADED = _message(53, "uploaded", "number:int error:str")
ERRAND_DONE = _message(55, "errand-done", "id:int kind:str nbytes:int blob:bytes text:str")
RETIRE = _message(54, "retire", "timeout_s:number waits:bool")
RESULTS_CLAIMED = _message(
    60, "results-claimed", "ids:ints attempts:ints nbytes:ints", "ids attempts nbytes"
)
TASKS_CLAIMED = _message(61, "tasks-claimed", "ids:ints attempts:ints waiting:ints", "ids attempts")
ALL_CLAIMED = _message(62, "all-claimed", "")
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
    values = fields[1:]
    if not message.accepts(values):
        raise ProtocolError(message.complaint(values))
    lengths = message.lengths
    if lengths:
        rows = len(values[lengths[0]])
        for index in lengths:
            if len(values[index]) != rows:
                raise ProtocolError(f"{message.name}: columns of different lengths")
    return number, dict(zip(message.names, values))
