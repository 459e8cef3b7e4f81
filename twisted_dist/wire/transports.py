"""What a protocol may ask of a TCP or UNIX transport beside writing."""

from __future__ import annotations

import socket
from typing import Any, Final

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

#: seconds without a word until a peer's kernel is asked whether it is there, how often it is
#: asked, and seconds until the peer is given up: as long as a worker's lease
IDLE_S: Final = 30
PROBES: Final = 3
SILENCE_S: Final = 60
#: bytes of a bulk connection that are read at a time: more would not stay in the cache
BULK_BYTES: Final = 256 * 1024


def send_at_once(transport: Any) -> None:
    """Switch Nagle's algorithm off: a lone answer waited 20 ms for an acknowledgement."""
    set_no_delay = getattr(transport, "setTcpNoDelay", None)
    if set_no_delay is not None:
        set_no_delay(True)


def read_much(transport: Any) -> None:
    """Read more at a time than Twisted does by default: for a connection of large values."""
    if isinstance(transport, Connection):
        transport.bufferSize = BULK_BYTES


def notice_silence(transport: Any) -> None:
    """Have the kernel end the connection of a machine that is gone without a word.

    It asks when nothing has come for `IDLE_S`, and gives up `SILENCE_S` after that began. A
    stopped process is none of this, nor one that does not come to read: its kernel answers.
    Therefore no TCP_USER_TIMEOUT, which ends those as well when their buffers are full; what
    is under way to a machine that is gone is given up by the kernel's own, longer limit.
    """
    keep_alive = getattr(transport, "setTcpKeepAlive", None)
    if keep_alive is None:
        return
    keep_alive(True)
    if not isinstance(transport, Connection) or transport.socket.family == socket.AF_UNIX:
        return
    for option, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", (SILENCE_S - IDLE_S) // PROBES),
        ("TCP_KEEPCNT", PROBES),
    ):
        if hasattr(socket, option):  # Linux has all of them
            transport.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def write_now(transport: Any, data: bytes) -> None:
    """Write *data*, without the reactor's next turn where the kernel takes it at once.

    A transport queues what it is given and sends it when the reactor has polled again: a
    turn and two system calls for each of the five hops of a task's round trip. Where
    nothing is queued, the bytes go to the kernel directly, and only what it does not take
    is queued. `wire.tls` does the same with what it has encrypted.
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
        try:
            sent = transport.socket.send(data)
        except OSError:  # it is full, or lost: the transport finds out, and knows what to do
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)


def hear_directly(transport: Any, protocol: Protocol) -> None:
    """Let what arrives come to *protocol*, without what endpoints put around it to connect.

    Twisted's own ``startTLS`` changes a connection's protocol in the same way.
    """
    if isinstance(transport, Connection):
        transport.protocol = protocol


class SocketTransport(Connection):
    """A connected socket of any family, such as one of a pair, with a protocol on it.

    Twisted's own for UNIX sockets looks for file descriptors in every message, at a tenth of
    a small task's cost in a nanny.
    """

    def __init__(self, reactor: Any, sock: socket.socket, protocol: Protocol) -> None:
        super().__init__(sock, protocol, reactor)
        self.logstr = type(protocol).__name__
        self.connected = True
        protocol.makeConnection(self)
        self.startReading()

    def getPeer(self) -> str:
        """What logs say of the other end."""
        return "the other end of a socket pair"

    getHost = getPeer
