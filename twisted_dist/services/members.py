"""A scheduler's members: how workers and clients register, come back, and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hmac import compare_digest
from itertools import count
from random import Random, SystemRandom
from typing import Any, Final, Protocol

from twisted.internet import task
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_dist.access.roles import ADMIN, MAY_REGISTER, MAY_SUBMIT, MAY_WORK
from twisted_dist.address import parse_address
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import stimuli as s
from twisted_dist.core.scheduler import SchedulerCore
from twisted_dist.errors import RefusedError, UsageProblem
from twisted_dist.services.deaths import Deaths
from twisted_dist.services.errands import Errands
from twisted_dist.services.sessions import Sessions
from twisted_dist.services.shelf import Shelf
from twisted_dist.services.tickets import Tickets
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import Responder
from twisted_dist.wire.kinds import is_amounts
from twisted_dist.wire.scheduler_end import ClientEnd, WorkerEnd
from twisted_dist.wire.session import BEAT_S

#: bytes that tell one life of a scheduler from all others
LIFE_BYTES: Final = 8
#: numbers of members begin somewhere below, so that those of two lives hardly meet; what
#: follows them has room in a task id (`aliases.CLIENT_SHIFT`)
MOST_FIRST: Final = 2**22
#: more than anybody can mean; an attempt's number has to stay one of a message's integers
MOST_GENERATION: Final = 2**40
MOST_PEERS: Final = 2**30
MOST_NUMBER: Final = 2 ** (63 - CLIENT_SHIFT) - 1
#: seconds without a worker coming or going until all are told how many there are: once for a
#: hundred that come together, and before somebody who starts schedulers that end starts another
QUIET_S: Final = 1.0


class Decider(Protocol):
    """What decides about facts: the scheduler."""

    reactor: Any
    core: SchedulerCore

    def take(self, stimulus: s.Stimulus) -> None:
        """Take a fact in; what it leads to is decided when the stream's turn ends."""

    def turned(self) -> None:
        """A peer's turn has ended."""

    def stimulate(self, stimulus: s.Stimulus) -> None:
        """Both."""

    def answer_client(self, what: str, arguments: Any) -> Any:
        """Answer a question; raises RefusedError."""

    def keys(self) -> Mapping[bytes, str] | None:
        """The certificates that count; None where everybody is let in."""

    def seal(self, what: bytes) -> bytes:
        """What only a scheduler of this network can say of *what*, in each of its lives."""


