"""`services.sessions`: who may go on with which session."""

from __future__ import annotations

import pytest
from twisted.internet import task

from tests.support.pipes import Pair
from twisted_dist.errors import RefusedError
from twisted_dist.services.sessions import STALL_S, Sessions
from twisted_dist.wire.session import BEAT_S, TOKEN_BYTES


class Proto:
    """A connection that was greeted with a certificate."""

    def __init__(self, certificate):
        self.certificate = certificate


class Site:
    """Two members' sessions, by certificates ``a`` and ``b``."""

    def __init__(self):
        self.clock = task.Clock()
        self.drawn = 0
        self.back = []
        self.sessions = Sessions(self.clock, self._draw)
        self.pairs = {name: Pair() for name in "ab"}
        self.tokens = {
            name: self.sessions.open(pair.dialled.session, name, lambda n=name: self.back.append(n))
            for name, pair in self.pairs.items()
        }

    def _draw(self, count):
        self.drawn += 1
        return b"%d" % self.drawn * count

    def resume(self, token, certificate, received=0):
        """Ask to go on."""
        return self.sessions.resume(Proto(certificate), token, received)


@pytest.fixture
def site():
    """Both are connected."""
    return Site()


def test_goes_on(site):
    """`Sessions.resume` lets a session go on with its token and certificate, as often as needed."""
    assert all(len(each) == TOKEN_BYTES for each in site.tokens.values())
    assert len(set(site.tokens.values())) == 2
    pair = site.pairs["a"]
    for _ in range(3):
        pair.dialling.say()
        pair.dialled.say()
        pair.cut()
        stream = pair.dialling.session.resume()
        there = site.resume(site.tokens["a"], "a", pair.dialling.session.arrived)
        pair.dialled.plug(there)
        pair.dialling.plug(stream)
        pair._join()
        pair.settle()
    assert site.back == ["a"] * 3
    assert pair.dialled.received == pair.dialling.sent
    assert pair.dialling.received == pair.dialled.sent


def test_strangers(site):
    """`Sessions.resume` refuses other certificates, other members' tokens, and invented ones."""
    for token, certificate in [
        (site.tokens["a"], "b"),
        (site.tokens["a"], None),
        (b"x" * TOKEN_BYTES, "a"),
        (b"", "a"),
    ]:
        with pytest.raises(RefusedError, match="is over here, or was another scheduler's"):
            site.resume(token, certificate)
    assert not site.back
    assert all(each.dialled.is_on for each in site.pairs.values())  # nobody has lost anything


def test_positions_that_cannot_be(site):
    """`Sessions.resume` refuses a position that was never sent, and leaves the session alone."""
    with pytest.raises(RefusedError, match="cannot go on: byte 1000 "):
        site.resume(site.tokens["a"], "a", 1000)
    assert site.pairs["a"].dialled.is_on
    assert not site.back


def test_over(site):
    """`Sessions.resume` refuses a session that has ended, or is forgotten."""
    site.pairs["a"].dialled.session.end("given up")
    site.sessions.forget(site.pairs["b"].dialled.session)
    for name in "ab":
        with pytest.raises(RefusedError):
            site.resume(site.tokens[name], name)


def test_closed(site):
    """`Sessions.close` says good-bye to all, and none goes on."""
    site.sessions.close("ended", returns=True)
    for pair in site.pairs.values():
        pair.settle()
        assert pair.dialling.lost == ["ended"]
        assert pair.dialling.session.may_return
    with pytest.raises(RefusedError):
        site.resume(site.tokens["a"], "a")


def test_beat(site):
    """`Sessions.beat` says to all that this end is there."""
    site.sessions.beat()
    assert all(pair.dialled.pipe.out for pair in site.pairs.values())


@pytest.mark.parametrize(
    ("after_s", "stood_s"),
    [(BEAT_S, 0), (BEAT_S + STALL_S, 0), (BEAT_S + STALL_S + 1, STALL_S + 1), (100, 100 - BEAT_S)],
)
def test_stood_still(site, after_s, stood_s):
    """`Sessions.stood_still` tells a process that was stopped from one that was a little late."""
    site.clock.advance(3.0)
    site.sessions.begin()
    site.clock.advance(after_s)
    assert site.sessions.stood_still() == stood_s
    site.clock.advance(BEAT_S)
    assert site.sessions.stood_still() == 0
