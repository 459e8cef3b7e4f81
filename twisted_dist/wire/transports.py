"""What a protocol may ask of a TCP or UNIX transport beside writing."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.tcp import Connection
from zope.interface import directlyProvides, providedBy

#: longer pieces come from a long write, of which more follows: they are left to gather
_PIECE_BYTES: Final = 2**14


def send_at_once(transport: Any) -> None:
    """Switch Nagle's algorithm off: a lone answer waited 20 ms for an acknowledgement."""
    set_no_delay = getattr(transport, "setTcpNoDelay", None)
    if set_no_delay is not None:
        set_no_delay(True)


def write_now(transport: Any, data: bytes) -> None:
    """Write *data*, without the reactor's next turn where the kernel takes it at once.

    A transport queues what it is given and sends it when the reactor has polled again: a
    turn and two system calls for each of the five hops of a task's round trip. Where
    nothing is queued, the bytes go to the kernel directly, and only what it does not take
    is queued. A TLS transport does the same below, with what it has encrypted
    (`PromptTransport`).
    """
    if (
        isinstance(transport, Connection)
        and len(data) <= transport.SEND_LIMIT  # more takes several turns anyway
        and transport.connected
        and not transport.disconnecting
        and not transport.TLS
        and not transport.dataBuffer
        and not transport._tempDataBuffer
    ):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int):  # or what ended the connection, which write() will find too
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)


class PromptTransport:
    """A transport that writes at once (`write_now`); otherwise the one it is made of."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        directlyProvides(self, providedBy(transport))

    def write(self, data: bytes) -> None:
        """Write now, unless this is a piece of something long."""
        if len(data) < _PIECE_BYTES:
            write_now(self._transport, data)
        else:
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
