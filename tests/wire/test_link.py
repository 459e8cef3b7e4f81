"""`wire.link`: dialling until somebody is there, and going on where the connection was lost."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.linksite import LIFE, TOKEN, Register
from twisted_dist.errors import AccessError, ConnectError, RefusedError
from twisted_dist.wire import commands, schema
from twisted_dist.wire.frames import frame
from twisted_dist.wire.link import (
    FIRST_RETRY_S,
    MOST_RETRY_S,
    OTHERS_EVERY,
    OTHERS_S,
    REFUSED_RETRY_S,
)
from twisted_dist.wire.session import BEAT_S, SILENT_BEATS


def test_registers(site):
    """`SchedulerLink.dial` registers, with nothing of earlier; what is said then is sent."""
    site.link.dial()
    site.link.dial()
    assert len(site.dials) == 1
    proto = site.connect()
    assert proto.asked == [(Register, {"life": b"", "generation": 0, "peers": 0})]
    assert not site.link.was_welcome
    proto.say_yes()
    site.link.welcomed(TOKEN, LIFE)
    assert site.link.is_connected
    assert site.link._dialling is None
    site.link.send(schema.HEARTBEAT.pack({}))
    site.link.flush()
    assert schema.HEARTBEAT.number in [number for number, _ in proto.said()]


def test_retries(site):
    """`SchedulerLink` waits longer each time, up to a bound, and draws it from chance."""
    site.link.dial()
    delays = []
    for _ in range(7):
        site.refuse()
        (call,) = site.clock.getDelayedCalls()
        delays.append(round(call.getTime() - site.clock.seconds(), 6))
        site.clock.advance(delays[-1] + 1e-6)
    assert len(site.dials) == 8
    assert set(site.chance.drawn) == {(0.5, 1.0)}
    assert delays[0] == pytest.approx(0.75 * FIRST_RETRY_S)
    assert delays[-1] == pytest.approx(0.75 * MOST_RETRY_S)
    assert all(later >= earlier for earlier, later in pairwise(delays))


def test_beats(site):
    """`SchedulerLink` beats while there is a connection, and not without."""
    proto = site.begin()
    site.clock.advance(BEAT_S)
    assert site.told == ["beat"]
    proto.lose()
    site.told.clear()
    site.clock.pump([BEAT_S] * 3)
    assert site.told == []


def test_resumes(site):
    """`SchedulerLink` goes on with the session's token, behind what has arrived."""
    proto = site.begin()
    words = frame(schema.WELCOME.pack(1, {}))
    proto.stream.dataReceived(words)
    proto.lose()
    assert site.told == [("received", schema.WELCOME.number), "cut"]
    again = site.connect()
    assert again.asked == [(commands.Resume, {"token": TOKEN, "received": len(words)})]
    site.link.send(schema.HEARTBEAT.pack({}))
    site.link.flush()
    again.say_yes()
    assert site.told[-1] == "back"
    assert again.said() == []  # until the other end has said where it goes on
    again.stream.dataReceived(frame(schema.RESUMED.pack(0)))
    assert schema.HEARTBEAT.number in [number for number, _ in again.said()]
    assert site.link.session.token == TOKEN


def test_resume_that_is_refused(site):
    """`SchedulerLink` registers anew where its session is over, and says what it was in."""
    site.begin().lose()
    site.link.learn_peers(7, 2)
    site.connect().say_no(RefusedError("over"))
    assert site.told == ["cut", ("gone", True)]
    assert site.link.session is None
    site.clock.advance(MOST_RETRY_S)
    proto = site.connect()
    assert proto.asked == [(Register, {"life": LIFE, "generation": 2, "peers": 7})]
    proto.say_yes()
    site.link.welcomed(b"u" * 16, b"life 2")
    assert site.link.is_connected
    site.clock.advance(BEAT_S)
    assert site.told[-1] == "beat"


def test_newest_generation(site):
    """`SchedulerLink` does not let a scheduler that knows less make it know less."""
    site.link.learn_peers(7, 4)
    site.link.learn_peers(0, 0)
    site.link.learn_peers(3, 2)
    assert site.link.earlier() == {"life": b"", "generation": 4, "peers": 3}


def test_resume_that_fails(site):
    """`SchedulerLink` tries once more where the connection is lost while it is resumed."""
    site.begin().lose()
    site.connect().say_no(ConnectError("no answer"))
    assert site.told == ["cut"]
    assert not site.link.is_connected
    site.clock.advance(MOST_RETRY_S)
    proto = site.connect()
    assert proto.asked[0][0] is commands.Resume


def test_other_addresses(site):
    """`SchedulerLink` tries the others of its access now and then, and stays at none in vain."""
    site.link.dial()
    for _ in range(5):  # it was never there: whoever starts a member means the address it gave
        site.refuse()
        site.clock.advance(MOST_RETRY_S)
    site.connect().say_yes()
    site.link.welcomed(TOKEN, LIFE)
    site.link.session.stream.connectionLost()
    site.dialled.clear()
    for _ in range(2 * OTHERS_EVERY):
        site.refuse()
        site.clock.advance(MOST_RETRY_S)
    others = [n for n, (address, _) in enumerate(site.dialled, 1) if address == "other:1"]
    assert others == [OTHERS_EVERY]
    assert site.dialled[OTHERS_EVERY - 1][1] == OTHERS_S
    assert {address for address, _ in site.dialled} == {"h:1", "other:1"}


def test_lost_while_it_is_told(site):
    """`SchedulerLink` dials at once where the connection is lost in the moment it is there."""
    site.begin().lose()
    proto = site.connect()
    proto.stream.makeConnection(proto.transport)
    proto.lose()
    assert site.link._dialling is not None
    proto.answer.callback(None)
    assert len(site.dials) == 3
    site.connect().say_yes()
    assert site.link.is_connected


def test_silence(site):
    """`SchedulerLink` gives a connection up on which nothing comes, and dials."""
    proto = site.begin()
    for _ in range(SILENT_BEATS + 1):
        site.clock.advance(BEAT_S)
    assert proto.transport.disconnecting
    proto.lose()
    assert site.link._dialling is not None


def test_cut_before_the_welcome(site):
    """`SchedulerLink` has nothing to go on with before the welcome: that session is over."""
    site.returns = False
    site.link.dial()
    proto = site.connect()
    proto.say_yes()
    proto.lose()
    assert site.told == [("gone", True)]
    assert len(site.dials) == 1


def test_bye(site):
    """`SchedulerLink` hears whether it is of use to come back."""
    for returns in (True, False):
        site.returns = False
        proto = site.begin()
        proto.stream.dataReceived(frame(schema.BYE.pack("over", returns)))
        proto.lose()
        assert site.told == [("gone", returns)]
        assert site.link.session is None
        assert not site.link._beat.running


def test_first_registration_is_refused(site):
    """`SchedulerLink` says so, and dials no more."""
    site.link.dial()
    site.connect().say_no(RefusedError("no"))
    assert site.told == [("failed", RefusedError)]
    assert site.link._dialling is None
    assert site.link.session is None


@pytest.mark.parametrize("problem", [RefusedError("no"), AccessError("another's")])
def test_later_refusals(site, problem):
    """`SchedulerLink` goes on where it was welcome once: it looks for its access again."""
    site.begin().lose()
    site.refuse(problem)
    assert site.forgot == 1
    (call,) = [each for each in site.clock.getDelayedCalls() if each.func != site.link._beat]
    assert call.getTime() - site.clock.seconds() <= max(REFUSED_RETRY_S, BEAT_S)
    site.clock.advance(REFUSED_RETRY_S)
    assert len(site.dials) == 3
