"""The task stream as a Twisted protocol: frames in and out, nothing decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.errors import ProtocolError
from twisted_dist.wire.frames import MAX_FRAME_BYTES, FrameDecoder, frame
from twisted_dist.wire.schema import decode
from twisted_dist.wire.transports import notice_silence, send_at_once, write_now


class StreamProtocol(Protocol):
    """Speaks one side of a task stream.

    Args:
        allowed: numbers of the messages that the peer may send.
        received: called with each message's number and fields.
        lost: called once, with one line that says why, when the connection has ended.
        turned: called after each batch of bytes, to flush what it led to.
        max_bytes: bound of one frame.
    """

    log = Logger()
    transport: Any

    def __init__(
        self,
        allowed: Sequence[int],
        received: Callable[[int, dict[str, Any]], None],
        lost: Callable[[str], None],
        turned: Callable[[], None] | None = None,
        max_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._received = received
        self._lost = lost
        self._turned = turned
        self._decoder = FrameDecoder(max_bytes)
        self._reason: str | None = None
        self._outbox: list[bytes] = []

    def connectionMade(self) -> None:
        """Write at once what was sent before the switch, and never wait for more."""
        send_at_once(self.transport)
        notice_silence(self.transport)
        self.flush()

    def send(self, payload: bytes) -> None:
        """Queue one frame; `flush` writes all queued ones at once."""
        self._outbox.append(frame(payload))

    def send_all(self, payloads: Iterable[bytes]) -> None:
        """Queue frames."""
        self._outbox.extend(map(frame, payloads))

    def flush(self) -> None:
        """Write what is queued."""
        if self._outbox and self.transport is not None:
            data = b"".join(self._outbox)
            self._outbox.clear()
            write_now(self.transport, data)

    def end(self, reason: str) -> None:
        """Close the connection; *reason* is what `lost` will be told."""
        self._reason = self._reason or reason
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Hand on each complete message; a bad one ends this connection only."""
        if self._reason is not None:
            return
        try:
            for payload in self._decoder.feed(data):
                self._received(*decode(payload, self._allowed))  # type: ignore[arg-type]
        except ProtocolError as problem:
            peer = self.transport.getPeer()
            self.log.warn("closing {peer}: {problem}", peer=peer, problem=problem)
            self._reason = str(problem)
            self.transport.abortConnection()
        if self._turned is not None:
            self._turned()
        self.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the owner, with the reason known best."""
        self.transport = None
        self._lost(self._reason or reason.getErrorMessage())
