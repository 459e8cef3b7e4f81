"""The page that says whether a daemon is well, over a wire in memory."""

from __future__ import annotations

import json

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from twisted_dist.services.health import MOST_CONNECTIONS, SILENCE_S, health_factory
from twisted_dist.version import VERSION

HERE = IPv4Address("TCP", "127.0.0.1", 9786)


class Site:
    """A listening port, as far as its factory can tell."""

    def __init__(self):
        self.clock = Clock()
        self.is_well = True
        self.factory = health_factory(self.clock, lambda: self.is_well)
        self.factory.doStart()

    def connect(self):
        """A connection's protocol and transport; None for one that is not taken."""
        protocol = self.factory.buildProtocol(HERE)
        if protocol is None:
            return None
        transport = StringTransport(HERE, HERE)
        transport.abortConnection = transport.loseConnection
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, line, more=b""):
        """The status, headers and body of the answer to a request."""
        protocol, transport = self.connect()
        protocol.dataReceived(line + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + more)
        if not more:
            protocol.dataReceived(b"\r\n")
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), head.lower(), body


@pytest.fixture
def site():
    """A site."""
    return Site()


def test_well(site):
    """`/health` is 200, and says so and the version, and nothing else."""
    status, head, body = site.ask(b"GET /health")
    assert status == 200
    assert json.loads(body) == {"status": "ok", "version": VERSION}
    assert b"twistedweb" not in head
    assert b"cache-control: no-store" in head
    assert (
        not site.clock.getDelayedCalls() or site.clock.getDelayedCalls()[0].getTime() <= SILENCE_S
    )


def test_stopping(site):
    """`/health` is 503 when the daemon ends."""
    site.is_well = False
    status, _, body = site.ask(b"GET /health")
    assert status == 503
    assert json.loads(body)["status"] == "stopping"


def test_head(site):
    """HEAD is answered as GET, without a body."""
    status, _, body = site.ask(b"HEAD /health")
    assert (status, body) == (200, b"")


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"GET /", 404), (b"GET /health/more", 404), (b"GET /../etc", 404), (b"POST /health", 405)],
)
def test_nothing_else(site, line, status):
    """Whatever else is asked for is not there."""
    assert site.ask(line)[0] == status


def test_bodies_are_thrown_away(site):
    """A body is not kept, however large it says it is."""
    protocol, _ = site.connect()
    protocol.dataReceived(
        b"POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n"
    )
    request = protocol.wrappedProtocol._channel.requests[0]
    for _ in range(10):
        protocol.dataReceived(b"x" * 65536)
    assert request.content.getbuffer().nbytes == 0


def test_connections_are_bounded(site):
    """There are no more than so many connections at a time, and silent ones are ended."""
    made = [site.connect() for _ in range(MOST_CONNECTIONS)]
    assert site.connect() is None
    site.clock.advance(SILENCE_S + 1)
    assert all(transport.disconnecting for _, transport in made)
