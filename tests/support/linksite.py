"""`LinkSite`: a member's link to a scheduler, of which the test says when it answers."""

from __future__ import annotations

from twisted.internet import defer, error, task
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_dist.errors import ConnectError
from twisted_dist.wire import link, schema
from twisted_dist.wire.frames import FrameDecoder
from twisted_dist.wire.link import SchedulerLink

TOKEN = b"t" * 16
LIFE = b"life"


class Register:
    """Stands for the command by which a member registers."""


class _Half:
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


class LinkSite:
    """A member's link, and what it was told."""

    def __init__(self, monkeypatch):
        self.clock = task.Clock()
        self.chance = _Half()
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
