"""`Worker`: the worker's machine with a network, a store and an executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import psutil
from twisted.internet import defer
from twisted.python.failure import Failure

from twisted_dist.access.find import GivenAccess
from twisted_dist.access.roles import MAY_MOVE_DATA, WORKER
from twisted_dist.address import parse_address
from twisted_dist.aliases import TaskId
from twisted_dist.core.options import as_amounts
from twisted_dist.core.worker_side import messages as m
from twisted_dist.core.worker_side.machine import INLINE_BYTES, WorkerCore
from twisted_dist.errors import ConnectError
from twisted_dist.execution.errand_rules import METRIC
from twisted_dist.segments.probe import KEEPING, tidy
from twisted_dist.services.executor import Executor, ThreadExecutor
from twisted_dist.services.holder import Holder
from twisted_dist.services.lifetime import HANDOVER_S, Lifespan, Lifetime, as_seconds
from twisted_dist.services.listening import (
    PATIENCE_S,
    ListeningService,
    host_towards,
    running_reactor,
)
from twisted_dist.services.memory import own_bytes
from twisted_dist.services.outputs import Outputs
from twisted_dist.services.passes import Passes
from twisted_dist.services.receiver import FOR_RECEIVER, Receiver
from twisted_dist.services.solitude import Solitude
from twisted_dist.services.store import Store
from twisted_dist.services.worker_errands import FOR_ERRANDS, WorkerErrands
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import Responder
from twisted_dist.wire.dial import Dialled
from twisted_dist.wire.joining import Joiner
from twisted_dist.wire.link import SchedulerLink
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.pool import DataPool
from twisted_dist.wire.session import StreamSession
from twisted_dist.wire.worker_end import FACTS, FROM_SCHEDULER, REPORTS


class Worker(ListeningService):
    """Registers with a scheduler and runs its tasks, in threads of this process.

    Args:
        scheduler: its host, or ``host:port``.
        scheduler_port: its port, when *scheduler* is a host alone.
        reactor: the reactor to live in; the installed one by default.
        loop: alias of *reactor*, for code of 2016.
        nthreads: tasks at a time; by default one for each core.
        name: an alias that ``workers=`` understands; must be unique.
        resources: ``{name: amount}`` that tasks may ask for with ``resources=``.
        host: address to listen on and to be known by; by default the one from which the
            scheduler is reached.
        access: an `Access`, the path of an access file, or a join string; by default looked
            for in the environment and in the user's home.
        insecure: the scheduler is so too: no TLS, and everything is allowed to whoever comes.
        lifetime: after which it leaves gracefully: seconds, ``"12h"``, …; 0 for never.
        lifetime_stagger: by up to so much earlier or later, as *chance* draws.
        lifetime_restart: it then begins anew.
        death_timeout: without a scheduler for so long, or never having reached one, it ends and
            `done` fires; `start` then fails with ConnectError. Seconds or ``"5 min"``; by
            default never: when it is to end is its owner's to say.
        chance: a `random.Random`; draws also when a lost scheduler is dialled again.

    Use `Nanny` (`services.nanny`) where the code is not trusted to leave its process alone.
    """

    kind = "worker"

    def __init__(
        self,
        scheduler: str,
        scheduler_port: int | None = None,
        reactor: Any = None,
        loop: Any = None,
        nthreads: int | None = None,
        name: str = "",
        host: str | None = None,
        port: int = 0,
        access: GivenAccess = None,
        insecure: bool = False,
        resources: Mapping[str, float] | None = None,
        lifetime: float | str = 0,
        lifetime_stagger: float | str = 0,
        lifetime_restart: bool = False,
        death_timeout: float | str | None = None,
        chance: Random | None = None,
    ) -> None:
        self._membership = Membership(access, insecure, (WORKER,))
        super().__init__(running_reactor(reactor, loop), host, self._membership)
        self.scheduler = f"{scheduler}:{scheduler_port}" if scheduler_port else scheduler
        parse_address(self.scheduler)
        self.nthreads = nthreads or psutil.cpu_count() or 1
        self.name = name
        self.resources = as_amounts(resources or {})
        self.port = port
        draw = chance or Random()
        span = Lifespan.of(lifetime, lifetime_stagger, lifetime_restart)
        patience_s = as_seconds(death_timeout or 0)
        solitude = Solitude(self.reactor, patience_s, self.scheduler, self._leave)
        ends = self._end_by_command, self._restart
        self._lifetime = Lifetime(self.reactor, span, *ends, draw, solitude)
        self.core = WorkerCore()
        #: what the scheduler knows it by, since it registered last
        self._number = 0
        self.registered: Callable[[Worker], None] = lambda worker: None
        self._store = self._make_store()
        self._executor: Executor = self._make_executor()
        self._executor.tell = self._told
        self._executor.gave_up = self._leave
        self._outputs = Outputs(self.reactor, lambda *said: self._say(schema.OUTPUT.pack(*said)))
        self._executor.output = self._outputs.add
        self._uploads = Receiver(
            self._executor, self._say, lambda task: self.core.tasks.get(task.id) is task
        )
        #: told why, when this worker leaves since it can run no tasks
        self.left: Callable[[str], None] = lambda why: self.log.error(
            "{name} leaves: {why}", name=self.name or self.address, why=why
        )
        self._passes = Passes(self.reactor, self._membership, self.scheduler)
        self._executor.get_pass = self._passes.get
        peers = DataPool(self.reactor, name or "worker", self._membership, self.scheduler)
        self._holder = Holder(self._store, peers, self._put)
        self._errands = WorkerErrands(
            self._executor.errands, self._say, self._holder.store_here, self._outputs.tell
        )
        self._joiner = Joiner(self.reactor, self._membership, self.scheduler, self._holder.open)
        self._link = SchedulerLink(
            self.reactor,
            self.scheduler,
            self.kind,
            self._membership,
            draw,
            FROM_SCHEDULER,
            self._register,
            self._received,
            self._heartbeat,
            self._scheduler_gone,
            self._refused,
            self._lifetime.cut,
        )
        self._passes.link = self._link
        self._first: defer.Deferred[str] | None = None
        #: the scheduler has been told all that is here, and is told what changes
        self._is_known = False
        #: memory is kept for later values, here
        self._is_keeping = False
        #: the executor starts anew: there is no scheduler until that is done
        self._is_restarting = False

    def _make_store(self) -> Store:
        return Store(self.reactor)

    def _make_executor(self) -> Executor:
        return ThreadExecutor(self.reactor, self.nthreads)

    # -- life

    def start(self, port: int | None = None) -> defer.Deferred[str]:
        """Listen and register; fires with the address once the scheduler accepted it.

        A scheduler that is not there yet is waited for. Fails with CannotListenError
        where the port is taken, with RefusedError where the scheduler says no, and with
        AccessError where a scheduler is there and no access for it here.
        """
        return defer.Deferred.fromCoroutine(self._start(self.port if port is None else port))

    async def listen(self, port: int) -> str:
        """The first half of `start`: the address, before registration."""
        taken = await self.start_listening(port)
        host = self.host or await host_towards(self.reactor, self.scheduler)
        self.address = f"{host}:{taken}"
        return self.address

    async def _start(self, port: int) -> str:
        if not self.address:
            await self.listen(port)
        await defer.maybeDeferred(self._executor.start)
        self._first = defer.Deferred()
        self._lifetime.begin()
        self._is_keeping = True
        KEEPING.begin()
        self._link.dial()
        return await self._first

    async def stop_work(self) -> None:
        """Leave the scheduler, end the executor, close all data connections."""
        self._lifetime.close()
        leaving = self._link.leave("this worker is stopping", PATIENCE_S)
        if self._is_keeping:
            self._is_keeping = False
            KEEPING.end()
        self._holder.peers.close()
        self._joiner.close()
        await defer.maybeDeferred(self._executor.stop)
        await self._store.close()
        self._outputs.tell()
        await leaving
        if self._first is not None:
            first, self._first = self._first, None
            first.errback(ConnectError(f"stopped before {self.scheduler} was reached"))

    # -- registration

    async def _register(self, proto: Dialled, session: StreamSession, timeout_s: float) -> None:
        earlier = self._link.earlier()
        earlier["generation"] = max(earlier["generation"], self.core.generation)
        await proto.switch(
            commands.RegisterWorker,
            session.first_stream(),
            timeout_s,
            address=self.address,
            name=self.name,
            nthreads=self.nthreads,
            resources=self.resources,
            **earlier,
        )

    def _refused(self, failure: Failure) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            first.errback(failure)

    def _welcomed(self, index: int, info: Any) -> None:
        returns = bool(self._link.life)
        self._number = index
        self._link.welcomed(info["session"], info["life"])
        self._lifetime.stream = self._link.session
        self._is_known = True
        self._execute(self.core.claims() if returns else self.core.report_held())
        self.registered(self)
        if self._first is not None:
            first, self._first = self._first, None
            first.callback(self.address)

    def _scheduler_gone(self, reason: str, may_return: bool) -> None:
        self._lifetime.stream = None
        self._is_known = False
        self._passes.lost(reason)
        self._errands.lose()
        if self._stopping is not None:
            return
        note = self.log.info if self._is_restarting else self.log.warn
        note("lost the scheduler at {s}: {why}", s=self.scheduler, why=reason)
        if may_return and not self._is_restarting:
            self._uploads.lose()
        else:
            self._execute(self.core.reset())
        if not may_return:  # the network was ended: another scheduler's is another
            self._uploads.forget()
            self._link.life = b""
        if self._lifetime.is_over:
            self._lifetime.may_end()  # and not come back
        elif not self._is_restarting:
            self._link.dial()

    def retire(self, timeout_s: float = HANDOVER_S, waits: bool = True) -> None:
        """Leave gracefully, within so many seconds, and end; `done` fires then.

        Unless it *waits*, results that no worker is there to take are left to be made again.
        """
        self._lifetime.leave(timeout_s, waits=waits)

    def _leave(self, why: str) -> None:
        """There is no hope of running tasks here: others shall have them."""
        self.left(why)
        self._end_by_command()

    def _restart(self) -> None:
        """Start the executor anew, and register when that is done: nothing of before is left."""
        if self._is_restarting:
            return
        self._is_restarting = True
        self._uploads.forget()
        self._is_known = False
        self._execute(self.core.reset())
        self._link.end("this worker starts anew")
        restarted = defer.maybeDeferred(self._executor.restart)
        restarted.addErrback(lambda f: self.log.failure("restarting failed", failure=f))
        restarted.addCallback(lambda _: self._restarted())

    def _restarted(self) -> None:
        self._is_restarting = False
        if self._stopping is None and self._link.session is None:
            self._link.dial()

    def _heartbeat(self) -> None:
        tidy()
        self._link.send(schema.HEARTBEAT.pack(self.metrics()))

    def _say(self, payload: bytes) -> None:
        self._link.send(payload)
        self._link.flush()

    def metrics(self) -> dict[str, float]:
        """What a heartbeat carries: bytes of this process, values held, tasks under way."""
        used = own_bytes() + self._executor.rss + self._store.memory
        counts = {"held": len(self.core.held), "tasks": len(self.core.tasks)}
        return {"rss": used, **counts, "disk": self._store.disk, METRIC: len(self._errands)}

    # -- control

    def responders(self) -> dict[type, Responder]:
        """Adds data connections to what every daemon answers."""
        data = Responder(lambda proto, name: self._holder.open(), MAY_MOVE_DATA)
        return {**super().responders(), commands.OpenData: data}

    def _put(self, fact: m.DataPut) -> int:
        self._stimulate(fact)
        self._note_held()
        return self._number

    def identity(self) -> dict[str, Any]:
        """What `rpc(…).identity()` answers."""
        return {
            **super().identity(),
            "name": self.name or self.address,
            "nthreads": self.nthreads,
            "scheduler": self.scheduler,
            "held": len(self.core.held),
            "tasks": len(self.core.tasks),
            "relayed": len(self._joiner),
        }

    # -- the core

    def _received(self, number: int, fields: dict[str, Any]) -> None:
        fact = FACTS.get(number)
        if fact is not None:
            self._stimulate(fact(**fields))
        elif number == schema.PASS.number:
            self._passes.answered(**fields)
        elif number == schema.RELAY.number:
            self._joiner.join(**fields)
        elif number in FOR_RECEIVER:
            self._uploads.received(number, fields)
        elif number in FOR_ERRANDS:
            self._errands.received(number, fields)
        elif number == schema.LEAVE.number:
            self._lifetime.may_end()
        elif number == schema.RESTART.number:
            (self._lifetime.may_end if self._lifetime.is_over else self._restart)()
        elif number == schema.GIVE_FUNCTION.number:
            self._executor.add_function(fields["digest"], fields["blob"])
        elif number == schema.PEERS.number:
            self._link.learn_peers(**fields)
        elif number == schema.KEYS.number:
            self._membership.learn(fields["keys"])
            self._factory.end_unwelcome()
        else:
            self._welcomed(**fields)

    def _told(self, fact: object) -> None:
        """By the executor."""
        self._stimulate(fact)

    def _note_held(self) -> None:
        """There is more in the store than there was."""

    def _stimulate(self, fact: object) -> None:
        self._execute(self.core.handle(fact))

    def _execute(self, instructions: list[object]) -> None:
        self._outputs.tell()
        for each in instructions:
            schema_of = REPORTS.get(type(each))
            if schema_of is not None:
                if self._is_known:  # else it is told with all that is here
                    self._link.send_all(schema_of.encode(each))
            elif isinstance(each, m.Execute):
                self._uploads.run(each.tasks, self._store)
            elif isinstance(each, m.Keep):
                self._store.update(each.ids, each.values, each.nbytes)
                if max(each.nbytes) > INLINE_BYTES:  # what is small is seen when it is measured
                    self._note_held()
            elif isinstance(each, m.Discard):
                self._store.discard(each.ids)
            elif isinstance(each, m.Fetch):
                fetch = defer.Deferred.fromCoroutine(self._fetch(each.address, each.ids))
                fetch.addErrback(lambda f: self.log.failure("fetching failed", failure=f))
            elif isinstance(each, m.DropExecution):
                self._uploads.drop(each.ids)
            elif isinstance(each, m.StopExecution):
                self._uploads.stop_tasks(each.ids, each.attempts)
        self._link.flush()

    async def _fetch(self, address: str, ids: list[TaskId]) -> None:
        values = await self._holder.fetch(address, ids)
        if self._stopping is None:
            self._stimulate(self._holder.keep_fetched(address, ids, values))
            self._note_held()
