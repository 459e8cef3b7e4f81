"""Connections to those that cannot be dialled: two that were dialled to here, joined.

A worker behind a NAT or a firewall dials the scheduler, and cannot be dialled itself. Whoever
wants its data asks the scheduler (`OpenRelay`). The scheduler sends the worker a ticket by
its task stream, the worker dials the scheduler with it (`JoinRelay`), and from then on bytes
are handed over, each way, as they come: nothing of them is looked at.

Bounds: `MOST_RELAYS` at a time, those that are being opened included; a ticket is good for
`TICKET_S`; a relay that carries nothing for `IDLE_S` is ended, for whoever wants it again
opens another. A sender that is faster than its receiver is paused by Twisted's
producers: what waits here is what one transport buffers before it complains (64 KiB), and
what was read at once before that (64 KiB, and one such piece that TLS has not opened yet).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_dist.errors import RefusedError
from twisted_dist.wire.once import Once
from twisted_dist.wire.transports import notice_silence, send_at_once, write_now

#: at a time. Each holds two sockets and at most some 400 KiB
MOST_RELAYS: Final = 64
#: seconds that the worker has to come
TICKET_S: Final = 10.0
TICKET_BYTES: Final = 16
#: seconds without a byte either way until a relay is ended: twice what a data connection's
#: end waits for what it is owed
IDLE_S: Final = 60.0
#: seconds between two looks at least
LEAST_S: Final = 0.1
#: seconds without a byte after which a relay gives way to another, where there are too many
SPARE_S: Final = 5.0
#: seconds that the other end has to take what is on its way when one has closed
LINGER_S: Final = 10.0


@implementer(IPushProducer)
class RelayEnd(Protocol):
    """One of the two connections; to the other's transport, it is what produces.

    Args:
        relay: whose end it is.
    """

    transport: Any
    other: RelayEnd

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.is_paused = False

    def connectionMade(self) -> None:
        """The connection was switched to this."""
        send_at_once(self.transport)
        notice_silence(self.transport)
        self._relay.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Hand on."""
        self._relay.carry(len(data))
        if self.other.transport is not None:
            write_now(self.other.transport, data)

    def pauseProducing(self) -> None:
        """The other transport has enough for now."""
        self.is_paused = True
        if self.transport is not None:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It can take more."""
        self.is_paused = False
        if self.transport is not None:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other connection is lost: its protocol is told, and does what there is to do."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other one ends too."""
        self.transport = None
        self._relay.lost(self)


class Relay:
    """One relay, from its ticket to the end of both connections.

    Args:
        clock: for its bounds.
        ticket: with which the worker comes.
        asker: who wants the data, in words.
        address: of the worker.
        ended: called once, when nothing is left of it.

    Attributes:
        answer: fires with the asker's end when the worker is there; fails with RefusedError
            where it did not come in time; never fires when the asker has gone.
        carried: bytes, both ways.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ticket: bytes,
        asker: str,
        address: str,
        ended: Callable[[Relay], None],
    ) -> None:
        self.ticket = ticket
        self.asker = asker
        self.address = address
        self.answer: defer.Deferred[RelayEnd] = defer.Deferred()
        self.carried = 0
        self.asker_end = RelayEnd(self)
        self.worker_end = RelayEnd(self)
        self.asker_end.other = self.worker_end
        self.worker_end.other = self.asker_end
        self._clock = clock
        self._ended = ended
        self._is_over = False
        self._is_joined = False
        self._heard_at = clock.seconds()
        self._timer: Any = clock.callLater(TICKET_S, self._expire)

    def connected(self, end: RelayEnd) -> None:
        """An end has its connection: the worker's first, and by that the asker's."""
        if end is self.worker_end:
            self.answer.callback(self.asker_end)
            return
        self._is_joined = True
        self._heard_at = self._clock.seconds()
        self._rearm(IDLE_S, self._look)
        for each in (self.asker_end, self.worker_end):
            each.transport.registerProducer(each.other, True)

    def carry(self, nbytes: int) -> None:
        """Bytes pass."""
        self.carried += nbytes
        self._heard_at = self._clock.seconds()

    def idle_s(self) -> float:
        """Seconds since something came; none where somebody is waited for."""
        waits = not self._is_joined or self.asker_end.is_paused or self.worker_end.is_paused
        return 0.0 if waits else self._clock.seconds() - self._heard_at

    def lost(self, end: RelayEnd) -> None:
        """A connection has ended: the other one does, when it has what was on its way."""
        if self._is_over:
            return
        other = end.other.transport
        if other is None:
            self.end()
            return
        self._rearm(LINGER_S, self.end)
        other.unregisterProducer()  # a transport that waits for more is not closed
        other.loseConnection()

    def end(self) -> None:
        """End it now, whatever it is at; may be called again."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer.active():
            self._timer.cancel()
        for each in (self.asker_end, self.worker_end):
            if each.transport is not None:
                each.transport.abortConnection()
        self._ended(self)

    def asker_gone(self) -> None:
        """The asker's connection is lost; where it was joined, its end knows that."""
        if not self._is_joined:
            self.end()

    def _rearm(self, seconds: float, function: Callable[[], None]) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, function)

    def _expire(self) -> None:
        answer = self.answer
        self.end()
        answer.errback(RefusedError(f"{self.address} did not come to the relay in {TICKET_S:g} s"))

    def _look(self) -> None:
        # a paused one as well: who has taken nothing for that long takes nothing any more
        silent = self._clock.seconds() - self._heard_at
        if silent >= IDLE_S:
            self.end()
        else:
            # what is left may be too little for a clock to go on by
            self._rearm(max(IDLE_S - silent, LEAST_S), self._look)


class Relays:
    """All relays of a scheduler.

    Args:
        clock: for their bounds.
        random_bytes: gives as many as asked for.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        #: all that are not over, and among them those whose worker has not come, by ticket
        self._relays: dict[Relay, None] = {}
        self._opening: dict[bytes, Relay] = {}
        self._told = Once()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._relays)

    def open(self, asker: str, address: str) -> Relay:
        """A relay whose ticket the worker at *address* is then to be told.

        Raises:
            RefusedError: there are too many.
        """
        if len(self._relays) >= MOST_RELAYS:
            spare = max(self._relays, key=Relay.idle_s)
            if spare.idle_s() < SPARE_S:
                raise RefusedError(f"it relays {MOST_RELAYS} connections already")
            spare.end()
        ticket = self._random_bytes(TICKET_BYTES)
        relay = Relay(self._clock, ticket, asker, address, self._ended)
        self._relays[relay] = None
        self._opening[ticket] = relay
        return relay

    def join(self, ticket: bytes) -> RelayEnd:
        """The worker's end, for whoever comes with a ticket. Raises RefusedError."""
        relay = self._opening.pop(ticket, None)  # found by hash, as `services.tickets`
        if relay is None:
            raise RefusedError("this is no relay's ticket, or it was used, or it is too old")
        tell = self.log.warn if self._told.is_new((relay.asker, relay.address)) else self.log.info
        tell("relaying {asker} to {address}", asker=relay.asker, address=relay.address)
        return relay.worker_end

    def count(self, address: str) -> int:
        """How many lead to the worker at *address*."""
        return sum(each.address == address for each in self._relays)

    def close(self) -> None:
        """End all of them."""
        for each in list(self._relays):
            each.end()

    def _ended(self, relay: Relay) -> None:
        del self._relays[relay]
        if self._opening.pop(relay.ticket, None) is None:
            self.log.info(
                "relayed {asker} to {address}: {n} bytes",
                asker=relay.asker,
                address=relay.address,
                n=relay.carried,
            )
