"""The reactor of processes that are all ours."""

import os
import threading

import pytest
from twisted.internet import defer
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from twisted_dist.wire.reactor_thread import ReactorThread

pytestmark = pytest.mark.slow


class Echo(Protocol):
    """Says what it hears; breaks at a word."""

    def dataReceived(self, data):
        """Answer, or raise."""
        if data == b"break":
            raise RuntimeError("a handler that breaks")
        self.transport.write(data)


class Hearing(Protocol):
    """Tells of what it hears, and of the end."""

    def __init__(self):
        self.heard = defer.Deferred()
        self.ended = defer.Deferred()

    def dataReceived(self, data):
        """Tell."""
        self.heard.callback(data)

    def connectionLost(self, reason):
        """Tell."""
        self.ended.callback(None)


async def _talk(reactor):
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    breaking = await connectProtocol(endpoint, Hearing())
    breaking.transport.write(b"break")
    await breaking.ended.addTimeout(10, reactor)
    talking = await connectProtocol(endpoint, Hearing())
    talking.transport.write(b"hello")
    heard = await talking.heard.addTimeout(10, reactor)
    talking.transport.loseConnection()
    await talking.ended.addTimeout(10, reactor)
    await port.stopListening()
    return heard


def test_a_handler_that_breaks_ends_its_connection_only():
    """`make_reactor`'s reactor outlives what its descriptors' handlers raise."""
    open_files = []
    for _ in range(2):  # Twisted keeps one in reserve from its first port on
        with ReactorThread() as loop:
            assert loop.call(_talk, loop.reactor) == b"hello"
        open_files.append(os.listdir("/proc/self/fd"))
    assert len(open_files[0]) == len(open_files[1])
    assert not [each for each in threading.enumerate() if "reactor" in each.name]
