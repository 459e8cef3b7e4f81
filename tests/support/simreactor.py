"""One simulated host's reactor: it listens, connects, resolves, and calls later."""

from __future__ import annotations

from collections import deque
from itertools import count

from twisted.internet import defer, error, interfaces
from twisted.internet.address import IPv4Address
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.simwire import LATENCY_S, SimTransport

#: the first port of a host that is not asked for by number
FIRST_PORT = 30000
#: share of turns in which more comes in than one thing
CROWDED = 0.2


@implementer(
    interfaces.IReactorTime,
    interfaces.IReactorTCP,
    interfaces.IReactorPluggableNameResolver,
)
class SimReactor:
    """A host as far as services can tell.

    Attributes:
        dead: its process was killed, or the whole machine.
        slowness: by which factor its messages and its tasks take longer.
    """

    def __init__(self, net, ip):
        self.net = net
        self.ip = ip
        self.dead = False
        self.slowness = 1.0
        self.calls = {}
        self.transports = {}
        self.nameResolver = self
        self._awake_at = 0.0
        self._after_turn = set()
        self._held = deque()
        self._ports = count(FIRST_PORT)

    # -- time

    def seconds(self):
        """The network's time; all hosts' clocks agree."""
        return self.net.clock.rightNow

    def callLater(self, delay, function, *args, **kwargs):
        """As IReactorTime's; a dead host's calls are never made."""

        def run():
            self.calls.pop(call, None)
            if not self.dead:
                function(*args, **kwargs)

        now = self.seconds()
        call = self.net.clock.callLater(max(delay, self._awake_at - now), run)
        self.calls[call] = None
        return call

    def callFromThread(self, function, *args, **kwargs):
        """There is one thread: soon."""
        self.callLater(0, function, *args, **kwargs)

    def call_after_turn(self, function):
        """As `wire.reactor`'s: now and then what comes within a moment comes in one turn."""
        if function in self._after_turn:
            return True
        if self.net.random.random() > CROWDED:
            return False
        self._after_turn.add(function)

        def end_turn():
            self._after_turn.discard(function)
            function()

        soon = self.seconds() + self.net.random.uniform(*LATENCY_S)
        self.net.at(soon, lambda: self.when_awake(end_turn))
        return True

    def getDelayedCalls(self):
        """This host's calls to come."""
        return [each for each in self.calls if each.active()]

    # -- what happens to a host

    @property
    def is_asleep(self):
        """Whether its process is stopped."""
        return self._awake_at > self.seconds()

    def sleep(self, seconds):
        """Stop as by SIGSTOP: nothing is done until *seconds* from now, then all of it."""
        now = self.seconds()
        self._awake_at = awake_at = now + seconds
        early = [each for each in self.getDelayedCalls() if each.getTime() < awake_at]
        for each in sorted(early, key=lambda call: call.getTime()):
            each.reset(awake_at - now)

    def when_awake(self, function):
        """Call *function* now, or when the host goes on; never if it is dead by then."""
        if self.dead:
            return
        if not self.is_asleep and not self._held:
            function()
            return
        if not self._held:
            self.net.at(self._awake_at, self._wake)
        self._held.append(function)

    def _wake(self):
        """Do what waited, in order, unless it was stopped once more."""
        if self.is_asleep:
            self.net.at(self._awake_at, self._wake)
            return
        while self._held and not self.dead:
            self._held[0]()
            self._held.popleft()

    def die(self):
        """End: nothing of it happens any more."""
        self.dead = True
        for call in self.getDelayedCalls():
            call.cancel()

    # -- names

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

    # -- connections

    def listenTCP(self, port, factory, backlog=50, interface=""):
        """As IReactorTCP's."""
        port = port or self.take_port()
        if (self.ip, port) in self.net.ports:
            raise error.CannotListenError(interface, port, OSError("taken"))
        self.net.ports[self.ip, port] = listening = SimPort(self, port, factory)
        return listening

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None):
        """As IReactorTCP's."""
        return SimConnector(self, (host, port), factory, timeout)

    def take_port(self):
        """A port that nothing uses."""
        return next(self._ports)


class SimPort:
    """A listening port."""

    def __init__(self, host, number, factory):
        self.host = host
        self.number = number
        self.factory = factory

    def accept(self, transport):
        """Take a connection in."""
        transport.protocol = self.factory.buildProtocol(transport.getPeer())
        if transport.protocol is None:
            transport.loseConnection()
        else:
            transport.protocol.makeConnection(transport)

    def getHost(self):
        """Where it listens."""
        return IPv4Address("TCP", self.host.ip, self.number)

    def stopListening(self):
        """Take no more connections."""
        self.host.net.ports.pop((self.host.ip, self.number), None)


class SimConnector:
    """An attempt to connect.

    It is made once the way is open in both directions, refused where nobody listens, and
    ends when its time is over. A stopped process takes connections all the same, as its
    kernel does that, and says nothing on them.
    """

    def __init__(self, host, address, factory, timeout):
        self._host = host
        self._address = address
        self._factory = factory
        self._number = host.take_port()
        factory.startedConnecting(self)
        self._deadline = host.callLater(timeout, self._fail, error.TimeoutError())
        net = host.net
        latency = net.random.uniform(*LATENCY_S) * host.slowness * net.slowness
        net.at(net.clock.rightNow + latency, self._arrive)

    def _arrive(self):
        here, net = self._host, self._host.net
        if here.dead or not self._deadline.active():
            return
        there = self._address[0]
        if net.waits((here.ip, there), self._arrive) or net.waits((there, here.ip), self._arrive):
            return
        listening = net.ports.get(self._address)
        if listening is not None:
            self._connect(listening)
        elif there not in net.crashed:
            self._fail(error.ConnectionRefusedError("nobody listens"))

    def _connect(self, listening):
        own = (self._host.ip, self._number)
        here = SimTransport(self._host, own, self._address)
        there = SimTransport(listening.host, self._address, own)
        here.join(there)

        listening.host.when_awake(lambda: listening.accept(there))
        self._host.when_awake(lambda: self._established(here))

    def _established(self, transport):
        if not self._deadline.active():
            transport.abortConnection()
            return
        self._deadline.cancel()
        transport.protocol = self._factory.buildProtocol(transport.getPeer())
        if transport.protocol is None:
            transport.abortConnection()
        else:
            transport.protocol.makeConnection(transport)

    def _fail(self, problem):
        if self._deadline.active():
            self._deadline.cancel()
        self._factory.clientConnectionFailed(self, Failure(problem))

    def getDestination(self):
        """Where it goes."""
        return IPv4Address("TCP", *self._address)

    def stopConnecting(self):
        """Give up."""
        if self._deadline.active():
            self._fail(error.UserError())

    def disconnect(self):
        """As IConnector's."""
        self.stopConnecting()
