"""`wire.link`: closed for good, and ended until it is to dial again, whatever is under way."""

from __future__ import annotations

import pytest

from tests.support.linksite import LIFE, Register
from twisted_dist.errors import ConnectError, RefusedError
from twisted_dist.wire import schema
from twisted_dist.wire.link import MOST_RETRY_S
from twisted_dist.wire.session import BEAT_S, SILENT_BEATS


@pytest.mark.parametrize("when", ["dialling", "waiting", "registering", "resuming", "welcome"])
def test_closed(site, when):
    """`SchedulerLink.close` ends whatever is under way, and leaves no call and no connection.

    `gone` is called where there was a session: somebody waits for that.
    """
    site.returns = False
    protos = []
    if when in ("resuming", "welcome"):
        protos.append(site.begin())
    else:
        site.link.dial()
    if when == "waiting":
        site.refuse()
    elif when == "registering":
        protos.append(site.connect())
    elif when == "resuming":
        protos[0].lose()
        protos.append(site.connect())
    site.told.clear()
    site.link.close("bye")
    assert site.link._dialling is None
    if when == "welcome":
        assert protos[0].said()[-1][1] == {"reason": "bye", "returns": False}
        assert protos[0].transport.disconnecting
        protos[0].lose()
    assert not site.clock.getDelayedCalls()
    assert site.link.session is None
    assert site.told == ([("gone", True)] if protos else [])
    site.link.dial()
    assert len(site.dials) == (2 if when == "resuming" else 1)


def test_closed_where_nothing_is_taken(site):
    """`SchedulerLink.close` does not wait longer than others for a scheduler that is stopped."""
    site.returns = False
    proto = site.begin()
    site.clock.advance(1.0)
    site.link.close("bye")
    for _ in range(SILENT_BEATS - 1):  # the first came with the welcome
        site.clock.advance(BEAT_S)
    assert site.told == []  # nothing more is said for the owner
    assert not proto.transport.disconnected
    site.clock.advance(BEAT_S)
    assert proto.transport.disconnected
    proto.lose()
    assert site.told == [("gone", True)]
    assert not site.clock.getDelayedCalls()


@pytest.mark.parametrize("is_taken", [False, True])
def test_left(site, is_taken):
    """`SchedulerLink.leave` fires when the connection is closed, which it is in time."""
    site.returns = False
    proto = site.begin()
    told = []
    site.link.leave("bye", 1.0).addCallback(told.append)
    assert proto.said()[-1][1] == {"reason": "bye", "returns": False}
    assert not told
    if not is_taken:
        site.clock.advance(1.0)
        assert proto.transport.disconnected
    proto.lose()
    assert told == [None]
    assert not site.clock.getDelayedCalls()
    site.link.leave("bye", 1.0).addCallback(told.append)
    assert len(told) == 2


@pytest.mark.parametrize("when", ["dialling", "waiting"])
def test_ended_before_it_was_reached(site, when):
    """`SchedulerLink.end` stops dialling; `dial` begins again."""
    site.link.dial()
    if when == "waiting":
        site.refuse()
    site.link.end("later")
    assert site.link._dialling is None
    assert not site.clock.getDelayedCalls()
    site.clock.advance(MOST_RETRY_S)
    assert len(site.dials) == 1
    site.link.dial()
    site.connect().say_yes()
    assert site.link.is_connected
    assert site.told == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_ended_while_registering(site, when):
    """`SchedulerLink` registers once more: the scheduler hears good-bye after yes."""
    site.returns = False
    site.link.dial()
    first = site.connect()
    site.link.end("anew")
    assert site.told == [("gone", True)]
    if when == "before":
        site.link.dial()
    assert len(site.dials) == 1
    first.say_yes()
    assert first.said() == [(schema.BYE.number, {"reason": "anew", "returns": True})]
    assert first.transport.disconnecting
    first.lose()
    if when == "after":
        assert len(site.dials) == 1
        site.link.dial()
    second = site.connect()
    assert second.asked[0][0] is Register
    second.say_yes()
    assert site.link.is_connected
    assert site.told == [("gone", True)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_ended_while_registering_fails(site, when):
    """`SchedulerLink` registers once more, when it is to: not before."""
    site.returns = False
    site.link.dial()
    first = site.connect()
    site.link.end("anew")
    if when == "before":
        site.link.dial()
    first.say_no(ConnectError("no answer"))
    site.clock.advance(MOST_RETRY_S)
    if when == "after":
        assert len(site.dials) == 1
        site.link.dial()
    assert len(site.dials) == 2
    site.connect().say_yes()
    assert site.link.is_connected


def test_ended_while_resuming(site):
    """`SchedulerLink` closes what was resumed for a session that is over, and registers anew."""
    site.begin().lose()
    again = site.connect()
    site.link.end("anew")
    assert site.told == ["cut", ("gone", True)]
    again.say_yes()
    assert again.transport.disconnecting
    again.lose()
    proto = site.connect()
    assert proto.asked == [(Register, {"life": LIFE, "generation": 0, "peers": 0})]
    proto.say_yes()
    assert site.link.is_connected


def test_resume_refused_to_whom_is_to_stay_away(site):
    """`SchedulerLink` does not register for whom has not called `dial` when it was told."""
    site.returns = False
    site.begin().lose()
    site.connect().say_no(RefusedError("over"))
    assert site.told[-1] == ("gone", True)
    site.clock.advance(MOST_RETRY_S)
    assert len(site.dials) == 2
    assert site.link._dialling is None
