"""A network of hosts in one process, on one `task.Clock`, from one seed.

Each host is a reactor of its own as far as services can tell: it listens, connects, and
calls later. Bytes travel with a random latency, in order within a direction. A host can
be killed as by ``kill -9``; a pair can be partitioned (bytes stall, as TCP lets them),
healed, or severed (the connection is lost). Time moves only through `SimNet.run`.
"""

from __future__ import annotations

import heapq
from itertools import count
from random import Random

from twisted.internet import defer, error, interfaces
from twisted.internet.address import IPv4Address
from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

#: seconds that bytes travel, at least and at most
LATENCY_S = (0.0001, 0.002)


class HeapClock(Clock):
    """A `task.Clock` whose `callLater` does not sort all calls anew (200 hosts have many)."""

    def __init__(self):
        super().__init__()
        self._heap = []
        self._ticket = count()

    def _push(self, call):
        heapq.heappush(self._heap, (call.getTime(), next(self._ticket), call))

    def callLater(self, delay, function, *args, **kwargs):
        """As Clock's."""
        when = self.seconds() + delay
        call = DelayedCall(
            when, function, args, kwargs, lambda call: None, self._push, self.seconds
        )
        self._push(call)
        return call

    def getDelayedCalls(self):
        """As Clock's."""
        return [call for when, _, call in self._heap if call.active() and call.getTime() == when]

    def advance_to_next(self):
        """Let time pass until the next call, and make it; False if there is none."""
        while self._heap:
            when, _, call = heapq.heappop(self._heap)
            if call.active() and call.getTime() == when:
                self.rightNow = max(self.rightNow, when)
                call.called = 1
                call.func(*call.args, **call.kw)
                return True
        return False


class SimNet:
    """The wires: what was sent and has not arrived, in the order of its arrival."""

    def __init__(self, seed):
        self.clock = HeapClock()
        self.random = Random(seed)
        self.hosts = {}
        self.ports = {}
        self.log = []
        self.cut = set()

    def host(self, ip):
        """A new machine (or the same address after its machine died)."""
        self.hosts[ip] = host = SimReactor(self, ip)
        return host

    def note(self, kind, *what):
        """One line of the run's log."""
        self.log.append((round(self.clock.seconds(), 9), kind, *what))

    def at(self, when, function):
        """Call *function* at an instant."""
        self.clock.callLater(max(0.0, when - self.clock.seconds()), function)

    def run(self, until, limit_s=3600.0):
        """Let time pass, event by event, until *until()* is true.

        Raises:
            AssertionError: *limit_s* simulated seconds passed first.
        """
        end = self.clock.seconds() + limit_s
        while not until():
            assert self.clock.advance_to_next(), "nothing will ever happen again"
            assert self.clock.seconds() <= end, f"not within {limit_s} simulated seconds"

    def partition(self, a, b):
        """Let nothing through between two hosts; what is sent waits."""
        self.cut.add(frozenset((a, b)))

    def heal(self, a, b):
        """Let it through again, all that waited first."""
        self.cut.discard(frozenset((a, b)))
        for wire in [w for w in self.wires() if frozenset((w.source, w.target)) == {a, b}]:
            wire.pump()

    def sever(self, a, b):
        """Lose the connections between two hosts."""
        for host in (self.hosts[a], self.hosts[b]):
            for transport in list(host.transports):
                if {transport.host.ip, transport.peer.host.ip} == {a, b}:
                    transport.lost(error.ConnectionLost("severed"))

    def wires(self):
        """All directions of all connections."""
        return [t.out for host in self.hosts.values() for t in host.transports]

    def kill(self, ip):
        """End a host as ``kill -9`` does: its calls never happen, its peers lose it."""
        host = self.hosts.pop(ip)
        host.dead = True
        for key in [key for key, port in self.ports.items() if port.host is host]:
            del self.ports[key]
        for call in list(host.calls):
            if call.active():
                call.cancel()
        for transport in list(host.transports):
            transport.peer.arrive_lost(error.ConnectionLost("the host was killed"))
        host.transports.clear()


