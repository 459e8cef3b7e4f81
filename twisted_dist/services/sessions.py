"""The sessions of a scheduler's members: by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from twisted_dist.access.credential import Certificate
from twisted_dist.errors import ProtocolError, RefusedError
from twisted_dist.wire.session import BEAT_S, TOKEN_BYTES, StreamSession
from twisted_dist.wire.stream import StreamProtocol

#: the scheduler itself has stood still where a beat comes so many seconds late: it was stopped,
#: or its machine slept
STALL_S: Final = BEAT_S


@frozen
class _Known:
    session: StreamSession
    certificate: Certificate | None
    back: Callable[[], None]


class Sessions:
    """Opens sessions, and lets them go on when their members dial again.

    Args:
        reactor: for the time.
        random_bytes: makes tokens.
    """

    def __init__(self, reactor: Any, random_bytes: Callable[[int], bytes]) -> None:
        self._reactor = reactor
        self._random_bytes = random_bytes
        self._known: dict[bytes, _Known] = {}
        self._last = 0.0

    def begin(self) -> None:
        """The time runs from now on."""
        self._last = self._reactor.seconds()

    def close(self, why: str, *, returns: bool) -> None:
        """End all sessions; *returns* where members may wait for another scheduler here."""
        known, self._known = self._known, {}
        for each in known.values():
            each.session.end(why, returns=returns)

    def open(
        self, session: StreamSession, certificate: Certificate | None, back: Callable[[], None]
    ) -> bytes:
        """Know a session from now on; its token. *back* is called when it goes on."""
        session.token = self._random_bytes(TOKEN_BYTES)
        self._known[session.token] = _Known(session, certificate, back)
        return session.token

    def forget(self, session: StreamSession) -> None:
        """It is over."""
        self._known.pop(session.token, None)

    def resume(self, proto: Any, token: bytes, received: int) -> StreamProtocol:
        """Let a session go on, on a connection that its member has dialled.

        Raises:
            RefusedError: there is none, any more.
        """
        known = self._known.get(token)
        if known is None or known.certificate != proto.certificate or known.session.is_over:
            raise RefusedError("this session is over here, or was another scheduler's")
        try:
            stream = known.session.resumed(received)
        except ProtocolError as problem:
            raise RefusedError(f"this session cannot go on: {problem}") from None
        known.back()
        return stream

    def stood_still(self) -> float:
        """Seconds for which this process has just stood still; to be asked every `BEAT_S`."""
        now = self._reactor.seconds()
        late = now - self._last - BEAT_S
        self._last = now
        return late if late > STALL_S else 0.0

    def beat(self) -> None:
        """Say to all that this end is there, and notice who is not."""
        for each in list(self._known.values()):
            each.session.beat()
