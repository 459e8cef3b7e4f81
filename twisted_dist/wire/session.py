"""A task stream that outlives its connections: what was not acknowledged is sent again.

Each end counts the bytes of whole messages that it has handled, says so now and then, and
keeps what it has sent until the other has said so. A connection that is lost is dialled again
by whoever dialled the first, with the session's token and that count; both ends go on behind
what the other has. Nothing is lost, and nothing is handled twice (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Final

from twisted.logger import Logger

from twisted_dist.errors import ProtocolError
from twisted_dist.wire import schema
from twisted_dist.wire.frames import MAX_FRAME_BYTES, frame
from twisted_dist.wire.replay import Direct, Replay
from twisted_dist.wire.schema import decode
from twisted_dist.wire.stream import StreamProtocol
from twisted_dist.wire.transports import write_now

#: seconds between two signs of life on a stream, either way
BEAT_S: Final = 5.0
#: after so many beats in which nothing came, the connection is taken to be dead: 15 s, long
#: before a lease is over, so that there is time to dial again
SILENT_BEATS: Final = 3
#: bytes that come until they are acknowledged, if it is not time to do so anyway: what the
#: other end keeps in vain, against a message of ten bytes
ACK_BYTES: Final = 256 * 1024
#: what may be kept for a peer that does not come back; it is given up beyond
MOST_KEPT: Final = 512 * 2**20
#: bytes of a token: nobody finds one by trying
TOKEN_BYTES: Final = 16

_OWN: Final = (schema.ARRIVED.number, schema.RESUMED.number, schema.BYE.number)


class StreamSession:
    """One side of a task stream.

    Args:
        allowed: numbers of the messages that the peer may send.
        received: called with each message's number and fields.
        lost: called once, with one line that says why, when the session is over.
        turned: called after each batch of bytes, to flush what it led to.
        cut: called with one line that says why when a connection is lost, after which another
            may come (`resume`, `resumed`). Without it, that is the end.
        max_bytes: bound of one frame.
        is_bounded: the peer is given up where more than `MOST_KEPT` waits for it. Who dials
            limits what is sent by other means (`client.flow`), or has it all said again.

    Attributes:
        token: names the session, at the scheduler; empty until that has said it.
        stream: the connection, while there is one.
        may_return: a session that follows this one, when it is over, makes sense.
        lock: held while the connection is written to.
    """

    log = Logger()

    def __init__(
        self,
        allowed: Sequence[int],
        received: Callable[[int, dict[str, Any]], None],
        lost: Callable[[str], None],
        turned: Callable[[], None] | None = None,
        cut: Callable[[str], None] | None = None,
        max_bytes: int = MAX_FRAME_BYTES,
        is_bounded: bool = True,
    ) -> None:
        self._is_bounded = is_bounded and cut is not None
        self._allowed = frozenset((*allowed, *_OWN))
        self._received = received
        self._lost = lost
        self._cut = cut
        self.turned = turned
        self.max_bytes = max_bytes
        self.token = b""
        self.stream: StreamProtocol | None = None
        self.may_return = True
        self.lock: Any = nullcontext()
        self._outbox: list[bytes] = []
        self._kept = Replay()
        #: what is sent is written, too: the connection is there, and it is known where it goes on
        self._is_open = False
        #: the position from which on the peer lacks what was sent; below 0 until it says so
        self._goes_on_at = 0
        self._is_fresh = True
        #: why the session is over; and whether `lost` was told
        self._over: str | None = None
        self._is_told = False
        #: bytes of messages handled, and how many of them the peer knows of
        self.arrived = 0
        self._told = 0
        self._silent = 0

    def first_stream(self) -> StreamProtocol:
        """The protocol of the connection on which the session begins."""
        self.stream = StreamProtocol(self)
        self._goes_on_at = 0
        return self.stream

    # -- connections that follow

    def resume(self) -> StreamProtocol:
        """The protocol of a connection that was dialled again; the other end goes on first."""
        self.stream = StreamProtocol(self)
        self._goes_on_at = -1
        return self.stream

    def resumed(self, position: int) -> StreamProtocol:
        """The same, for the end that was dialled: the other has all before *position*.

        Raises:
            ProtocolError: it cannot have.
        """
        self.flush()
        self._kept.after(position)
        self.leave("its connection was dialled again")
        self.stream = StreamProtocol(self)
        self._goes_on_at = position
        self._told = self.arrived
        return self.stream

    def opened(self) -> None:
        """The connection's transport is there."""
        position = self._goes_on_at
        if position >= 0:  # else the other end says so
            self.flush()
            with self.lock:
                self._is_open = True
                hello = b"" if self._is_fresh else frame(schema.RESUMED.pack(self.arrived))
                data = hello + self._kept.after(position)
                self._is_fresh = False
                if data:
                    write_now(self.transport, data)
        if self._over is not None:  # since this connection was promised
            self.transport.loseConnection()

    def leave(self, why: str) -> None:
        """Let go of the connection, if there is one; nobody is told."""
        stream, self.stream = self.stream, None
        self._is_open = False
        self._silent = 0
        if stream is not None:
            stream.abandon(why)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come or be sent."""
        return self._over is not None

    @property
    def kept(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self._kept.nbytes

    @property
    def transport(self) -> Any:
        """The connection's, while there is one."""
        return self.stream.transport if self.stream is not None else None

    # -- sending

    def send(self, payload: bytes) -> None:
        """Queue one frame; `flush` writes all queued ones at once."""
        self._outbox.append(frame(payload))

    def send_all(self, payloads: Iterable[bytes]) -> None:
        """Queue frames."""
        self._outbox.extend(map(frame, payloads))

    def flush(self) -> None:
        """Write what is queued, or keep it until there is a connection."""
        if not self._outbox or self._over is not None:
            return
        with self.lock:
            data = b"".join(self._outbox)
            self._outbox.clear()
            self._kept.add(data)
            if self._is_open and self.transport is not None:
                write_now(self.transport, data)
        if self._kept.nbytes > MOST_KEPT and self._is_bounded:
            self.lose(f"more than {MOST_KEPT >> 20} MiB wait for it")

    def direct(self, data: bytes, written: list[bytes]) -> bool:
        """Keep what another thread is about to write, under `lock`; whether it may."""
        if not self._is_open or self._outbox:
            return False
        self._kept.add_direct(Direct(data, written))
        return True

    def end(self, reason: str, *, returns: bool = False) -> None:
        """Say good-bye and close; *reason* is what `lost` will be told, here and there."""
        if self._over is not None:
            return
        self.send(schema.BYE.pack(reason, returns))
        self.flush()
        if self._over is not None:
            return
        self._over = reason
        if self.transport is not None:
            self.transport.loseConnection()
        else:
            self._tell_lost()

    def lose(self, why: str) -> None:
        """End without a good-bye, which would wait behind what the peer does not take."""
        self._over = self._over or why
        if self.stream is not None and self.transport is not None:
            self.stream.lose(why)
        else:
            self._tell_lost()

    def _tell_lost(self) -> None:
        if not self._is_told and self._over is not None:
            self._is_told = True
            self._lost(self._over)

    def beat(self) -> None:
        """Every `BEAT_S`: say that this end is there, and notice where the other is not."""
        if self.stream is None or self.transport is None:
            return
        self._silent += 1
        if self._silent > SILENT_BEATS:
            self.stream.lose(f"nothing came for {SILENT_BEATS * BEAT_S:g} s")
            return
        if self._over is not None:  # the good-bye is on its way, if the peer takes anything
            return
        self._tell_arrived()
        self.flush()

    def _tell_arrived(self) -> None:
        self._told = self.arrived
        self.send(schema.ARRIVED.pack(self.arrived))

    # -- receiving, from the connection

    def take(self, payloads: Sequence[bytes]) -> None:
        """Handle messages. Raises ProtocolError at the first bad one."""
        self._silent = 0
        for payload in payloads:
            if self._over is not None:
                return
            number, fields = decode(payload, self._allowed)  # type: ignore[arg-type]
            if number == schema.RESUMED.number:
                self._go_on(**fields)
                continue
            self.arrived += len(payload) + 4
            if number == schema.ARRIVED.number:
                with self.lock:  # another thread may be between keeping and writing
                    self._kept.arrived(**fields)
            elif number == schema.BYE.number:
                self.may_return = fields["returns"]
                self._over = fields["reason"]
                self.transport.loseConnection()
            else:
                self._received(number, fields)
        if self.arrived - self._told >= ACK_BYTES:
            self._tell_arrived()

    def _go_on(self, received: int) -> None:
        """The other end says what it has: it is sent the rest, and whatever comes from now on."""
        if self._is_open:
            raise ProtocolError("a connection that goes on already")
        with self.lock:
            again = self._kept.after(received)
            self._is_open = True
            if again:
                write_now(self.transport, again)

    def fail(self, why: str) -> None:
        """The peer has said what nobody may: nothing of it can be trusted any more.

        It is told, or it would come back and say it again.
        """
        if self._over is None and self.transport is not None:
            write_now(self.transport, frame(schema.BYE.pack(why, False)))
        self._over = self._over or why
        self.may_return = False

    def detached(self, stream: StreamProtocol, why: str) -> None:
        """A connection is lost."""
        if stream is not self.stream:
            return
        self.stream = None
        self._is_open = False
        self._silent = 0
        if self._over is not None or self._cut is None:
            self._over = self._over or why
            self._tell_lost()
        else:
            self._cut(why)