@implementer(
    interfaces.IReactorTime,
    interfaces.IReactorTCP,
    interfaces.IReactorPluggableNameResolver,
)
class SimReactor:
    """One host's reactor."""

    def __init__(self, net, ip):
        self.net = net
        self.ip = ip
        self.dead = False
        self.calls = set()
        self.transports = []
        self.nameResolver = self
        self._ports = count(30000)

    def seconds(self):
        """The network's time; all hosts' clocks agree."""
        return self.net.clock.seconds()

    def callLater(self, delay, function, *args, **kwargs):
        """As IReactorTime's."""

        def run():
            self.calls.discard(call)
            function(*args, **kwargs)

        call = self.net.clock.callLater(delay, run)
        self.calls.add(call)
        return call

    def callFromThread(self, function, *args, **kwargs):
        """There is one thread: soon."""
        self.callLater(0, function, *args, **kwargs)

    def getDelayedCalls(self):
        """This host's calls to come."""
        return [each for each in self.calls if each.active()]

    def resolve(self, name):
        """IReactorCore's: names are addresses here."""
        return defer.succeed(name)

    def resolveHostName(
        self, receiver, name, portNumber=0, addressTypes=None, transportSemantics="TCP"
    ):
        """IHostnameResolver: names are addresses here."""
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", name, portNumber))
        receiver.resolutionComplete()
        return self

    def listenTCP(self, port, factory, backlog=50, interface=""):
        """As IReactorTCP's."""
        port = port or next(self._ports)
        if (self.ip, port) in self.net.ports:
            raise error.CannotListenError(interface, port, OSError("taken"))
        self.net.ports[self.ip, port] = listening = SimPort(self, port, factory)
        return listening

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None):
        """As IReactorTCP's; refused after a latency where nobody listens."""
        connector = SimConnector()
        net = self.net

        def arrive():
            if self.dead:
                return
            listening = net.ports.get((host, port))
            if listening is None:
                reason = Failure(error.ConnectionRefusedError("nobody listens"))
                factory.clientConnectionFailed(connector, reason)
                return
            here = SimTransport(self, (self.ip, next(self._ports)), (host, port))
            there = SimTransport(listening.host, (host, port), here.own)
            here.join(there)
            for end, make in ((there, listening.factory), (here, factory)):
                end.protocol = make.buildProtocol(IPv4Address("TCP", *end.other))
            there.protocol.makeConnection(there)
            here.protocol.makeConnection(here)

        net.at(net.clock.seconds() + net.random.uniform(*LATENCY_S), arrive)
        return connector


class SimConnector:
    """What connectTCP gives; nothing here gives a connection up half-way."""

    def stopConnecting(self):
        """Too late."""

    def disconnect(self):
        """Too late."""


class SimPort:
    """A listening port."""

    def __init__(self, host, number, factory):
        self.host = host
        self.number = number
        self.factory = factory

    def getHost(self):
        """Where it listens."""
        return IPv4Address("TCP", self.host.ip, self.number)

    def stopListening(self):
        """Take no more connections."""
        self.host.net.ports.pop((self.host.ip, self.number), None)


class Wire:
    """One direction of a connection: FIFO, with a latency for each write."""

    def __init__(self, net, source, target, deliver):
        self.net = net
        self.source = source
        self.target = target
        self._deliver = deliver
        self._queue = []
        self._last = 0.0

    def put(self, what):
        """Send bytes, or an exception that ends the direction."""
        now = self.net.clock.seconds()
        self._last = max(self._last, now + self.net.random.uniform(*LATENCY_S))
        self._queue.append((self._last, what))
        self.net.at(self._last, self.pump)

    def pump(self):
        """Deliver what has arrived, unless the hosts are partitioned."""
        if self.net.cut and frozenset((self.source, self.target)) in self.net.cut:
            return
        now = self.net.clock.seconds()
        while self._queue and self._queue[0][0] <= now:
            self._deliver(self._queue.pop(0)[1])


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
        host.transports.append(self)

    def join(self, peer):
        """Connect two ends."""
        for here, there in ((self, peer), (peer, self)):
            here.peer = there
            here.out = Wire(self.host.net, here.host.ip, there.host.ip, there.arrive)

    def write(self, data):
        """Send."""
        if self.connected and not self.disconnecting and data:
            self.out.put(bytes(data))

    def writeSequence(self, parts):
        """Send several."""
        self.write(b"".join(parts))

    def arrive(self, what):
        """Bytes for the protocol, or the end."""
        if not self.connected:
            return
        if isinstance(what, bytes):
            self.host.net.note("bytes", self.other[0], self.own[0], len(what))
            self.protocol.dataReceived(what)
        else:
            self.lost(what)
            self.peer.arrive_lost(what)

    def arrive_lost(self, reason):
        """The other end is gone: known here after a latency."""
        net = self.host.net
        net.at(net.clock.seconds() + LATENCY_S[1], lambda: self.lost(reason))

    def lost(self, reason):
        """Tell the protocol, once."""
        if self.connected and not self.host.dead:
            self.connected = False
            self.host.transports.remove(self)
            self.protocol.connectionLost(Failure(reason))

    def loseConnection(self, *_reason):
        """Close, after what was written."""
        if not self.disconnecting and self.connected:
            self.disconnecting = True
            self.out.put(error.ConnectionDone())

    def abortConnection(self):
        """Close at once."""
        if self.connected:
            self.disconnecting = True
            self.peer.arrive_lost(error.ConnectionLost("aborted"))
            self.arrive_lost(error.ConnectionAborted())

    def getPeer(self):
        """The other end's address."""
        return IPv4Address("TCP", *self.other)

    def getHost(self):
        """This end's address."""
        return IPv4Address("TCP", *self.own)

    def setTcpNoDelay(self, enabled):
        """Nothing is delayed here."""

    def registerProducer(self, producer, streaming):
        """Everything is taken at once."""

    def unregisterProducer(self):
        """Nothing to forget."""
