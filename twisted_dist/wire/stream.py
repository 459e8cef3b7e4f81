"""One connection of a task stream as a Twisted protocol: frames in and out, nothing decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.errors import ProtocolError
from twisted_dist.wire.frames import FrameDecoder
from twisted_dist.wire.transports import notice_silence, send_at_once

if TYPE_CHECKING:
    from twisted_dist.wire.session import StreamSession


class StreamProtocol(Protocol):
    """Carries a session for as long as this connection lasts.

    Args:
        session: what it carries.
    """

    log = Logger()
    transport: Any

    def __init__(self, session: StreamSession) -> None:
        self._session: StreamSession | None = session
        self._decoder = FrameDecoder(session.max_bytes)
        self._why = ""

    def connectionMade(self) -> None:
        """Write at once what was sent before the switch, and never wait for more."""
        send_at_once(self.transport)
        notice_silence(self.transport)
        if self._session is not None:
            self._session.opened()

    def dataReceived(self, data: bytes) -> None:
        """Hand on each complete message; a bad one ends this session only."""
        session = self._session
        if session is None or session.is_over:
            return
        try:
            session.take(self._decoder.feed(data))
        except ProtocolError as problem:
            peer = self.transport.getPeer()
            self.log.warn("closing {peer}: {problem}", peer=peer, problem=problem)
            session.fail(str(problem))
            self.transport.abortConnection()
        if session.turned is not None:
            session.turned()
        session.flush()

    def lose(self, why: str) -> None:
        """Give this connection up, though nobody has closed it; the session is told *why*."""
        self._why = why
        self.transport.abortConnection()

    def abandon(self, why: str) -> None:
        """Close this connection, of which the session wants to hear nothing more."""
        self._session = None
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the session, with the reason known best."""
        self.transport = None
        session, self._session = self._session, None
        if session is not None:
            session.detached(self, self._why or reason.getErrorMessage())
