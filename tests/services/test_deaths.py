"""`services.deaths`: when a worker is known to be dead, and when nobody can know."""

from __future__ import annotations

import pytest
from twisted.internet import error
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from twisted_dist.services.deaths import LOOK_S, Deaths

ADDRESS = "127.0.0.1:4000"  # the only one in `MemoryReactorClock`
HOST, PORT = "127.0.0.1", 4000


#: seconds until `HostnameEndpoint` looks whether the name has another address
NEXT_S = 0.3


class Site:
    """Deaths, on a network in memory, and what they have told."""

    def __init__(self):
        self.reactor = MemoryReactorClock()
        self.died = []
        self.deaths = Deaths(self.reactor, lambda *told: self.died.append(told))

    def attempts(self):
        """Connections that were begun."""
        self.reactor.advance(0)
        return self.reactor.tcpClients

    def answer(self, how):
        """The last attempt comes to something; the connection, if it is one."""
        *_, (host, port, factory, _, _) = self.attempts()
        assert (host, port) == (HOST, PORT)
        if how is not None:
            factory.clientConnectionFailed(None, Failure(how))
            self.reactor.advance(NEXT_S)
            return None
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return transport

    def meet(self, how=None, peer=HOST):
        """A worker registers from *peer*, and its port is tried."""
        self.deaths.met(1, ADDRESS, peer)
        return self.answer(how)


@pytest.fixture
def site():
    """One that leaves no call behind."""
    site = Site()
    yield site
    site.deaths.close()
    assert not site.reactor.getDelayedCalls()
    assert not site.deaths._looking


REFUSED = error.ConnectionRefusedError()
UNREACHABLE = [error.TimeoutError(), error.NoRouteError(), error.ConnectError()]


def test_port_that_can_be_reached(site):
    """`Deaths.met` tries the worker's port once, and leaves again."""
    assert site.meet().disconnecting
    site.reactor.advance(10 * LOOK_S)
    assert len(site.attempts()) == 1
    assert not site.died


def test_dead(site):
    """`Deaths` say that a worker is dead when its port refuses, at once and once."""
    site.meet()
    site.deaths.cut(1)
    site.answer(REFUSED)
    assert site.died == [(1, f"it has ended: nothing listens at {ADDRESS} any more")]
    site.reactor.advance(10 * LOOK_S)
    assert len(site.died) == 1
    assert len(site.attempts()) == 2


def test_alive(site):
    """`Deaths` look again as long as something listens: it may end later."""
    site.meet()
    site.deaths.cut(1)
    for _ in range(3):
        assert site.answer(None).disconnecting
        site.reactor.advance(LOOK_S)
    assert not site.died
    site.answer(REFUSED)
    assert len(site.died) == 1


@pytest.mark.parametrize("how", UNREACHABLE, ids=lambda how: type(how).__name__)
def test_out_of_reach(site, how):
    """`Deaths` take nothing but a refusal for proof, and go on looking."""
    site.meet()
    site.deaths.cut(1)
    for _ in range(3):
        site.answer(how)
        site.reactor.advance(LOOK_S)
    assert not site.died
    site.answer(REFUSED)
    assert len(site.died) == 1


def test_nobody_answers_the_attempt(site):
    """`Deaths` give an attempt up after `LOOK_S`, and begin another."""
    site.meet()
    site.deaths.cut(1)
    attempt = site.reactor.connectors[-1]
    site.reactor.advance(LOOK_S)
    assert attempt.stoppedConnecting or len(site.attempts()) >= 2
    assert not site.died


@pytest.mark.parametrize("how", [REFUSED, *UNREACHABLE], ids=lambda how: type(how).__name__)
def test_port_that_never_could_be_reached(site, how):
    """`Deaths` prove nothing by a port that they could not reach when the worker was there."""
    site.meet(how)
    site.deaths.cut(1)
    site.reactor.advance(10 * LOOK_S)
    assert len(site.attempts()) == 1
    assert not site.died


def test_from_elsewhere(site):
    """`Deaths` do not look where the worker comes from another address than it says (NAT)."""
    site.deaths.met(1, ADDRESS, "192.0.2.1")
    site.deaths.cut(1)
    site.reactor.advance(10 * LOOK_S)
    assert not site.attempts()


def test_heard(site):
    """`Deaths.heard` ends the looking, also an attempt under way; the next cut begins it anew."""
    site.meet()
    site.deaths.cut(1)
    site.deaths.heard(1)
    site.deaths.cut(1)
    site.answer(None)
    site.deaths.heard(1)
    site.reactor.advance(10 * LOOK_S)
    assert not site.died
    site.deaths.cut(1)
    site.answer(REFUSED)
    assert len(site.died) == 1


def test_forgotten(site):
    """`Deaths.forget` lets go of a worker: nothing is looked at for its number again."""
    site.meet()
    site.deaths.cut(1)
    site.deaths.forget(1)
    site.deaths.cut(1)
    before = len(site.attempts())
    site.reactor.advance(10 * LOOK_S)
    assert len(site.attempts()) == before
    assert not site.died


def test_died_forgets(site):
    """`Deaths` may be told to forget a worker by whoever hears that it is dead."""
    site.deaths = deaths = Deaths(site.reactor, lambda number, why: deaths.forget(number))
    site.meet()
    deaths.cut(1)
    site.answer(REFUSED)
    assert not deaths._reachable


def test_closed(site):
    """`Deaths.close` ends all looking."""
    site.meet()
    site.deaths.cut(1)
    site.answer(None)
    site.deaths.close()
    assert not site.reactor.getDelayedCalls()
