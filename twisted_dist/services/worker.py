"""`Worker`: the worker's machine with a network, a store and an executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import psutil
from twisted.internet import defer, task
from twisted.python.failure import Failure

from twisted_dist.access.find import GivenAccess
from twisted_dist.access.roles import MAY_MOVE_DATA, WORKER
from twisted_dist.address import parse_address
from twisted_dist.aliases import TaskId
from twisted_dist.core.options import as_amounts
from twisted_dist.core.worker_side import messages as m
from twisted_dist.core.worker_side.machine import WorkerCore
from twisted_dist.errors import AccessError, ConnectError, RefusedError
from twisted_dist.segments.probe import KEEPING, tidy
from twisted_dist.services.executor import Executor, ThreadExecutor
from twisted_dist.services.holder import Holder
from twisted_dist.services.listening import ListeningService, reachable_host, running_reactor
from twisted_dist.services.outputs import Outputs
from twisted_dist.services.passes import Passes
from twisted_dist.services.store import Store
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import Responder
from twisted_dist.wire.dial import DIAL_S, Dialled
from twisted_dist.wire.entering import enter
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.pool import DataPool
from twisted_dist.wire.stream import StreamProtocol
from twisted_dist.wire.worker_end import FROM_SCHEDULER, REPORTS

#: seconds between heartbeats; a twelfth of the lease
HEARTBEAT_S: Final = 5.0
#: seconds until a scheduler that is not there is dialled again, at first and at most
FIRST_RETRY_S: Final = 0.1
MOST_RETRY_S: Final = 5.0


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
    ) -> None:
        self._membership = Membership(access, insecure, (WORKER,))
        super().__init__(running_reactor(reactor, loop), host, self._membership)
        self.scheduler = f"{scheduler}:{scheduler_port}" if scheduler_port else scheduler
        parse_address(self.scheduler)
        self.nthreads = nthreads or psutil.cpu_count() or 1
        self.name = name
        self.resources = as_amounts(resources or {})
        self.port = port
        self.core = WorkerCore()
        #: what the scheduler knows it by, since it registered last
        self._number = 0
        self.registered: Callable[[Worker], None] = lambda worker: None
        self._store = self._make_store()
        self._stream: StreamProtocol | None = None
        self._executor: Executor = self._make_executor()
        self._executor.tell = self._told
        self._executor.gave_up = self._leave
        self._outputs = Outputs(self.reactor, self._send_output)
        self._executor.output = self._outputs.add
        #: told why, when this worker leaves since it can run no tasks
        self.left: Callable[[str], None] = lambda why: None
        self._passes = Passes(self.reactor, self._membership, self.scheduler)
        self._executor.get_pass = self._passes.get
        peers = DataPool(self.reactor, name or "worker", self._membership)
        self._holder = Holder(self._store, peers, self._put)
        self._beat = task.LoopingCall(self._heartbeat)
        self._beat.clock = self.reactor
        self._dialling: defer.Deferred[None] | None = None
        self._first: defer.Deferred[str] | None = None
        self._restarting: defer.Deferred[None] | None = None

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
        self.address = f"{self.host or reachable_host(await self._scheduler_ip())}:{taken}"
        return self.address

    async def _scheduler_ip(self) -> tuple[str, int] | None:
        """Where the scheduler is, as numbers; None while its name is not known."""
        host, port = parse_address(self.scheduler)
        try:
            return await self.reactor.resolve(host), port
        except Exception:  # whatever the resolver says; dialling will say it again
            return None

    async def _start(self, port: int) -> str:
        if not self.address:
            await self.listen(port)
        await defer.maybeDeferred(self._executor.start)
        self._first = defer.Deferred()
        self._dial()
        return await self._first

    def startService(self) -> None:
        """Start as part of an application."""
        super().startService()
        self.start().addErrback(self._start_failed)

    def _start_failed(self, failure: Failure) -> None:
        if self._stopping is None:
            self.log.error("cannot start: {why}", why=failure.getErrorMessage())

    def stopService(self) -> defer.Deferred[None]:
        """Stop as part of an application."""
        super().stopService()
        return self.stop()

    async def stop_work(self) -> None:
        """Leave the scheduler, end the executor, close all data connections."""
        if self._beat.running:
            self._beat.stop()
        if self._dialling is not None:
            self._dialling.cancel()
        if self._stream is not None:
            self._stream.end("this worker is stopping")
        self._holder.peers.close()
        await defer.maybeDeferred(self._executor.stop)
        await self._store.close()
        self._outputs.tell()
        if self._first is not None:
            first, self._first = self._first, None
            first.errback(ConnectError(f"stopped before {self.scheduler} was reached"))

    # -- registration

    def _dial(self) -> None:
        self._dialling = defer.Deferred.fromCoroutine(self._register())
        self._dialling.addErrback(self._dial_failed)

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        if failure.check(defer.CancelledError):
            return  # by stop_work
        if self._first is not None:
            first, self._first = self._first, None
            first.errback(failure)
        else:
            self.log.failure("cannot register with {s}", failure=failure, s=self.scheduler)

    async def _register(self) -> None:
        delay = FIRST_RETRY_S
        told = False
        while True:
            try:
                proto = await enter(self.reactor, self.scheduler, self.kind, self._membership)
                await self._switch(proto)
            except ConnectError as problem:
                if not told:
                    told = True
                    self.log.warn("waiting for {s}: {why}", s=self.scheduler, why=problem)
            except (RefusedError, AccessError) as problem:
                if self._first is not None:
                    raise
                # it was welcome once: whoever has its name now may go again, and a scheduler
                # that was set up anew may leave its access where it was
                self.log.error("cannot register: {why}", why=problem)
                self._membership.forget()
                delay = MOST_RETRY_S
            else:
                break
            await task.deferLater(self.reactor, delay)
            delay = min(delay * 2, MOST_RETRY_S)
        self._dialling = None

    async def _switch(self, proto: Dialled) -> None:
        stream = StreamProtocol(FROM_SCHEDULER, self._received, self._scheduler_gone)
        self._stream = stream
        self._passes.stream = stream
        try:
            await proto.switch(
                commands.RegisterWorker,
                stream,
                DIAL_S,
                address=self.address,
                name=self.name,
                nthreads=self.nthreads,
                resources=self.resources,
            )
        except BaseException:
            self._stream = None
            raise

    def _welcomed(self) -> None:
        if not self._beat.running:
            KEEPING.begin()
            ended = self._beat.start(HEARTBEAT_S)
            ended.addErrback(lambda f: self.log.failure("heartbeat failed", failure=f))
            ended.addCallback(lambda _: KEEPING.end())
        self._execute(self.core.report_held())
        self.registered(self)
        if self._first is not None:
            first, self._first = self._first, None
            first.callback(self.address)

    def _scheduler_gone(self, reason: str) -> None:
        self._stream = None
        self._passes.lost(reason)
        if self._beat.running:
            self._beat.stop()
        if self._stopping is not None:
            return
        self.log.warn("lost the scheduler at {s}: {why}", s=self.scheduler, why=reason)
        self._execute(self.core.reset())
        if self._restarting is None:
            self._dial()

    def _leave(self, why: str) -> None:
        """There is no hope of running tasks here: others shall have them."""
        self.log.error("{name} leaves: {why}", name=self.name or self.address, why=why)
        self.left(why)
        self._end_by_command()

    def _restart(self) -> None:
        """Start the executor anew, and register when it is ready: nothing of before is left."""
        self._restarting = defer.maybeDeferred(self._executor.restart)
        self._restarting.addErrback(lambda f: self.log.failure("restarting failed", failure=f))
        self._restarting.addCallback(lambda _: self._restarted())
        if self._stream is not None:
            self._stream.end("this worker starts anew")

    def _restarted(self) -> None:
        self._restarting = None
        if self._stopping is None and self._stream is None:
            self._dial()

    def _send_output(
        self, ids: list[TaskId], streams: list[int], texts: list[str], left_out: int
    ) -> None:
        if self._stream is not None:
            self._stream.send(schema.OUTPUT.pack(ids, streams, texts, left_out))
            self._stream.flush()

    def _heartbeat(self) -> None:
        tidy()
        if self._stream is not None:
            self._stream.send(schema.HEARTBEAT.pack(self.metrics()))
            self._stream.flush()

    def metrics(self) -> dict[str, float]:
        """What a heartbeat carries: bytes of this process, values held, tasks under way."""
        about = psutil.Process().memory_info()
        used = about.rss - about.shared + self._executor.rss + self._store.memory
        return {
            "rss": used,
            "held": len(self.core.held),
            "tasks": len(self.core.tasks),
            "disk": self._store.disk,
        }

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
        }

    # -- the core

    def _received(self, number: int, fields: dict[str, Any]) -> None:
        if number == schema.TASKS.number:
            self._stimulate(m.TasksGiven(**fields))
        elif number == schema.FORGET.number:
            self._stimulate(m.DataForgotten(**fields))
        elif number == schema.DROP.number:
            self._stimulate(m.DropRequested(**fields))
        elif number == schema.STOP.number:
            self._stimulate(m.StopRequested(**fields))
        elif number == schema.COPY.number:
            self._stimulate(m.CopiesAsked(**fields))
        elif number == schema.PASS.number:
            self._passes.answered(**fields)
        elif number == schema.RESTART.number:
            self._restart()
        elif number == schema.GIVE_FUNCTION.number:
            self._executor.add_function(fields["digest"], fields["blob"])
        elif number == schema.KEYS.number:
            self._membership.learn(fields["keys"])
            self._factory.end_unwelcome()
        else:
            self._number = fields["index"]
            self._welcomed()

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
                if self._stream is not None:
                    self._stream.send_all(schema_of.encode(each))
            elif isinstance(each, m.Execute):
                self._executor.run(each.tasks, self._store)
            elif isinstance(each, m.Keep):
                self._store.update(each.ids, each.values, each.nbytes)
                self._note_held()
            elif isinstance(each, m.Discard):
                self._store.discard(each.ids)
            elif isinstance(each, m.Fetch):
                fetch = defer.Deferred.fromCoroutine(self._fetch(each.address, each.ids))
                fetch.addErrback(lambda f: self.log.failure("fetching failed", failure=f))
            elif isinstance(each, m.DropExecution):
                self._executor.drop(each.ids)
            elif isinstance(each, m.StopExecution):
                self._executor.stop_tasks(each.ids, each.attempts)
        if self._stream is not None:
            self._stream.flush()

    async def _fetch(self, address: str, ids: list[TaskId]) -> None:
        values = await self._holder.fetch(address, ids)
        if self._stopping is None:
            self._stimulate(self._holder.keep_fetched(address, ids, values))
            self._note_held()
