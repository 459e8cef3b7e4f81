"""A client's way to its scheduler: connecting, waiting while it is gone, and giving it up."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, Protocol

from twisted.internet import defer, task
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.errors import ConnectError, ConnectionClosedError
from twisted_dist.wire import commands
from twisted_dist.wire.dial import Dialled
from twisted_dist.wire.link import SchedulerLink
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.session import StreamSession

#: seconds between two attempts to connect for the first time
RETRY_S: Final = 0.1
#: seconds that an answer may take at least, however little of the timeout is left
LEAST_ANSWER_S: Final = 0.05
#: seconds for which a scheduler that is gone is waited for: time to start it again, and its
#: machine too; as long as a worker waits (``--death-timeout``)
PATIENCE_S: Final = 300.0


class Traveller(Protocol):
    """Whose way it is."""

    def received(self, number: int, fields: dict[str, Any]) -> None:
        """A message has come."""

    def began(self, session: StreamSession, index: int, *, again: bool) -> None:
        """The scheduler has said welcome; *again*: it, or another, knows nothing of before."""

    def paused(self, *, is_cut: bool) -> None:
        """Nothing gets through for now; unless *is_cut*, the session is over, too."""

    def goes_on(self) -> None:
        """The session has another connection."""

    def lost(self, reason: str) -> None:
        """Nothing will be heard of the scheduler any more."""


class Reach:
    """Keeps a client in reach of its scheduler. Used in the reactor's thread.

    Args:
        reactor: to dial with.
        address: the scheduler's.
        name: the client's.
        membership: the keys.
        ticket: of a task, which lets it in once, and brings the next one; else empty.
        chance: draws when to dial again.
        patience_s: seconds for which the scheduler may be gone.
        allowed: numbers of the messages that may come.
        traveller: whose way it is.

    Attributes:
        is_lost: it was reached once, and is given up.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: str,
        name: str,
        membership: Membership,
        ticket: bytes,
        chance: Random,
        patience_s: float,
        allowed: Sequence[int],
        traveller: Traveller,
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._name = name
        self._ticket = ticket
        self._patience_s = patience_s
        self._traveller = traveller
        self._index = 0
        self.is_lost = False
        self._is_closed = False
        self._link = SchedulerLink(
            reactor,
            address,
            "client",
            membership,
            chance,
            allowed,
            self._register,
            traveller.received,
            lambda: None,
            self._gone,
            self._refused,
            self._cut,
            insists=False,
        )
        #: the first connection, while it is made
        self._connecting: defer.Deferred[None] | None = None
        self._welcome: defer.Deferred[None] = defer.Deferred()
        #: ends the waiting for a scheduler that is out of reach
        self._giving_up: Any = None
        self._ended: list[defer.Deferred[None]] = []
        self.learn_peers = self._link.learn_peers

    @property
    def is_open(self) -> bool:
        """Whether the scheduler was reached, and is not given up."""
        return self._link.was_welcome and not self.is_lost and not self._is_closed

    async def connect(self, timeout_s: float) -> None:
        """Dial until the scheduler is there, *timeout_s* seconds at most.

        Raises:
            ConnectError: it is not, in time.
            AccessError: it is, and there is no access for it here, or it is another's.
            RefusedError: it says no.
            ConnectionClosedError: `close` was called meanwhile.
        """
        self._connecting = defer.Deferred.fromCoroutine(self._connect_within(timeout_s))
        try:
            await self._connecting
        except defer.CancelledError:
            if not self._is_closed:
                raise
            raise ConnectionClosedError("this client was closed") from None
        finally:
            self._connecting = None

    async def _connect_within(self, timeout_s: float) -> None:
        deadline = self._reactor.seconds() + timeout_s
        while True:
            left = max(LEAST_ANSWER_S, deadline - self._reactor.seconds())
            try:
                await self._connect(deadline, left)
                return
            except ConnectError:
                if self._reactor.seconds() + RETRY_S >= deadline:
                    raise
                await task.deferLater(self._reactor, RETRY_S)

    async def _connect(self, deadline: float, left: float) -> None:
        self._welcome = defer.Deferred()
        await self._link.connect(left)
        left = max(LEAST_ANSWER_S, deadline - self._reactor.seconds())
        await self._welcome.addTimeout(left, self._reactor, self._unwelcome)

    async def _register(self, proto: Dialled, session: StreamSession, timeout_s: float) -> None:
        stream = session.first_stream()
        said = {"name": self._name, "index": self._index, **self._link.earlier()}
        if self._ticket:
            said["ticket"] = self._ticket
            await proto.switch(commands.RegisterTask, stream, timeout_s, **said)
        else:
            await proto.switch(commands.RegisterClient, stream, timeout_s, **said)

    def welcomed(self, index: int, info: Any) -> None:
        """The scheduler has said so."""
        again = self._link.was_welcome
        self._index = index
        self._ticket = info.get("ticket", b"")
        self._link.welcomed(info["session"], info["life"])
        session = self._link.session
        assert session is not None  # which this came by
        self._be_glad()
        self._traveller.began(session, index, again=again)
        if not self._welcome.called:
            self._welcome.callback(None)

    def _unwelcome(self, result: Any, timeout_s: float) -> None:
        self._link.end("no welcome")
        raise ConnectError(f"{self._address} took the connection and said nothing")

    async def close(self, why: str) -> None:
        """Say good-bye, and dial no more."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        ended: defer.Deferred[None] | None = None
        if self._link.is_connected:
            ended = defer.Deferred()
            self._ended.append(ended)
        self._link.close(why)
        if ended is not None:
            await ended
        self._be_glad()

    # -- while it is gone

    def _cut(self, is_cut: bool) -> None:
        """A connection was lost, or is there again."""
        if is_cut:
            self._traveller.paused(is_cut=True)
            self._have_patience()
        else:
            self._be_glad()
            self._traveller.goes_on()

    def _gone(self, reason: str, may_return: bool) -> None:
        """The session is over; the next scheduler is told everything again."""
        if not may_return or not self._link.was_welcome or self._is_closed:
            self._lose(reason)
            return
        self._traveller.paused(is_cut=False)
        self._have_patience()
        self._link.dial()

    def _have_patience(self) -> None:
        if self._giving_up is None:
            self._giving_up = self._reactor.callLater(self._patience_s, self._give_up)

    def _be_glad(self) -> None:
        if self._giving_up is not None and self._giving_up.active():
            self._giving_up.cancel()
        self._giving_up = None

    def _give_up(self) -> None:
        why = f"it was out of reach for {self._patience_s:g} s"
        self.log.error("gives up the scheduler at {s}: {why}", s=self._address, why=why)
        self._link.close(why)
        self._lose(why)

    def _refused(self, failure: Failure) -> None:
        """It was welcome, and is not any more."""
        why = failure.getErrorMessage()
        self.log.error("{s} does not let this client in again: {why}", s=self._address, why=why)
        self._link.close(why)
        self._lose(why)

    def _lose(self, reason: str) -> None:
        self._be_glad()
        self.is_lost = self._link.was_welcome
        if not self._welcome.called:
            self._welcome.errback(ConnectError(f"{self._address} went away: {reason}"))
        self._traveller.lost(reason)
        for each in self._ended:
            each.callback(None)
        self._ended.clear()
