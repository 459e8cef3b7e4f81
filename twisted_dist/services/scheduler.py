"""`Scheduler`: the scheduling core on a listening port."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet import defer

from twisted_dist.access.home import Home
from twisted_dist.access.roles import ADMIN, MAY_LOOK, MAY_MOVE_DATA, MAY_SUBMIT, MAY_WORK
from twisted_dist.address import DEFAULT_PORT
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.scheduler import LEASE_S, SchedulerCore
from twisted_dist.errors import RefusedError
from twisted_dist.services.authority import NetworkAuthority
from twisted_dist.services.listening import ListeningService, reachable_host, running_reactor
from twisted_dist.services.logbook import LogBook
from twisted_dist.services.shelf import Shelf
from twisted_dist.services.tickets import Tickets
from twisted_dist.services.views import VIEWS
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import Responder
from twisted_dist.wire.kinds import is_amounts
from twisted_dist.wire.membership import Insecure
from twisted_dist.wire.relay import Relays
from twisted_dist.wire.scheduler_end import ClientEnd, WorkerEnd


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
    ) -> None:
        chosen = running_reactor(reactor, loop)
        self._authority = (
            None if insecure else NetworkAuthority(Home(home), chosen, self._keys_changed)
        )
        super().__init__(chosen, host, self._authority or Insecure())
        self.port = port
        # in microseconds, so that no life of a scheduler repeats another's tokens
        self.core = SchedulerCore(lease_s, first_token=int(chosen.seconds() * 1e6))
        self._tickets = Tickets(chosen, self.core.state)
        self._relays = Relays(chosen, secrets.token_bytes)
        self._log_book = LogBook()
        self._shelf = Shelf(chosen, self._tell_worker, self._reply, self._name_of)
        #: what workers say that the core need not know
        self._beside = {
            schema.OUTPUT.number: self._note_output,
            schema.UPLOAD_WANTED.number: self._shelf.piece_wanted,
            schema.UPLOADED.number: self._shelf.uploaded,
        }
        self._numbers = count(1)
        self._workers: dict[int, WorkerEnd] = {}
        self._clients: dict[int, ClientEnd] = {}
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
        return self.address

    async def stop_work(self) -> None:
        """Forget the timer, end the relays; connections are ended by the caller."""
        self._shelf.close()
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
            commands.RegisterWorker: Responder(self._register_worker, MAY_WORK),
            commands.RegisterClient: Responder(self._register_client, MAY_SUBMIT),
            commands.RegisterTask: Responder(self._register_task, MAY_WORK),
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
            return {} if self._authority is None else self._authority.keys()
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

    def _answer_client(self, what: str, arguments: Any) -> Any:
        """A view, or what tasks have written: as results, that is for who may submit."""
        return self._log_book.answer(arguments) if what == "logs" else self.query(what, arguments)

    def _register_worker(
        self, proto: Any, address: str, name: str, nthreads: int, resources: Any
    ) -> Any:
        if nthreads < 1:
            raise RefusedError(f"a worker needs one thread at least, not {nthreads}")
        if not is_amounts(resources):
            raise RefusedError("resources that are not names with amounts")
        known = self.core.state.workers.values()
        if name and any(each.name == name and each.address != address for each in known):
            raise RefusedError(
                f"another worker is named {name[:40]!r}: give this one another --name"
            )
        number = next(self._numbers)
        end = WorkerEnd(
            number,
            self._take,
            self._worker_gone,
            self._turned,
            self._tickets.give,
            self._beside,
        )
        self._workers[number] = end
        self._welcome(end)
        self._shelf.worker_joined(number)
        self.stimulate(s.WorkerJoined(number, address, name or address, nthreads, resources))
        return end.protocol

    def _note_output(self, number: int, fields: dict[str, Any]) -> None:
        """A worker tells what its tasks have written."""
        state = self.core.state
        worker = state.workers.get(number)
        if worker is None:
            return
        tasks = map(state.tasks.get, fields["ids"])
        keys = [task.name if task is not None else "" for task in tasks]
        pieces = zip(keys, fields["streams"], fields["texts"])
        self._log_book.note(self.reactor.seconds(), worker.name, pieces, fields["left_out"])

    def _tell_worker(self, number: int, payload: bytes) -> None:
        end = self._workers.get(number)
        if end is not None:
            end.send(payload)
            end.protocol.flush()

    def _reply(self, client: int, request: int, error: str, result: Any) -> None:
        end = self._clients.get(client)
        if end is not None:
            end.send(schema.ANSWER.pack(request, error, result))
            end.protocol.flush()

    def _name_of(self, number: int) -> str:
        worker = self.core.state.workers.get(number)
        return worker.name if worker is not None else f"worker {number}"

    def _register_task(self, proto: Any, name: str, ticket: bytes) -> Any:
        self._tickets.take(ticket)
        return self._add_client(name, is_admin=False)

    def _register_client(self, proto: Any, name: str) -> Any:
        return self._add_client(name, self._authority is None or proto.role == ADMIN)

    def _open_relay(self, proto: Any, name: str, address: str) -> Any:
        """Somebody cannot dial a worker: that one is asked to come here, and both are joined."""
        known = self.core.state.workers.values()
        number = next((each.id for each in known if each.address == address), None)
        end = None if number is None else self._workers.get(number)
        if end is None:
            raise RefusedError(f"no worker is registered at {address[:100]!r}")
        who = repr(name[:40]) if name else "a client"
        asker = f"{who} at {getattr(proto.transport.getPeer(), 'host', '?')}"
        relay = self._relays.open(asker, address)
        proto.when_lost.append(relay.asker_gone)
        end.send(schema.RELAY.pack(relay.ticket, asker))
        end.protocol.flush()
        return relay.answer

    def _add_client(self, name: str, is_admin: bool) -> Any:
        number = next(self._numbers)
        end = ClientEnd(
            number,
            self._take,
            self._answer_client,
            self._client_gone,
            self._turned,
            is_admin,
            self._shelf.asked,
        )
        self._clients[number] = end
        self._welcome(end)
        self.stimulate(s.ClientJoined(number, name))
        return end.protocol

    def _welcome(self, end: WorkerEnd | ClientEnd) -> None:
        if self._authority is not None:
            end.send(schema.KEYS.pack(self._authority.keys()))
        end.send(schema.WELCOME.pack(end.number, {"scheduler": self.address}))

    def _keys_changed(self) -> None:
        """Credentials were given, revoked or have expired: whoever they were, all are told."""
        assert self._authority is not None
        self._factory.end_unwelcome()
        keys = schema.KEYS.pack(self._authority.keys())
        ends: list[WorkerEnd | ClientEnd] = [*self._workers.values(), *self._clients.values()]
        for end in ends:
            end.send(keys)
            end.protocol.flush()

    def _worker_gone(self, number: int, reason: str) -> None:
        del self._workers[number]
        self._shelf.worker_gone(number)
        self.stimulate(s.WorkerLost(number, reason))

    def _client_gone(self, number: int, reason: str) -> None:
        del self._clients[number]
        self._shelf.client_gone(number)
        self.stimulate(s.ClientLost(number))

    # -- the core

    def stimulate(self, stimulus: s.Stimulus) -> None:
        """Give the core a fact and do what it says, soon."""
        self._take(stimulus)
        self._turned()

    def _take(self, stimulus: s.Stimulus) -> None:
        """Give the core a fact; what it leads to is decided when the stream's turn ends."""
        self.core.take(stimulus, self.reactor.seconds())
        self._undecided = True

    def _turned(self) -> None:
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
            if isinstance(each, (i.ReportFinished, i.ReportErred, i.ReportLocations, i.Reply)):
                end = self._clients.get(each.client)
            else:
                end = self._workers.get(each.worker)
            if end is not None:
                end.execute(each)
                touched[end] = None
        for end in touched:
            end.protocol.flush()

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
        self._execute(self.core.expire(self.reactor.seconds()))
        self._conclude()


def _is_alone(function: Callable[[], None]) -> bool:
    """What reactors of others know of their turns: nothing."""
    return False
