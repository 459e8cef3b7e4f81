"""`Scheduler`: the scheduling core on a listening port."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

from twisted.internet import defer

from twisted_dist.access.home import Home
from twisted_dist.access.network import Network
from twisted_dist.access.roles import (
    MAY_LOOK,
    MAY_MOVE_DATA,
    MAY_WORK,
)
from twisted_dist.address import DEFAULT_PORT
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.scheduler import LEASE_S, SchedulerCore
from twisted_dist.errors import RefusedError
from twisted_dist.services.authority import NetworkAuthority
from twisted_dist.services.listening import ListeningService, reachable_host, running_reactor
from twisted_dist.services.logbook import LogBook
from twisted_dist.services.members import Members
from twisted_dist.services.views import VIEWS
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import Responder
from twisted_dist.wire.membership import Insecure
from twisted_dist.wire.relay import Relays
from twisted_dist.wire.scheduler_end import ClientEnd, WorkerEnd

_FOR_CLIENTS: Final = (i.ReportFinished, i.ReportErred, i.ReportLocations, i.Reply, i.EndClient)


class Scheduler(ListeningService):
    """Where workers register and clients submit.

    Args:
        reactor: the reactor to live in; the installed one by default.
        loop: alias of *reactor*, for code of 2016.
        host: address to listen on and to be known by; by default every interface, known
            by the address that other hosts reach.
        lease_s: seconds without a heartbeat until a worker is given up.
        home: directory of the files that say who may enter; the user's by default.
        insecure: no TLS, and everything is allowed to whoever comes.
        network: its key and who was given one, rather than what *home* has; its files are in
            *home* while the scheduler lives.
        chance: draws what names this life and its members; the system's by default.

    Several may live in one process. As an `IService` it starts on *port*.
    """

    kind = "scheduler"

    def __init__(
        self,
        reactor: Any = None,
        loop: Any = None,
        host: str | None = None,
        port: int = DEFAULT_PORT,
        lease_s: float = LEASE_S,
        home: Path | None = None,
        insecure: bool = False,
        network: Network | None = None,
        chance: Random | None = None,
    ) -> None:
        chosen = running_reactor(reactor, loop)
        self.reactor = chosen
        self._authority = (
            None
            if insecure
            else NetworkAuthority(Home(home), chosen, self._keys_changed, given=network)
        )
        # in microseconds, so that no life of a scheduler repeats another's tokens
        self.core = SchedulerCore(lease_s, first_token=int(chosen.seconds() * 1e6))
        #: what workers say that the core need not know
        beside = {schema.OUTPUT.number: self._note_output}
        self._members = Members(self, beside, chance)
        super().__init__(chosen, host, self._authority or Insecure())
        self.port = port
        self._relays = Relays(chosen, secrets.token_bytes)
        self._log_book = LogBook()
        #: asks for a call when all that came in together was handled; True if there is more
        self._after_turn: Callable[[Callable[[], None]], bool] = getattr(
            chosen, "call_after_turn", _is_alone
        )
        #: whether facts were taken in that nothing was decided about yet
        self._undecided = False
        self._is_concluding = False
        self._timer: Any = None
        #: the instant that the timer is for
        self._due = 0.0

    # -- life

    def start(self, port: int | None = None) -> defer.Deferred[str]:
        """Listen; fires with the address, ``ip:port``. Port 0 takes any free one.

        Fails with `twisted.internet.error.CannotListenError` where the port is taken, and
        with AccessError where the files that say who may enter cannot be read or written.
        """
        return defer.Deferred.fromCoroutine(self._start(self.port if port is None else port))

    async def _start(self, port: int) -> str:
        host = self.host or reachable_host()
        known = self.bound_port(port)
        try:
            if self._authority is not None and known:
                # before anybody can come: who finds somebody here finds the access too
                self._authority.open(f"{host}:{known}", passing=not port)
            taken = await self.start_listening(port)
            self.address = f"{host}:{taken}"
            if self._authority is not None and not known:
                self._authority.open(self.address, passing=True)
        except BaseException:
            if self._authority is not None:
                self._authority.close()
            raise
        self._members.begin()
        return self.address

    async def stop_work(self) -> None:
        """Forget the timer, end the sessions and relays; connections are ended by the caller."""
        self._members.close(returns=self.returns)
        self._relays.close()
        if self._authority is not None:
            self._authority.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- control

    def responders(self) -> dict[type, Responder]:
        """Adds registration and the views to what every daemon answers."""
        return {
            **super().responders(),
            **self._members.responders(),
            commands.OpenRelay: Responder(self._open_relay, MAY_MOVE_DATA),
            commands.JoinRelay: Responder(
                lambda proto, ticket: self._relays.join(ticket), MAY_WORK
            ),
            commands.Explain: Responder(
                lambda proto, key: {"result": self.query("explain", key)}, MAY_LOOK
            ),
            commands.Query: Responder(
                lambda proto, what, arguments: {"result": self.query(what, arguments)}, MAY_LOOK
            ),
        }

    def identity(self) -> dict[str, Any]:
        """What `rpc(…).identity()` answers."""
        state = self.core.state
        return {
            **super().identity(),
            "workers": len(state.workers),
            "clients": len(state.clients),
            "tasks": len(state.tasks),
            "nthreads": sum(w.nthreads for w in state.workers.values()),
        }

    def query(self, what: str, arguments: Any) -> Any:
        """A view by name (`services.views`), or the certificates that count."""
        if what == "keys":
            return self.keys() or {}
        self.core.catch_up()
        self.core.state.now = self.reactor.seconds()
        view = VIEWS.get(what)
        if view is None:
            raise RefusedError(f"no such view: {what[:40]!r}; there are {', '.join(sorted(VIEWS))}")
        if what == "info":
            seen = view(self.core.state, arguments)
            for address, worker in seen["workers"].items():
                worker["relayed"] = self._relays.count(address)
            return {**self.identity(), **seen}
        return view(self.core.state, arguments)

    def keys(self) -> Mapping[bytes, str] | None:
        """The certificates that count, with their roles; None without TLS."""
        return None if self._authority is None else self._authority.keys()

    def seal(self, what: bytes) -> bytes:
        """What only a scheduler of this network can say; anybody can without TLS."""
        return (
            hashlib.sha256(what).digest() if self._authority is None else self._authority.seal(what)
        )

    def answer_client(self, what: str, arguments: Any) -> Any:
        """A view, or what tasks have written: as results, that is for who may submit."""
        return self._log_book.answer(arguments) if what == "logs" else self.query(what, arguments)

    def _note_output(self, number: int, fields: dict[str, Any]) -> None:
        """A worker tells what its tasks have written."""
        state = self.core.state
        worker = state.workers.get(number)
        if worker is None:
            return
        tasks = ((each, state.tasks.get(each)) for each in fields["ids"])
        key_of = self._members.errands.key_of
        keys = [task.name if task is not None else key_of(number) for number, task in tasks]
        pieces = zip(keys, fields["streams"], fields["texts"])
        self._log_book.note(self.reactor.seconds(), worker.name, pieces, fields["left_out"])

    def _open_relay(self, proto: Any, name: str, address: str) -> Any:
        """Somebody cannot dial a worker: that one is asked to come here, and both are joined."""
        known = self.core.state.workers.values()
        number = next((each.id for each in known if each.address == address), None)
        end = None if number is None else self._members.workers.get(number)
        if end is None:
            raise RefusedError(f"no worker is registered at {address[:100]!r}")
        who = repr(name[:40]) if name else "a client"
        asker = f"{who} at {getattr(proto.transport.getPeer(), 'host', '?')}"
        relay = self._relays.open(asker, address)
        proto.when_lost.append(relay.asker_gone)
        end.send(schema.RELAY.pack(relay.ticket, asker))
        end.session.flush()
        return relay.answer

    def _keys_changed(self) -> None:
        """Credentials were given, revoked or have expired: whoever they were, all are told."""
        assert self._authority is not None
        self._factory.end_unwelcome()
        self._members.tell_keys()

    # -- the core

    def stimulate(self, stimulus: s.Stimulus) -> None:
        """Give the core a fact and do what it says, soon."""
        self.take(stimulus)
        self.turned()

    def take(self, stimulus: s.Stimulus) -> None:
        """Give the core a fact; what it leads to is decided when the stream's turn ends."""
        self.core.take(stimulus, self.reactor.seconds())
        self._undecided = True

    def turned(self) -> None:
        """A peer's turn has ended: decide now, or with what others say in the same turn."""
        if not self._is_concluding and not self._after_turn(self._conclude):
            self._conclude()

    def _conclude(self) -> None:
        """Decide about all that came in, and write it: once for each peer.

        Then see to the timer, which nobody waits for.
        """
        self._is_concluding = True
        try:
            while self._undecided:  # doing it may lead to facts: a connection that is ended
                self._undecided = False
                self._execute(self.core.decide())
        finally:
            self._is_concluding = False
        self._rearm()

    def _execute(self, instructions: list[i.Instruction]) -> None:
        touched: dict[WorkerEnd | ClientEnd, None] = {}
        for each in instructions:
            end: Any
            if isinstance(each, i.Log):
                (self.log.warn if each.is_warning else self.log.info)("{text}", text=each.text)
                continue
            if isinstance(each, _FOR_CLIENTS):
                end = self._members.clients.get(each.client)
            else:
                end = self._members.workers.get(each.worker)
            if end is not None:
                end.execute(each)
                touched[end] = None
        for end in touched:
            end.session.flush()

    def _rearm(self) -> None:
        """See that the timer is set early enough; one that is early finds nothing to do."""
        deadline = self.core.next_deadline()
        if deadline is None or self._stopping is not None:
            return
        if self._timer is not None:
            if self._due <= deadline:  # what the timer itself says is later by its making
                return
            self._timer.cancel()
        self._due = deadline
        delay = max(0.0, deadline - self.reactor.seconds())
        self._timer = self.reactor.callLater(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._members.notice_stall()
        self._execute(self.core.expire(self.reactor.seconds()))
        self._conclude()


def _is_alone(function: Callable[[], None]) -> bool:
    """What reactors of others know of their turns: nothing."""
    return False
