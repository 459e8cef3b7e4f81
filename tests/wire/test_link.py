"""`wire.link`: dialling until somebody is there, and going on where the connection was lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet import defer, error, task
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_dist.errors import AccessError, ConnectError, RefusedError
from twisted_dist.wire import commands, link, schema
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.link import (
    FIRST_RETRY_S,
    MOST_RETRY_S,
    OTHERS_EVERY,
    OTHERS_S,
    REFUSED_RETRY_S,
    SchedulerLink,
)
from twisted_dist.wire.session import BEAT_S, SILENT_BEATS

TOKEN = b"t" * 16
LIFE = b"life"


class Register:
    """Stands for the command by which a member registers."""


class Half:
    """Chance that draws the middle, and remembers of what."""

    def __init__(self):
        self.drawn = []

    def uniform(self, low, high):
        """As Random's."""
        self.drawn.append((low, high))
        return (low + high) / 2


class Dialled:
    """A connection that was greeted; its switches wait for the test."""

    def __init__(self):
        self.asked = []
        self.answer = defer.Deferred()
        self.transport = StringTransport()
        self.stream = None

    def switch(self, command, stream, timeout_s, **arguments):
        """As `wire.dial.Dialled`'s."""
        self.asked.append((command, arguments))
        self.stream = stream
        return self.answer

    def say_yes(self):
        """The scheduler has switched."""
        self.stream.makeConnection(self.transport)
        self.answer.callback(None)

    def say_no(self, why):
        """It has not."""
        self.answer.errback(why)

    def lose(self):
        """The connection is lost."""
        self.stream.connectionLost(Failure(error.ConnectionLost()))

    def said(self):
        """What was sent on it: numbers and fields."""
        payloads = FrameDecoder().feed(self.transport.value())
        allowed = frozenset((schema.ARRIVED.number, schema.BYE.number, schema.HEARTBEAT.number))
        return [schema.decode(each, allowed) for each in payloads]


class Site:
    """A member's link, and what it was told."""

    def __init__(self, monkeypatch):
        self.clock = task.Clock()
        self.chance = Half()
        self.told = []
        self.forgot = 0
        self.dials = []
        self.dialled = []
        self.returns = True
        monkeypatch.setattr(link, "enter", self._enter)
        self.link = SchedulerLink(
            self.clock,
            "h:1",
            "member",
            self,
            self.chance,
            (schema.WELCOME.number,),
            self._register,
            lambda number, fields: self.told.append(("received", number)),
            lambda: self.told.append("beat"),
            self._gone,
            lambda failure: self.told.append(("failed", failure.type)),
            lambda is_cut: self.told.append("cut" if is_cut else "back"),
        )

    def addresses(self, address):
        """There are two."""
        return (address, "other:1")

    def forget(self):
        """As `Membership`'s."""
        self.forgot += 1

    async def _enter(self, reactor, address, kind, membership, timeout_s):
        self.dialled.append((address, timeout_s))
        self.dials.append(defer.Deferred())
        return await self.dials[-1]

    async def _register(self, proto, session, timeout_s):
        await proto.switch(Register, session.first_stream(), timeout_s, **self.link.earlier())

    def _gone(self, why, may_return):
        self.told.append(("gone", may_return))
        if self.returns and may_return:
            self.link.dial()

    def connect(self):
        """The dial under way is greeted; the connection."""
        proto = Dialled()
        self.dials[-1].callback(proto)
        return proto

    def refuse(self, problem=None):
        """It comes to nothing."""
        self.dials[-1].errback(problem or ConnectError("nobody"))

    def begin(self):
        """A welcome member; its connection."""
        self.link.dial()
        proto = self.connect()
        proto.say_yes()
        self.link.welcomed(TOKEN, LIFE)
        self.told.clear()
        return proto


@pytest.fixture
def site(monkeypatch):
    """One that leaves no call behind."""
    site = Site(monkeypatch)
    yield site
    site.link.close("the test is over")
    assert not site.clock.getDelayedCalls()


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


@pytest.mark.parametrize("when", ["dialling", "waiting", "registering", "resuming", "welcome"])
def test_closed(site, when):
    """`SchedulerLink.close` ends whatever is under way, and leaves no call and no connection."""
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
    assert not site.clock.getDelayedCalls()
    assert site.link._dialling is None
    if when == "welcome":
        assert protos[0].said()[-1][1] == {"reason": "bye", "returns": False}
        assert protos[0].transport.disconnecting
        protos[0].lose()
    assert site.link.session is None
    site.link.dial()
    assert len(site.dials) == (2 if when == "resuming" else 1)
