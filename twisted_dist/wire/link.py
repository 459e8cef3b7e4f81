"""A member's way to its scheduler: dialled until it is there, and again whenever it is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Any, Final

from twisted.internet import defer, task
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.errors import AccessError, ConnectError, RefusedError
from twisted_dist.wire import commands
from twisted_dist.wire.dial import DIAL_S, Dialled
from twisted_dist.wire.entering import enter
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.session import BEAT_S, StreamSession

#: seconds until a scheduler that is not there is dialled again, at first and at most; drawn from
#: the half of it up, so that not all come in one moment. A scheduler that was started again
#: waits for its members (`core.claims.GRACE_S`): several times the longest
FIRST_RETRY_S: Final = 0.1
MOST_RETRY_S: Final = 1.0
#: each so many attempts go to another address, which nobody may ever have listened at: they
#: may not take long, or the scheduler's own would be tried too seldom
OTHERS_EVERY: Final = 4
OTHERS_S: Final = 2.0
#: and one that has said no
REFUSED_RETRY_S: Final = 5.0


class SchedulerLink:
    """Keeps a session with the scheduler, through as many connections as it takes.

    Args:
        reactor: to dial with.
        address: the scheduler's.
        kind: what this member is, for the scheduler's log.
        membership: the keys.
        chance: draws when to dial again.
        allowed: numbers of the messages that may come.
        register: makes a new session's stream of a connection that was greeted.
        received: called with each message's number and fields.
        beat: called every `BEAT_S` while there is a connection.
        gone: called when a session is over, with one line that says why, and whether it is of
            use to `dial` again: what the scheduler knew of this member it knows no more.
        failed: called with a Failure where a registration is refused for good.
        cut: called with True when a connection is lost, with False when there is another.
        insists: a refusal is not for good, once it was welcome: whoever has its name now may go
            again, and a scheduler that was set up anew may leave its access where it was.

    Attributes:
        was_welcome: a scheduler has once said yes.
        life: of the scheduler that has said yes last; empty before, and where nothing of it counts.
        session: the one that is on; None before the first registration and after `gone`.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: str,
        kind: str,
        membership: Membership,
        chance: Random,
        allowed: Sequence[int],
        register: Callable[[Dialled, StreamSession, float], Awaitable[None]],
        received: Callable[[int, dict[str, Any]], None],
        beat: Callable[[], None],
        gone: Callable[[str, bool], None],
        failed: Callable[[Failure], None],
        cut: Callable[[bool], None] = lambda is_cut: None,
        insists: bool = True,
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._kind = kind
        self._membership = membership
        self._chance = chance
        self._allowed = allowed
        self._register = register
        self._received = received
        self._owners_beat = beat
        self._gone = gone
        self._failed = failed
        self._tell_cut = cut
        self._insists = insists
        #: how many attempts to dial again were in vain: the next takes another address
        self._tried = 0
        self.session: StreamSession | None = None
        self.was_welcome = False
        self.life = b""
        self._peers = 0
        self._generation = 0
        self._dialling: defer.Deferred[None] | None = None
        #: whoever this is for has called `dial`, and the session that it was for is not over
        self._is_wanted = False
        self._is_closed = False
        #: fires when the last session is over
        self._left: defer.Deferred[None] | None = None
        self._beat = task.LoopingCall(self._tick)
        self._beat.clock = reactor

    @property
    def is_connected(self) -> bool:
        """Whether what is said now is on its way."""
        return self.session is not None and self.session.stream is not None

    # -- life

    def dial(self) -> None:
        """Make a connection, for the session that there is, or for a new one."""
        if self._is_closed:
            return
        self._is_wanted = True
        if self._dialling is None:
            self._dialling = defer.Deferred.fromCoroutine(self._dial())
            self._dialling.addCallbacks(self._dialled, self._dial_failed)

    def close(self, why: str) -> None:
        """As `end`, and do not come back; nothing is under way any more.

        Where the scheduler takes nothing, the good-bye neither, it is given up as on any other
        connection (`StreamSession.beat`).
        """
        self._is_closed = True
        self.end(why)
        if self._dialling is not None:
            self._dialling.cancel()

    def leave(self, why: str, patience_s: float) -> defer.Deferred[None]:
        """As `close`; fires when nothing is left, of which no more is after *patience_s*."""
        self.close(why)
        if self.session is None:
            return defer.succeed(None)
        left: defer.Deferred[None] = defer.Deferred()
        self._left = left
        giving_up = self._reactor.callLater(patience_s, self.session.lose, why)
        left.addCallback(lambda _: giving_up.cancel() if giving_up.active() else None)
        return left

    def end(self, why: str) -> None:
        """Have no session, nor dial, until `dial` is called; `gone` is, where there was a session.

        A scheduler that is just being told of this member hears the good-bye after that.
        """
        self._is_wanted = False
        if self.session is not None:
            self.session.end(why, returns=not self._is_closed)
        elif self._dialling is not None:
            self._dialling.cancel()

    def earlier(self) -> dict[str, Any]:
        """What a registration says of the life of the scheduler in which this member was."""
        return {"life": self.life, "generation": self._generation, "peers": self._peers}

    def learn_peers(self, workers: int, generation: int) -> None:
        """The scheduler has told how many workers there are, and in which generation.

        One that has just begun anew may be of an earlier generation than another that was there
        for a moment: the newest of all is what is new to nobody.
        """
        self._peers, self._generation = workers, max(generation, self._generation)

    def welcomed(self, session: bytes, life: bytes) -> None:
        """The scheduler has said yes, how the session is called, and which life this is."""
        assert self.session is not None  # by which it was said
        self.session.token = session
        self.was_welcome = True
        self.life = life
        if not self._beat.running:
            ended = self._beat.start(BEAT_S)
            ended.addErrback(lambda f: self.log.failure("heartbeat failed", failure=f))

    def _stop_beat(self) -> None:
        if self._beat.running:
            self._beat.stop()

    def _tick(self) -> None:
        if self.session is not None and self.is_connected:
            if not self._is_closed:
                self._owners_beat()
            self.session.beat()

    # -- saying

    def send(self, payload: bytes) -> None:
        """Say something, now or when there is a connection again; to nobody without a session."""
        if self.session is not None:
            self.session.send(payload)

    def send_all(self, payloads: Iterable[bytes]) -> None:
        """As `send`, of several."""
        if self.session is not None:
            self.session.send_all(payloads)

    def flush(self) -> None:
        """Write what was said."""
        if self.session is not None:
            self.session.flush()

    # -- connections

    async def _dial(self) -> None:
        delay = FIRST_RETRY_S
        told = False
        while True:
            try:
                await self.connect()
            except ConnectError as problem:
                if not told:
                    told = True
                    self.log.warn("waiting for {s}: {why}", s=self._address, why=problem)
                self._tried += self.was_welcome
                wait = delay
                delay = min(delay * 2, MOST_RETRY_S)
            except (RefusedError, AccessError) as problem:
                if not (self.was_welcome and self._insists):
                    raise
                self.log.error("cannot register: {why}", why=problem)
                self._membership.forget()
                wait = REFUSED_RETRY_S
            else:
                return
            if not self._is_wanted:
                return
            await task.deferLater(self._reactor, wait * self._chance.uniform(0.5, 1.0))

    async def connect(self, timeout_s: float = DIAL_S) -> None:
        """Try once to have a session on a connection, for *timeout_s* seconds each step.

        Raises:
            ConnectError: nobody is there, or says anything; or a session that was is over.
            RefusedError: the scheduler says no.
            AccessError: it is another's, or there is no access for it here.
        """
        address = self._address
        if self._tried and self._tried % OTHERS_EVERY == 0:
            # it may have begun anew at another of those that the access names
            known = self._membership.addresses(address)
            address = known[(self._tried // OTHERS_EVERY) % len(known)]
            timeout_s = min(timeout_s, OTHERS_S)
        proto = await enter(self._reactor, address, self._kind, self._membership, timeout_s)
        session = self.session
        if session is not None and session.token and not session.is_over:
            try:
                await self._resume(proto, session)
            except RefusedError as problem:
                self._over(str(problem))
                # AMP has closed this connection; on the next one it is a worker like any other
                raise ConnectError(str(problem)) from None
            return
        await self._begin(proto, timeout_s)

    async def _resume(self, proto: Dialled, session: StreamSession) -> None:
        where = {"token": session.token, "received": session.arrived}
        stream = session.resume()
        try:
            await proto.switch(commands.Resume, stream, DIAL_S, **where)
        except BaseException:
            session.leave("it could not go on")
            raise
        self._tell_cut(False)

    async def _begin(self, proto: Dialled, timeout_s: float) -> None:
        session = StreamSession(
            self._allowed, self._received, self._over, None, self._cut, is_bounded=False
        )
        self.session = session
        try:
            await self._register(proto, session, timeout_s)
        except BaseException:
            session.leave("it could not register")
            self.session = None
            raise

    def _dialled(self, _: None) -> None:
        self._dialling = None
        if self._is_wanted and not self.is_connected:
            self.dial()  # it was lost, or ended, while that was being told

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        if failure.check(defer.CancelledError):
            if self._is_wanted:  # again, since `end`
                self.dial()
            return
        if not failure.check(RefusedError, AccessError, ConnectError):
            self.log.failure("cannot register with {s}", failure=failure, s=self._address)
        self._failed(failure)

    def _cut(self, why: str) -> None:
        """The connection is lost; the session is not, yet."""
        session = self.session
        if session is None or self._is_closed:
            return
        if not session.token:  # it was never welcome: there is nothing to go on with
            self._over(why)
            return
        self.log.warn("lost the connection to {s}: {why}", s=self._address, why=why)
        self._tell_cut(True)
        self.dial()

    def _over(self, why: str) -> None:
        """The session is over."""
        session, self.session = self.session, None
        if session is not None:
            self._is_wanted = False  # but for what `gone` says
            self._stop_beat()
            self._gone(why, session.may_return)
        if self._left is not None:
            left, self._left = self._left, None
            left.callback(None)
