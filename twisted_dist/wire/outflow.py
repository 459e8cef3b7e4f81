"""What goes out on a data connection: no more at a time than the other side takes.

Without TLS the kernel sends a segment from where it is (sendfile(2)): no byte of it comes here.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from twisted.internet.interfaces import IPullProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

from twisted_dist.segments.segment import ALIGNMENT, Segment
from twisted_dist.wire.tls import TLSProtocol
from twisted_dist.wire.transports import write_now

#: bytes that are written in one go; what the kernel has no room for yet is all that waits here
SLICE_BYTES: Final = 256 * 1024
#: bytes, or a segment that is sent from its first buffer on
Part: TypeAlias = "bytes | Segment"


@implementer(IPullProducer)
class Outflow:
    """Writes what iterators give, one after the other, as the transport has room.

    Args:
        transport: with or without TLS.
    """

    def __init__(self, transport: Any) -> None:
        self._transport: Any = transport
        self._queue: deque[Iterator[Part]] = deque()
        #: the segment that is being sent, and how far that is
        self._segment: Segment | None = None
        self._at = 0

    def send(self, data: bytes) -> None:
        """Write after all that was given before; at once, where that is nothing."""
        if self._queue:
            self._queue.append(iter((data,)))
        elif self._transport is not None:
            write_now(self._transport, data)

    def add(self, parts: Iterator[Part]) -> None:
        """Write what *parts* gives, and ask it for each only when it can be written."""
        if self._transport is None:
            return
        self._queue.append(parts)
        if len(self._queue) == 1:
            self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """There is room."""
        written = 0
        while self._queue and written < SLICE_BYTES:
            if self._segment is not None:
                self._send_slice(self._segment)
                break
            part = next(self._queue[0], None)
            if part is None:
                self._queue.popleft()
            elif isinstance(part, Segment):
                self._segment, self._at = part, ALIGNMENT
            elif self._transport is not None:
                written += len(part)
                write_now(self._transport, part)
        if self._transport is None:
            return
        if not self._queue:
            self._transport.unregisterProducer()
            return
        below = self._transport
        if isinstance(below, TLSProtocol):
            below = below.transport
        if isinstance(below, Connection) and below.connected and not below.disconnecting:
            below.startWriting()  # which `write_now` may have had no reason to: ask again

    def _send_slice(self, segment: Segment) -> None:
        """The next bytes of a segment."""
        transport = self._transport
        size = min(SLICE_BYTES, segment.span - self._at)
        try:
            if isinstance(transport, Connection) and not (
                transport.dataBuffer or transport._tempDataBuffer  # which go before it
            ):
                size = _send_file(transport, segment, self._at, size)
            else:
                write_now(transport, segment.read(self._at, size))
        except OSError:  # its disk: after its lengths nothing else can be said here
            transport.abortConnection()
            self.stopProducing()
            return
        self._at += size
        if self._at == segment.span:
            self._segment = None

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._transport = self._segment = None
        self._queue.clear()


def _send_file(transport: Connection, segment: Segment, at: int, size: int) -> int:
    """What the socket takes of it at once; the rest is tried when there is room again."""
    try:
        return os.sendfile(transport.fileno(), segment.file.fd, segment.start + at, size)
    except BlockingIOError:
        return 0
    except (BrokenPipeError, ConnectionError):  # the reactor will see that
        return 0