class Members:
    """Everybody who has registered, by number.

    Args:
        scheduler: whose they are.
        beside: ``{message's number: what takes a worker's number and the fields}`` for what
            the core need not know.
        chance: draws tokens and numbers; the system's by default.

    Attributes:
        life: names this life of the scheduler.
        errands: what workers do for clients beside their tasks.
    """

    log = Logger()

    def __init__(
        self,
        scheduler: Decider,
        beside: Mapping[int, Callable[[int, dict[str, Any]], None]],
        chance: Random | None = None,
    ) -> None:
        chance = chance or SystemRandom()
        self._scheduler = scheduler
        self._core = scheduler.core
        self._shelf = Shelf(scheduler.reactor, self.tell_worker, self.reply, self._name_of)
        self.errands = Errands(scheduler.reactor, self._core.state, self.tell_worker, self.reply)
        self._beside = {
            **beside,
            schema.ERRAND_DONE.number: self.errands.done,
            schema.UPLOAD_WANTED.number: self._shelf.piece_wanted,
            schema.UPLOADED.number: self._shelf.uploaded,
        }
        self.life = chance.randbytes(LIFE_BYTES)
        self._numbers = count(chance.randrange(1, MOST_FIRST))
        self._tickets = Tickets(scheduler.reactor, self._core.state)
        self._sessions = Sessions(scheduler.reactor, chance.randbytes)
        self._beat = task.LoopingCall(self._tick)
        self._beat.clock = scheduler.reactor
        self._deaths = Deaths(scheduler.reactor, self._worker_died)
        self.workers: dict[int, WorkerEnd] = {}
        self.clients: dict[int, ClientEnd] = {}
        #: how many workers all were told that there are (0 while that changes: nobody is to
        #: wait for fewer than there were), and in which generation
        self._told_peers = (0, 0)
        #: tells them, when no worker has come or gone for a while
        self._counting: IDelayedCall | None = None

    def responders(self) -> dict[type, Responder]:
        """The commands by which members come."""
        return {
            commands.RegisterWorker: Responder(self._register_worker, MAY_WORK),
            commands.RegisterClient: Responder(self._register_client, MAY_SUBMIT),
            commands.RegisterTask: Responder(self._register_task, MAY_WORK),
            commands.Resume: Responder(self._sessions.resume, MAY_REGISTER),
        }

    def begin(self) -> None:
        """Look after them from now on."""
        self._sessions.begin()
        ended = self._beat.start(BEAT_S, now=False)
        ended.addErrback(lambda f: self.log.failure("the beat has failed", failure=f))

    def close(self, *, returns: bool) -> None:
        """Send all away; *returns* where they may wait for another scheduler."""
        if self._beat.running:
            self._beat.stop()
        if self._counting is not None:
            self._counting.cancel()
            self._counting = None
        self._shelf.close()
        self.errands.close()
        self._deaths.close()
        self._sessions.close("the scheduler has ended", returns=returns)

    def notice_stall(self) -> None:
        """If this process has just stood still, no lease ran meanwhile."""
        seconds = self._sessions.stood_still()
        if seconds:
            self.log.warn("this scheduler stood still for {s:.0f} s", s=seconds)
            self._core.excuse(seconds, self._scheduler.reactor.seconds())

    def _name_of(self, number: int) -> str:
        worker = self._core.state.workers.get(number)
        return worker.name if worker is not None else f"worker {number}"

    def tell_worker(self, number: int, payload: bytes) -> None:
        """Send a worker something, if it is there."""
        end = self.workers.get(number)
        if end is not None:
            end.send(payload)
            end.session.flush()

    def reply(self, client: int, request: int, error: str, result: Any) -> None:
        """Answer a client that asked for something, if it is there."""
        end = self.clients.get(client)
        if end is not None:
            end.send(schema.ANSWER.pack(request, error, result))
            end.session.flush()

    def tell_keys(self) -> None:
        """Tell all which certificates count."""
        self._tell_all(schema.KEYS.pack(self._scheduler.keys()))

    def _tell_all(self, payload: bytes) -> None:
        ends: list[WorkerEnd | ClientEnd] = [*self.workers.values(), *self.clients.values()]
        for end in ends:
            end.send(payload)
            end.session.flush()

    def _tick(self) -> None:
        self.notice_stall()
        self._sessions.beat()
        if self._counting is None:  # what is told here is that a generation has begun
            self._tell_peers(len(self.workers))

    def _count(self) -> None:
        self._counting = None
        self._tell_peers(len(self.workers))

    def _tell_peers(self, workers: int) -> None:
        peers = (workers, self._core.generation)
        if peers != self._told_peers:
            self._told_peers = peers
            self._tell_all(schema.PEERS.pack(*peers))

    def _workers_change(self) -> None:
        """One has come or gone."""
        self._tell_peers(0)
        if self._counting is not None:
            self._counting.reset(QUIET_S)
        elif self._beat.running:
            self._counting = self._scheduler.reactor.callLater(QUIET_S, self._count)

    # -- coming

    def _number(self) -> int:
        """One that no member has, nor had in an earlier life, as far as that is known."""
        while True:
            number = next(self._numbers)
            if number not in self.workers and number not in self.clients:
                return number

    def _return(self, life: bytes, generation: int, peers: int) -> None:
        """A member comes that was in a network like this before."""
        if not 0 <= generation <= MOST_GENERATION or not 0 <= peers <= MOST_PEERS:
            raise RefusedError(f"generation {generation} with {peers} workers cannot have been")
        if life and life != self.life:
            self._scheduler.take(s.MemberReturned(peers, generation))

    def _register_worker(
        self,
        proto: Any,
        address: str,
        name: str,
        nthreads: int,
        resources: Any,
        life: bytes,
        generation: int,
        peers: int,
    ) -> Any:
        try:
            parse_address(address)
        except UsageProblem as problem:
            raise RefusedError(f"a worker's address that is none: {problem}") from None
        if nthreads < 1:
            raise RefusedError(f"a worker needs one thread at least, not {nthreads}")
        if not is_amounts(resources):
            raise RefusedError("resources that are not names with amounts")
        known = self._core.state.workers.values()
        if name and any(each.name == name and each.address != address for each in known):
            raise RefusedError(
                f"another worker is named {name[:40]!r}: give this one another --name"
            )
        self._return(life, generation, peers)
        number = self._number()
        end = WorkerEnd(
            number,
            self._scheduler.take,
            self._worker_gone,
            self._worker_cut,
            self._scheduler.turned,
            self._tickets.give,
            self._beside,
        )
        self.workers[number] = end
        self._workers_change()
        self._welcome(end, proto, s.WorkerBack(number), {})
        self._deaths.met(number, address, getattr(proto.transport.getPeer(), "host", ""))
        self._shelf.worker_joined(number)
        self._scheduler.stimulate(
            s.WorkerJoined(number, address, name or address, nthreads, resources, bool(life))
        )
        return end.session.first_stream()

    def _register_task(
        self,
        proto: Any,
        name: str,
        ticket: bytes,
        index: int,
        life: bytes,
        generation: int,
        peers: int,
    ) -> Any:
        if not life:
            self._tickets.take(ticket)
        elif not compare_digest(ticket, self._ticket_of(proto, index)):
            raise RefusedError("this is not the ticket of the task's client with this number")
        number = self._client_number(index, life, generation, peers)
        told = {"ticket": self._ticket_of(proto, number)}
        return self._add_client(proto, number, name, is_admin=False, returns=bool(life), told=told)

    def _ticket_of(self, proto: Any, number: int) -> bytes:
        """With which a task's client that was let in once is let in again, in any life."""
        return self._scheduler.seal(b"task's client %d of " % number + (proto.certificate or b""))

    def _register_client(
        self, proto: Any, name: str, index: int, life: bytes, generation: int, peers: int
    ) -> Any:
        number = self._client_number(index, life, generation, peers)
        is_admin = self._scheduler.keys() is None or proto.role == ADMIN
        return self._add_client(proto, number, name, is_admin, returns=bool(life), told={})

    def _client_number(self, index: int, life: bytes, generation: int, peers: int) -> int:
        """The number of a client that comes; that which it had, if it returns."""
        if not life:
            return self._number()
        if index in self.clients or index in self.workers or not 0 < index <= MOST_NUMBER:
            raise RefusedError(f"the client's number {index} is another's by now")
        self._return(life, generation, peers)
        return index

    def _add_client(
        self,
        proto: Any,
        number: int,
        name: str,
        is_admin: bool,
        returns: bool,
        told: Mapping[str, bytes],
    ) -> Any:
        end = ClientEnd(
            number,
            self._scheduler.take,
            self._scheduler.answer_client,
            self._client_gone,
            self._client_cut,
            self._scheduler.turned,
            is_admin,
            self._asked,
        )
        self.clients[number] = end
        # which begins a generation, where it returns: the welcome tells of that
        self._scheduler.take(s.ClientJoined(number, name, returns))
        self._welcome(end, proto, s.ClientBack(number), told)
        self._scheduler.turned()
        return end.session.first_stream()

    def _asked(self, client: int, fields: dict[str, Any]) -> bool:
        """A client asks for an operation; whether that is answered here."""
        return self._shelf.asked(client, fields) or self.errands.asked(client, fields)

    def _welcome(
        self,
        end: WorkerEnd | ClientEnd,
        proto: Any,
        back: s.Stimulus,
        told: Mapping[str, bytes],
    ) -> None:
        keys = self._scheduler.keys()
        if keys is not None:
            end.send(schema.KEYS.pack(keys))
        goes_on = partial(self._goes_on, end.number, back)
        token = self._sessions.open(end.session, proto.certificate, goes_on)
        info = {"session": token, "life": self.life, **told}
        end.send(schema.WELCOME.pack(end.number, info))
        workers, _ = self._told_peers
        end.send(schema.PEERS.pack(workers, self._core.generation))

    def _goes_on(self, number: int, back: s.Stimulus) -> None:
        self._deaths.heard(number)
        self._scheduler.stimulate(back)

    # -- going

    def _worker_cut(self, number: int, reason: str) -> None:
        self._scheduler.stimulate(s.WorkerCut(number, reason))
        self._deaths.cut(number)

    def _worker_died(self, number: int, reason: str) -> None:
        if number in self.workers:
            self.workers[number].session.end(reason, returns=True)

    def _worker_gone(self, number: int, reason: str) -> None:
        self._sessions.forget(self.workers.pop(number).session)
        self._workers_change()
        self._deaths.forget(number)
        self._shelf.worker_gone(number)
        self.errands.worker_gone(number, reason)
        self._scheduler.stimulate(s.WorkerLost(number, reason))

    def _client_cut(self, number: int, reason: str) -> None:
        self._scheduler.stimulate(s.ClientCut(number))

    def _client_gone(self, number: int, reason: str) -> None:
        self._sessions.forget(self.clients.pop(number).session)
        self._shelf.client_gone(number)
        self.errands.client_gone(number)
        self._scheduler.stimulate(s.ClientLost(number))
