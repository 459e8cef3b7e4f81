"""Length-prefixed frames, without I/O: bytes in any chunks in, whole payloads out.

A frame is a 4-byte big-endian length and that many bytes. The length is checked before
memory is taken for it, and the decoder never copies a byte more than twice.
"""

from __future__ import annotations

import struct
from typing import Final

from twisted_dist.errors import ProtocolError

#: of one frame on a task stream; senders split batches at `TARGET_BYTES`
MAX_FRAME_BYTES: Final = 16 * 2**20
#: where senders split: large enough to amortise a frame, small enough not to hold up
#: a heartbeat behind it for more than some milliseconds
TARGET_BYTES: Final = 2**20

_HEADER: Final = struct.Struct(">I")


def frame(payload: bytes) -> bytes:
    """One frame around *payload*."""
    return _HEADER.pack(len(payload)) + payload


class FrameDecoder:
    """Cuts a byte stream into payloads.

    Args:
        max_bytes: a longer frame raises as soon as its length is seen.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes in; give the payloads they complete, in order.

        Raises:
            ProtocolError: a frame longer than the bound; the decoder is spent.
        """
        buffer = self._buffer
        if not buffer and len(data) > _HEADER.size:
            (length,) = _HEADER.unpack_from(data)
            if length == len(data) - _HEADER.size <= self._max:
                return [data[_HEADER.size :]]  # one whole frame: as a rule, and no copy more
        buffer += data
        payloads = []
        start, end = 0, len(buffer)
        while end - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(buffer, start)
            if length > self._max:
                raise ProtocolError(f"a frame of {length} bytes is over the bound of {self._max}")
            if end - start - _HEADER.size < length:
                break
            with memoryview(buffer) as view:
                start += _HEADER.size
                payloads.append(bytes(view[start : start + length]))
            start += length
        del buffer[:start]
        return payloads
