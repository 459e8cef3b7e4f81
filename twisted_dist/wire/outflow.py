"""What goes out on a data connection: no more at a time than the other side takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from twisted.internet.interfaces import IPullProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

from twisted_dist.wire.tls import TLSProtocol
from twisted_dist.wire.transports import write_now

#: bytes that are written in one go; what the kernel has no room for yet is all that waits here
SLICE_BYTES: Final = 256 * 1024


@implementer(IPullProducer)
class Outflow:
    """Writes what iterators give, one after the other, as the transport has room.

    Args:
        transport: with or without TLS.
    """

    def __init__(self, transport: Any) -> None:
        self._transport: Any = transport
        self._queue: deque[Iterator[bytes]] = deque()

    def send(self, data: bytes) -> None:
        """Write after all that was given before; at once, where that is nothing."""
        if self._queue:
            self._queue.append(iter((data,)))
        elif self._transport is not None:
            write_now(self._transport, data)

    def add(self, parts: Iterator[bytes]) -> None:
        """Write what *parts* gives, and ask it for each only when it can be written."""
        if self._transport is None:
            return
        self._queue.append(parts)
        if len(self._queue) == 1:
            self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:  # noqa: N802 -- of Twisted
        """There is room."""
        written = 0
        while self._queue and written < SLICE_BYTES:
            part = next(self._queue[0], None)
            if part is None:
                self._queue.popleft()
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

    def stopProducing(self) -> None:  # noqa: N802 -- of Twisted
        """The connection is gone."""
        self._transport = None
        self._queue.clear()
