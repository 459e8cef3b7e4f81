"""What comes in on a data connection: frames, and between them the bytes of large values.

Those go where the value will be, piece by piece as they arrive: they are never joined.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.logger import Logger

from twisted_dist.aliases import Value
from twisted_dist.errors import ProtocolError
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.pool import POOL, Writing
from twisted_dist.segments.segment import ALIGNMENT, offsets, span

_HEADER: Final = struct.Struct(">I")


class Sink(Protocol):
    """Takes the bytes of one value."""

    left: int

    def write(self, data: memoryview) -> None:
        """The next ones; `left` at most."""

    def finish(self) -> Value | None:
        """The value, when all are there; None where it could not be kept."""


class SegmentSink:
    """Writes a value into memory that is shared."""

    log = Logger()

    def __init__(self, lengths: list[int]) -> None:
        self.left = span(lengths) - ALIGNMENT
        self._at = ALIGNMENT
        self._writing: Writing | None = None
        self.problem: OSError | None = None
        try:
            self._writing = POOL.begin(lengths)
        except OSError as problem:
            self.problem = problem

    def write(self, data: memoryview) -> None:
        """The next bytes; after a failure they are thrown away."""
        self.left -= data.nbytes
        if self._writing is None:
            return
        try:
            self._writing.write(self._at, data)
        except OSError as problem:
            self.problem, self._writing = problem, None
        self._at += data.nbytes

    def finish(self) -> Value | None:
        """The segment; None after a failure."""
        if self._writing is None:
            self.log.error("no room for a value that came: {problem}", problem=self.problem)
            return None
        return self._writing.finish()


class BytesSink:
    """Keeps a value in this process, where nothing can be shared."""

    def __init__(self, lengths: list[int]) -> None:
        self.left = span(lengths) - ALIGNMENT
        self._lengths = lengths
        self._buffer = bytearray()  # it grows with what comes, not by what was announced

    def write(self, data: memoryview) -> None:
        """The next bytes."""
        self._buffer += data
        self.left -= data.nbytes

    def finish(self) -> Value:
        """Its buffers."""
        with memoryview(self._buffer) as view:
            places = zip(offsets(self._lengths), self._lengths)
            return [bytes(view[at - ALIGNMENT : at - ALIGNMENT + size]) for at, size in places]


def make_sink(lengths: list[int]) -> Sink:
    """For a value with buffers of such lengths."""
    return SegmentSink(lengths) if CAN_SHARE else BytesSink(lengths)


class Inflow:
    """Takes bytes in any chunks.

    Args:
        max_bytes: bound of a frame.
        received: called with each frame's payload; may call `expect`.
    """

    def __init__(self, max_bytes: int, received: Callable[[bytes], None]) -> None:
        self._max = max_bytes
        self._received = received
        self._buffer = bytearray()
        self._sink: Sink | None = None
        self._done: Callable[[Value | None], None] | None = None

    def expect(self, sink: Sink, done: Callable[[Value | None], None]) -> None:
        """What follows is of one value; *done* is called with it."""
        self._sink, self._done = sink, done
        self._end_of_value()

    def _end_of_value(self) -> None:
        if self._sink is not None and not self._sink.left:
            sink, done = self._sink, self._done
            self._sink = self._done = None
            assert done is not None
            done(sink.finish())

    def close(self) -> None:
        """Nothing more comes: let go of whom it would be told to."""
        self._received = lambda payload: None
        self._sink = self._done = None

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises ProtocolError, also whatever `received` raises."""
        view: Any = memoryview(data)
        while view:
            if self._sink is not None:
                part = view[: self._sink.left]
                view = view[part.nbytes :]
                self._sink.write(part)
                self._end_of_value()
            else:
                view = self._frame(view)

    def _frame(self, view: memoryview) -> memoryview:
        """Take what is missing of a frame; hand it on when it is whole."""
        buffer = self._buffer
        if not buffer and view.nbytes >= _HEADER.size:
            end = _HEADER.size + self._length(view)
            if view.nbytes >= end:  # as a rule: no copy more
                self._received(bytes(view[_HEADER.size : end]))
                return view[end:]
        if len(buffer) < _HEADER.size:
            part = view[: _HEADER.size - len(buffer)]
            buffer += part
            view = view[part.nbytes :]
            if len(buffer) < _HEADER.size:
                return view
        part = view[: _HEADER.size + self._length(buffer) - len(buffer)]
        buffer += part
        if len(buffer) == _HEADER.size + self._length(buffer):
            payload = bytes(memoryview(buffer)[_HEADER.size :])
            self._buffer = bytearray()
            self._received(payload)
        return view[part.nbytes :]

    def _length(self, buffer: memoryview | bytearray) -> int:
        length: int = _HEADER.unpack_from(buffer)[0]
        if length > self._max:
            raise ProtocolError(f"a frame of {length} bytes is over the bound of {self._max}")
        return length
