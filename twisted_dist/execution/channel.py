"""The child's end of the socket to its nanny: frames, blocking, from any thread."""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Any, Final

import msgpack

#: of one frame between nanny and child
MAX_CHANNEL_BYTES: Final = 2**31
#: bytes that are read at a time while a frame's length is not known
_READ_BYTES: Final = 64 * 1024
_HEADER: Final = struct.Struct(">I")


class Channel:
    """Sends from any thread; one thread at a time receives.

    Several small frames that arrived together cost one system call; a large one is read
    straight into its buffer.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._buffer = bytearray()

    def send(self, message: list[Any]) -> None:
        """Write one frame. Raises OSError where the nanny is gone."""
        payload = msgpack.packb(message, use_bin_type=True)
        with self._sending:
            self._sock.sendall(_HEADER.pack(len(payload)) + payload)

    def wait(self, timeout_s: float) -> bool:
        """Whether `receive` has something to begin with, after *timeout_s* at most.

        For the thread that receives.
        """
        return bool(self._buffer) or bool(self._poll.poll(timeout_s * 1000))

    def has_more(self) -> bool:
        """Whether `receive` would have something at once; from any thread."""
        if self._buffer:
            return True
        poll = select.poll()  # one of its own: no two threads may use the same
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def receive(self) -> list[Any] | None:
        """The next message; None at the end of the stream."""
        buffer = self._buffer
        while len(buffer) < _HEADER.size:
            if not self._more():
                return None
        (length,) = _HEADER.unpack_from(buffer)
        end = _HEADER.size + length
        while len(buffer) < end:
            if end - len(buffer) > _READ_BYTES:
                return self._large(length)
            if not self._more():
                return None
        with memoryview(buffer) as view, view[_HEADER.size : end] as payload:
            message = _unpacked(payload)
        del buffer[:end]
        return message

    def _more(self) -> bool:
        try:
            data = self._sock.recv(_READ_BYTES)
        except ConnectionResetError:  # closed, with something of ours unread: an end as any other
            return False
        self._buffer += data
        return bool(data)

    def _large(self, length: int) -> list[Any] | None:
        """A payload of *length*, of which only the beginning is in the buffer."""
        payload = bytearray(length)
        have = len(self._buffer) - _HEADER.size
        payload[:have] = self._buffer[_HEADER.size :]
        self._buffer.clear()
        with memoryview(payload) as view:
            while have < length:
                try:
                    got = self._sock.recv_into(view[have:])
                except ConnectionResetError:
                    return None
                if not got:
                    return None
                have += got
        return _unpacked(payload)


def _unpacked(payload: bytearray | memoryview) -> list[Any]:
    message = msgpack.unpackb(payload, raw=False, strict_map_key=False, use_list=True)
    assert isinstance(message, list)
    return message
