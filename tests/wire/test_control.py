"""AMP control between two ends in memory: hello, refusals, switching, long values."""

import pytest
from twisted.internet import defer, task
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols import amp
from twisted.test.iosim import connect, makeFakeClient, makeFakeServer

from twisted_dist.access.roles import MAY_LOOK, MAY_MOVE_DATA, MAY_TERMINATE
from twisted_dist.errors import ConnectError, RefusedError
from twisted_dist.wire import commands
from twisted_dist.wire.control import HELLO_DEADLINE_S, ControlFactory, Responder
from twisted_dist.wire.dial import Dialled
from twisted_dist.wire.membership import Insecure

STATE = {"state": [{"n": n, "name": "x" * 100} for n in range(3000)]}


class Greeting(Protocol):
    """What the server switches to."""

    def connectionMade(self):
        """Say so."""
        self.transport.write(b"switched")


class Hearing(Protocol):
    """What the client switches to."""

    heard = b""

    def dataReceived(self, data):
        """Collect."""
        self.heard += data


class Network:
    """A client and a server, connected; nothing moves until `pump`."""

    def __init__(self):
        self.clock = task.Clock()
        responders = {
            commands.Ping: Responder(lambda proto: {"result": "pong"}, MAY_LOOK),
            commands.Identity: Responder(lambda proto: {"result": STATE}, MAY_LOOK),
            commands.OpenData: Responder(lambda proto, name: Greeting(), MAY_MOVE_DATA),
            commands.Terminate: Responder(self._refuse, MAY_TERMINATE),
        }
        self.authority = Insecure()
        self.factory = ControlFactory("worker", responders, self.clock, self.authority)
        self.server = self.factory.buildProtocol(None)
        self.client = Dialled(self.clock, tls=False)
        self._pump = connect(
            self.server,
            makeFakeServer(self.server),
            self.client,
            makeFakeClient(self.client),
        )

    def _refuse(self, proto):
        raise RefusedError("not today")

    def hello(self, oldest=3, newest=3):
        """Say hello."""
        return self.client.callRemote(
            commands.Hello, oldest=oldest, newest=newest, role="test", software="0"
        )

    def done(self, deferred):
        """The result, after all bytes have moved."""
        if hasattr(deferred, "send"):
            deferred = defer.Deferred.fromCoroutine(deferred)
        results = []
        deferred.addBoth(results.append)
        self._pump.flush()
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def pump(self):
        """Move all bytes."""
        self._pump.flush()


@pytest.fixture
def net():
    """Two connected ends."""
    return Network()


@pytest.mark.parametrize(("oldest", "newest"), [(3, 3), (1, 7), (0, 3)])
def test_hello_settles_the_version(net, oldest, newest):
    """`Hello` answers with the highest version that both speak."""
    assert net.done(net.hello(oldest, newest))["version"] == 3


@pytest.mark.parametrize(("oldest", "newest"), [(4, 5), (0, 2)])
def test_versions_that_do_not_meet(net, oldest, newest):
    """`Hello` of another time is refused with what to do."""
    with pytest.raises(RefusedError, match="install the same twisted-dist on both"):
        net.done(net.hello(oldest, newest))


def test_nothing_before_hello(net):
    """Anything before a hello is refused."""
    with pytest.raises(RefusedError, match="say hello first"):
        net.done(net.client.ask(commands.Identity, 5))


def test_unknown_command_is_refused_by_name(net):
    """A command that this daemon does not answer fails by its name; others go on."""
    net.done(net.hello())
    with pytest.raises(ConnectError, match="Query"):
        net.done(net.client.ask(commands.Query, 5, what="info", arguments=None))


def test_long_answers(net):
    """`Chunked` carries what one AMP value cannot."""
    net.done(net.hello())
    assert net.done(net.client.ask(commands.Identity, 5)) == STATE


def test_refusal_keeps_its_words(net):
    """A responder's `RefusedError` arrives as itself."""
    net.done(net.hello())
    with pytest.raises(RefusedError, match="not today"):
        net.done(net.client.ask(commands.Terminate, 5))


def test_switch(net):
    """A switching command hands the connection over, on both sides."""
    net.done(net.hello())
    hearing = Hearing()
    net.done(net.client.switch(commands.OpenData, hearing, 5, name="me"))
    net.pump()
    assert hearing.heard == b"switched"


def test_answer_is_bounded(net):
    """`Dialled.ask` gives up after its time."""
    waiting = defer.Deferred.fromCoroutine(net.client.ask(commands.Ping, 5))
    net.clock.advance(5)
    with pytest.raises(ConnectError, match="no answer to Ping"):
        net.done(waiting)


def test_silent_connection_is_ended():
    """Who says nothing for the deadline is disconnected."""
    clock = task.Clock()
    factory = ControlFactory("worker", {}, clock, Insecure())
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    clock.advance(HELLO_DEADLINE_S - 0.1)
    assert not transport.disconnected
    clock.advance(0.2)
    assert transport.disconnected


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02" * 99, b"\xff" * 9])
def test_other_protocols_are_ended(junk):
    """Bytes of another protocol end that connection only."""
    factory = ControlFactory("worker", {}, task.Clock(), Insecure())
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(junk)
    assert transport.disconnecting or transport.disconnected


def test_chunked_is_bounded():
    """`Chunked` refuses more than its bound."""
    argument = commands.Chunked()
    strings = {b"result": b"x" * 60_000}
    for part in range(1, 200):
        strings[b"result.%d" % part] = b"x" * 60_000
    with pytest.raises(Exception, match="over 8388608 bytes"):
        argument.fromBox(b"result", strings, {}, amp.AMP())
