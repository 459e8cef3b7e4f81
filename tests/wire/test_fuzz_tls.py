"""Arbitrary bytes into TLS, and what a lost connection leaves behind: nothing."""

import contextlib
import gc
import ssl
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer, task
from twisted.internet.testing import StringTransport
from twisted.protocols import amp

from tests.support.fuzzing import (
    HELLO,
    VALID,
    box,
    control,
    cut,
    examples,
    feed,
    holds,
    lose,
    mutated,
    nothing_fails,
    plain_factory,
)
from twisted_dist.access.credential import Credential
from twisted_dist.wire import commands
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.dial import Dialled
from twisted_dist.wire.frames import frame
from twisted_dist.wire.tls import TLSProtocol, tls_context

# -- TLS

SERVER, MEMBER = Credential("scheduler", b"s" * 32), Credential("admin", b"m" * 32)
ANSWERING = tls_context(SERVER, [MEMBER.certificate], answers=True)
DIALLING = tls_context(MEMBER, [SERVER.certificate], answers=False)


class TLSFactoryOf:
    """As `tls.TLSFactory`, and shows the factory's connections."""

    def __init__(self, factory):
        self._factory = factory
        self.connections = factory.connections

    def buildProtocol(self, addr):
        """One more connection."""
        return TLSProtocol(ANSWERING, self._factory.buildProtocol(addr), answers=True)


def first_flight():
    """What whoever dials sends first: a ClientHello."""
    transport = StringTransport()
    TLSProtocol(DIALLING, amp.AMP(), answers=False).makeConnection(transport)
    return transport.value()


CLIENT_HELLO = first_flight()
tls_bytes = cut(
    st.binary(max_size=400)
    | st.binary(max_size=50).map(lambda rest: b"\x16\x03\x01" + rest)
    | mutated(st.just(CLIENT_HELLO))
)


@examples(150)
@given(tls_bytes)
def test_bytes_instead_of_a_handshake(chunks):
    """`TLSProtocol.dataReceived` takes any bytes, and the hello's timer goes with it."""
    clock = task.Clock()
    holds(TLSFactoryOf(plain_factory(clock)), chunks)
    assert not clock.getDelayedCalls()


def shaken():
    """A server's TLSProtocol, its transport and clock, and a member's TLS, hands shaken."""
    clock = task.Clock()
    factory = plain_factory(clock)
    server = TLSFactoryOf(factory).buildProtocol(None)
    client = TLSProtocol(DIALLING, amp.AMP(), answers=False)
    ends = StringTransport(), StringTransport()
    client.makeConnection(ends[1])
    server.makeConnection(ends[0])
    while ends[0].value() or ends[1].value():
        for protocol, _, there in ((server, *ends), (client, *reversed(ends))):
            data = there.value()
            there.clear()
            if data:
                protocol.dataReceived(data)
    return server, client, ends, factory, clock


@examples(80)
@given(control, st.booleans(), st.data())
def test_a_members_bytes(chunks, hello, data):
    """`TLSProtocol.dataReceived` takes what a member sends, and what is made of it on its way."""
    server, client, (here, there), factory, clock = shaken()
    with nothing_fails():
        if hello:
            chunks = [HELLO, *chunks]
        for chunk in chunks:
            client.write(chunk)
        if data.draw(st.booleans()):
            client.loseConnection()
        wire = there.value()
        if data.draw(st.booleans()):
            wire = data.draw(mutated(st.just(wire)))
        feed(server, here, data.draw(cut(st.just(wire))))
        lose(server)
    assert not factory.connections
    assert not clock.getDelayedCalls()


def test_members_farewell():
    """`TLSProtocol.dataReceived` ends the connection when the other side has said farewell."""
    server, client, (here, there), factory, clock = shaken()
    client.write(HELLO)
    with contextlib.suppress(ssl.SSLError):  # it would wait for the other side's
        client._tls.unwrap()
    wire = there.value() + client._outgoing.read()
    server.dataReceived(wire)
    assert here.disconnecting
    lose(server)
    assert not factory.connections
    assert not clock.getDelayedCalls()


# -- what a lost connection leaves behind

LOST = {
    "half a message": [HELLO, box(key=b"v" * 60_000)[:-2] + b"\0\1k\xff\xff" + b"v" * 60_000],
    "a refused message": [HELLO, b"\xff" * 1000],
    "half a frame": [HELLO, VALID["data"], frame(bytes(60_000))[:-1]],
}


@pytest.fixture
def _uncollected():
    """The collector runs late in daemons (`cli.daemon.tune_collector`); here, never."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("what", LOST)
@pytest.mark.parametrize("secure", [False, True])
def test_a_lost_connection_is_gone(what, secure):
    """`ControlProtocol` and its buffers are freed with their connection, not by the collector."""
    clock = task.Clock()
    if secure:
        server, client, (here, there), factory, _ = shaken()
        chunks = []
        for each in LOST[what]:
            there.clear()
            client.write(each)
            chunks.append(there.value())
    else:
        factory = plain_factory(clock)
        server, here = factory.buildProtocol(None), StringTransport()
        server.makeConnection(here)
        chunks = LOST[what]
    (control,) = factory.connections
    feed(server, here, chunks)
    assert control.greeted
    left = [weakref.ref(each) for each in (server, control, control.innerProtocol) if each]
    lose(server)
    del server, control
    assert [each() for each in left] == [None] * len(left)


@pytest.mark.usefixtures("_uncollected")
def test_a_lost_answer_is_gone():
    """`Dialled`, and what it has switched to, are freed with their connection."""
    protocol, transport = Dialled(task.Clock(), tls=False), StringTransport()
    protocol.makeConnection(transport)
    data = DataProtocol()
    defer.Deferred.fromCoroutine(protocol.switch(commands.OpenData, data, 5, name="d"))
    feed(protocol, transport, [box(_answer=b"1"), frame(bytes(60_000))[:-1]])
    assert protocol.innerProtocol is data
    left = [weakref.ref(protocol), weakref.ref(data)]
    lose(protocol)
    del protocol, data
    assert [each() for each in left] == [None, None]


@pytest.mark.usefixtures("_uncollected")
def test_a_failed_handshake_is_gone():
    """`TLSProtocol` is freed with its connection where the handshake failed."""
    server, here = TLSFactoryOf(plain_factory(task.Clock())).buildProtocol(None), StringTransport()
    server.makeConnection(here)
    server.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
    assert here.disconnecting
    left = weakref.ref(server)
    lose(server)
    del server
    assert left() is None
