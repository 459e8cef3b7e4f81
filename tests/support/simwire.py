"""A simulated connection: two transports, and a `Wire` for each direction between them."""

from __future__ import annotations

from collections import deque
from random import Random

from twisted.internet import error, interfaces
from twisted.internet.address import IPv4Address
from twisted.python.failure import Failure
from zope.interface import implementer

#: seconds that bytes travel, at least and at most, between hosts that are not slow
LATENCY_S = (0.0001, 0.002)
#: seconds until a connection has room for more
PRODUCE_S = 0.0002
#: what a reactor reads at a time: a large message arrives in pieces
PIECE_BYTES = 2**16


class Wire:
    """One direction of a connection: in order, with a latency for each piece.

    Its latencies are its own, so that they do not depend on the order in which different
    connections are used: where that is by the hash of an object, runs would differ.
    """

    def __init__(self, sender, receiver):
        self._net = sender.host.net
        self._sender = sender
        self._receiver = receiver
        self._way = (sender.host.ip, receiver.host.ip)
        self._random = Random(f"{self._net.seed} {sender.own} {receiver.own}")
        self._queue = deque()
        self._last = 0.0

    def delay(self, most):
        """Some seconds, *most* at most."""
        return self._random.uniform(0, most)

    def put(self, data):
        """Send bytes."""
        for start in range(0, len(data), PIECE_BYTES):
            self._add(data[start : start + PIECE_BYTES])

    def end(self, reason):
        """Send an exception: the last that comes this way."""
        self._add(reason)

    def _add(self, what):
        slowness = max(self._sender.host.slowness, self._receiver.host.slowness)
        latency = self._random.uniform(*LATENCY_S) * slowness * self._net.slowness
        self._last = max(self._last, self._net.clock.rightNow + latency)
        self._queue.append((self._last, what))
        self._net.at(self._last, self._arrive)

    def _arrive(self):
        """Deliver what has come, once something gets through and somebody is awake."""
        if not self._net.waits(self._way, self._arrive):
            self._receiver.when_awake(self._deliver)

    def _deliver(self):
        queue = self._queue
        now = self._net.clock.rightNow
        while queue and queue[0][0] <= now:
            self._receiver.arrive(queue.popleft()[1])


@implementer(interfaces.ITCPTransport)
class SimTransport:
    """One end of a connection."""

    def __init__(self, host, own, other):
        self.host = host
        self.own = own
        self.other = other
        self.protocol = None
        self.peer = None
        self.out = None
        self.disconnecting = False
        self.connected = True
        self.keeps_alive = False
        self._spoke_at = 0.0
        self._producer = None
        host.transports[self] = None

    def join(self, peer):
        """Connect two ends."""
        for here, there in ((self, peer), (peer, self)):
            here.peer = there
            here.out = Wire(here, there)

    def write(self, data):
        """Send."""
        if self.connected and not self.disconnecting and not self.host.dead and data:
            self._spoke_at = self.host.net.clock.rightNow
            self.out.put(bytes(data))

    def writeSequence(self, parts):
        """Send several."""
        self.write(b"".join(parts))

    def when_awake(self, function):
        """Call *function* once this end's host can hear it, as a dead one's machine can."""
        if self.host.dead:
            function()
        else:
            self.host.when_awake(function)

    def arrive(self, what):
        """Bytes for the protocol, or the end."""
        if self.host.dead:
            self._answer_for_the_dead()
        elif isinstance(what, bytes):
            if self.connected and not self.disconnecting:
                self.host.net.note("bytes", self.other[0], self.own[0], len(what))
                self.protocol.dataReceived(what)
        else:
            self.lost(what)

    def _answer_for_the_dead(self):
        """A machine that runs, or runs again, knows nothing of the connection and says so."""
        if self.host.ip not in self.host.net.crashed:
            self.peer.lose(error.ConnectionLost("reset by the peer"))

    def lose(self, reason):
        """Be told of the connection's end, soon."""
        net = self.host.net
        soon = net.clock.rightNow + self.out.delay(LATENCY_S[0])
        net.at(soon, lambda: self.host.when_awake(lambda: self.lost(reason)))

    def notice(self, crashed_at):
        """Keepalive: nobody answers. Where something is under way, it does not ask."""
        if self._spoke_at <= crashed_at:
            self.lose(error.TimeoutError())

    def lost(self, reason):
        """Tell the protocol, once."""
        if self.connected and not self.host.dead:
            self.connected = False
            del self.host.transports[self]
            self.host.net.note("lost", self.other[0], self.own[0], type(reason).__name__)
            if self.protocol is not None:  # it was given up before anybody spoke on it
                self.protocol.connectionLost(Failure(reason))

    def loseConnection(self, *_reason):
        """Close, after what was written; the kernel sees to that, so this end is done."""
        self._close(error.ConnectionDone(), error.ConnectionDone())

    def abortConnection(self):
        """Close at once."""
        self._close(error.ConnectionAborted(), error.ConnectionLost("aborted"))

    def _close(self, here, there):
        if self.connected and not self.disconnecting and not self.host.dead:
            self.disconnecting = True
            self.out.end(there)
            self.lose(here)

    def getPeer(self):
        """The other end's address."""
        return IPv4Address("TCP", *self.other)

    def getHost(self):
        """This end's address."""
        return IPv4Address("TCP", *self.own)

    def setTcpKeepAlive(self, enabled):
        """Notice when the other end's machine is gone."""
        self.keeps_alive = enabled

    def setTcpNoDelay(self, enabled):
        """Nothing is delayed here."""

    def registerProducer(self, producer, streaming):
        """Ask it for more, again and again, as a connection with room does.

        One that produces by itself need never pause: everything is taken at once.
        """
        if not streaming:
            self._producer = producer
            self._produce()

    def _produce(self):
        if self._producer is None or not self.connected or self.host.dead:
            return
        self._producer.resumeProducing()
        soon = self.host.net.clock.rightNow + PRODUCE_S
        self.host.net.at(soon, lambda: self.host.when_awake(self._produce))

    def unregisterProducer(self):
        """It has no more."""
        self._producer = None
