"""The messages of data connections: numbers, shapes, and what is none."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from twisted_dist.errors import ProtocolError
from twisted_dist.segments.segment import are_lengths, is_place

GET, GOT, PUT, STORED = 1, 2, 3, 4
HOST, READS, TAKEN = 5, 6, 7
#: values that the other end reads where they are; values that follow, as bytes without frames
GOT_PLACED, GOT_STREAM, PUT_PLACED, PUT_STREAM = 8, 9, 10, 11
#: of one frame
MAX_DATA_BYTES: Final = 2**31
#: bytes of one value that streams
MAX_STREAM_BYTES: Final = 2**42
#: what `STORED` says where values could not be read where they are
NOT_READ: Final = -1

_FIELDS: Final[dict[object, tuple[type, ...]]] = {
    GET: (list,),
    GOT: (list, list, bool),
    PUT: (list, list, bool),
    STORED: (int,),
    READS: (bool,),
    TAKEN: (),
    GOT_PLACED: (list, list),
    PUT_PLACED: (list, list),
    GOT_STREAM: (int, list, int),
    PUT_STREAM: (int, list, int),
}
_ID: Final[set[object]] = {int}
_BUFFER: Final[set[object]] = {bytes}


def header_sum(task_id: int, lengths: Sequence[int]) -> int:
    """What is sent along with lengths: the bytes that follow have nothing else to go by."""
    return zlib.crc32(repr((task_id, *lengths)).encode())


def _is_value(value: Any) -> bool:
    return type(value) is bytes or (
        type(value) is list and value != [] and set(map(type, value)) <= _BUFFER
    )


def checked(payload: bytes) -> list[Any]:
    """A message of the shape that its number asks for; ProtocolError otherwise."""
    try:
        message = msgpack.unpackb(payload, raw=False, max_bin_len=MAX_DATA_BYTES)
    except Exception as problem:
        raise ProtocolError(f"a frame that is not msgpack: {problem}") from None
    if type(message) is not list or set(map(type, message[:2])) != _ID:
        raise ProtocolError("a data message that is not [number, request, …]")
    number, fields = message[0], message[2:]
    if number == HOST:
        probe = list if is_place(fields[:1] and fields[0]) else type(None)
        if tuple(map(type, fields)) != (probe, bool):
            raise ProtocolError("data message 5: wrong fields")
        return message
    kinds = _FIELDS.get(number)
    if kinds is None:
        raise ProtocolError(f"there is no data message {number}")
    if tuple(map(type, fields)) != kinds:
        raise ProtocolError(f"data message {number}: wrong fields")
    if kinds[:1] == (list,) and not set(map(type, fields[0])) <= _ID:
        raise ProtocolError(f"data message {number}: ids that are not integers")
    if number in (GOT, PUT) and not (
        len(fields[0]) == len(fields[1]) and all(map(_is_value, fields[1]))
    ):
        raise ProtocolError(f"data message {number}: values that are none")
    if number in (GOT_PLACED, PUT_PLACED) and not (
        len(fields[0]) == len(fields[1]) and all(map(is_place, fields[1]))
    ):
        raise ProtocolError(f"data message {number}: places that are none")
    if number in (GOT_STREAM, PUT_STREAM):
        _check_stream(*fields)
    return message


def _check_stream(task_id: int, lengths: list[int], sum_: int) -> None:
    if not are_lengths(lengths) or sum(lengths) > MAX_STREAM_BYTES:
        raise ProtocolError("a value whose lengths are none")
    if header_sum(task_id, lengths) != sum_:
        raise ProtocolError("lengths of a value that do not have the sum that was sent with them")
