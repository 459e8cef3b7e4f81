"""Bytes written by the thread that has them, where waking the reactor's would take longer.

A lone small message costs less to encrypt and to hand to the kernel than it costs to wake
another thread for it: a tenth of a small task's round trip (docs/benchmarks.md). Twisted's
transports are of the reactor's thread; from others nothing is done to them here where
anything is queued, and all is under one lock with the reactor's own writes.

Ctrl-C raises in the main thread between any two steps of Python's, and a submission is where
an interactive user's main thread is often: what is done is noted in the same step, by C.
"""

from __future__ import annotations

from threading import RLock
from typing import Any

from twisted.internet.tcp import Connection

from twisted_dist.wire.tls import TLSProtocol


class DirectLine:
    """A connection as threads other than the reactor's may write to it.

    Args:
        reactor: the connection's; told of what the kernel does not take at once.
        transport: of `TLSProtocol`, or a TCP connection.

    Attributes:
        lock: to be held for every write to that connection, the reactor's included.
    """

    def __init__(self, reactor: Any, transport: Any) -> None:
        self._reactor = reactor
        self._tls = transport if isinstance(transport, TLSProtocol) else None
        self._connection = transport if self._tls is None else self._tls.transport
        self.lock = RLock() if self._tls is None else self._tls.lock
        if isinstance(self._connection, Connection):
            self._close_under_lock()

    def _close_under_lock(self) -> None:
        """A socket that is closed while a thread writes to it may by then be another's."""
        close = self._connection._closeSocket

        def close_socket(orderly: bool) -> None:
            del self._connection._closeSocket  # a circle
            with self.lock:
                close(orderly)

        self._connection._closeSocket = close_socket

    def _is_free(self) -> bool:
        line = self._connection
        return bool(
            isinstance(line, Connection)
            and line.connected
            and not line.disconnecting
            and not line.TLS
            and not line._tempDataBuffer  # in this order: from here the bytes move to there
            and not line.dataBuffer
        )

    def write(self, data: bytes, written: list[bytes]) -> None:
        """Write *data* whole, or nothing; for whoever holds `lock`.

        Nothing is written where bytes are queued before it, where the connection is not up,
        or where this is no connection of Twisted's.

        Args:
            data: what to write: not more than the kernel may well take.
            written: gets the bytes that are on their way, whatever is raised then.

        Raises:
            BaseException: what a signal's handler raised.
        """
        if not self._is_free():
            return
        taken: list[int] = []
        try:
            if self._tls is None:
                written.append(data)
            elif not self._tls.encrypt(data, written):
                return
            # one step, with its result: no signal's handler between them
            taken.extend(map(self._connection.socket.send, written))
            if taken != [len(each) for each in written]:
                self._queue(written, taken)
        except OSError:  # full, or lost: the transport finds out, and knows what to do
            self._queue(written, taken)
        except BaseException:
            self._queue(written, taken)
            raise

    def _queue(self, written: list[bytes], taken: list[int]) -> None:
        """Put what the kernel has not taken where the transport takes it from."""
        rest = b"".join(written)[sum(taken) :]
        if rest:
            line = self._connection
            taken.append(len(rest))
            line._tempDataBuffer.append(rest)
            line._tempDataLen += len(rest)
            self._reactor.callFromThread(self._go_on)

    def _go_on(self) -> None:
        if self._connection.connected:
            self._connection.startWriting()
