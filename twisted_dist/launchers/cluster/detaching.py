"""`Detaching`: starts agents on hosts, which stay there when this process leaves.

As in a `Fleet`, all hosts are entered at once, what is wrong with one is known before anything
starts, the scheduler starts first, and hosts that fail are named. Unlike there, the end of the
start is the end of it all, so hosts that are late are waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from attrs import evolve
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from twisted_dist.errors import AccessError, ClusterError, SSHError
from twisted_dist.launchers.cluster.far_agent import start_agent
from twisted_dist.launchers.cluster.far_daemon import SCHEDULER_STARTED
from twisted_dist.launchers.cluster.fleet import GATHER_S
from twisted_dist.launchers.cluster.orders import Order, Orders
from twisted_dist.launchers.cluster.plan import Daemon, Place
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.cluster.record import Record, RecordedAgent, Records
from twisted_dist.launchers.cluster.request import SSHOptions
from twisted_dist.launchers.cluster.station import PATIENCE_S, Preparing
from twisted_dist.launchers.cluster.watch import Stage, Watch
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.ssh.interface import Connection


class AgentPreparing(Preparing, Protocol):
    """What a host is prepared with."""

    @property
    def surroundings(self) -> Surroundings:
        """What programs there are started in."""


class Meeting(Protocol):
    """What all hosts have in common."""

    #: of the scheduler; "" until it is to start
    address: str
    #: of the scheduler's machine
    machine: str

    def locate(self, address: str) -> None:
        """Where the scheduler says that it is."""


class _Host:
    def __init__(self, place: Place, preparing: AgentPreparing) -> None:
        self.place = place
        self.preparing = preparing
        self.connection: Connection | None = None
        self.problem: SSHError | None = None
        self.looked: Deferred[None] = Deferred()
        self.is_up = False

    @property
    def name(self) -> str:
        return str(self.place.spec)


class Detaching:
    """One start of agents.

    Args:
        reactor: for time.
        places: the scheduler's first, if it is to be started.
        policy: with how little it begins.
        ssh: how hosts are entered, to be written down.
        enter: enters one.
        preparing: of a place.
        network: shared by all hosts.
        records: where it is written down.
        record: of the cluster that there is already; else what is known of the new one, whose
            name may be "" for the scheduler's address.
        is_new: there is none yet.
        new_id: gives ids that nobody else has.
        watch: is told.

    Attributes:
        ids: of the agents that may have been started.
        record: as it is now.
        is_recorded: whether the record is in its file.
    """

    def __init__(
        self,
        reactor: Any,
        places: Sequence[Place],
        policy: Policy,
        ssh: SSHOptions,
        enter: Callable[[Place, float, Callable[[SSHError], None]], Awaitable[Connection]],
        preparing: Callable[[Place], AgentPreparing],
        network: Meeting,
        records: Records,
        record: Record,
        new_id: Callable[[], str],
        watch: Watch,
        *,
        is_new: bool,
    ) -> None:
        self._reactor = reactor
        self._policy = policy
        self._ssh = ssh
        self._enter = enter
        self._network = network
        self._records = records
        self._new_id = new_id
        self._watch = watch
        self._hosts = [_Host(each, preparing(each)) for each in places]
        self._tasks: list[Deferred[None]] = []
        self._starting: Deferred[Record] | None = None
        self.record = record
        self.is_recorded = not is_new
        self.ids: list[str] = []

    def start(self) -> Deferred[Record]:
        """Start all; fires with the record once each host has what it is to have, or failed.

        Fails with `ClusterError` where too little of it could be started; what did runs on.
        """
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting

    async def _start(self) -> Record:
        for each in self._hosts:
            self._spawn(self._look(each))
        first = self._hosts[0]
        is_new = not self.is_recorded
        if is_new:
            await first.looked
            if first.problem is not None:
                raise ClusterError(f"no scheduler: {first.problem}")
        await self._gathered()
        self._check(each for each in self._hosts if each.problem is None)
        if is_new:
            await self._start_scheduler(first)
        await gatherResults([self._spawn(self._start_workers(each)) for each in self._hosts])
        self._check(each for each in self._hosts if each.is_up or not each.place.workers)
        return self.record

    def _spawn(self, coroutine: Any) -> Deferred[None]:
        task: Deferred[None] = Deferred.fromCoroutine(coroutine)
        self._tasks.append(task)
        return task

    @property
    def workers_up(self) -> int:
        """How many are on hosts whose agents have reported."""
        return sum(each.place.workers for each in self._hosts if each.is_up)

    async def leave(self) -> None:
        """Leave all hosts. An agent that has not reported yet ends by itself."""
        if self._starting is not None:
            self._starting.addErrback(lambda _: None)
            self._starting.cancel()
        for each in self._tasks:
            each.addErrback(lambda _: None)
            each.cancel()
        connections = [each.connection for each in self._hosts if each.connection is not None]
        await gatherResults([each.close() for each in connections])

    # -- hosts

    async def _look(self, host: _Host) -> None:
        try:
            self._watch.stage(host.name, Stage.CONNECTING)

            def again(problem: SSHError) -> None:
                self._watch.stage(host.name, Stage.CONNECTING, f"{problem}; trying again")

            host.connection = await self._enter(host.place, PATIENCE_S, again)
            self._watch.stage(host.name, Stage.LOOKING)
            await host.preparing.look(host.connection)
            self._watch.stage(host.name, Stage.READY)
        except SSHError as problem:
            self._fail(host, problem)
        host.looked.callback(None)

    def _fail(self, host: _Host, problem: SSHError) -> None:
        host.problem = problem
        self._watch.stage(host.name, Stage.FAILED, str(problem))

    async def _gathered(self) -> None:
        """Until of all hosts it is known whether they can be used; not long."""
        waiting: Deferred[None] = Deferred()
        looks = DeferredList([each.looked for each in self._hosts])
        looks.addCallback(lambda _: None if waiting.called else waiting.callback(None))
        try:
            await waiting.addTimeout(GATHER_S, self._reactor)
        except defer.TimeoutError:
            pass

    def _check(self, good: Iterable[_Host]) -> None:
        """Raise ClusterError where the policy wants more than *good*."""
        able = list(good)
        bad = [each for each in self._hosts if each not in able]
        workers = sum(each.place.workers for each in able)
        reasons = "; ".join(str(each.problem) for each in bad)
        if bad and self._policy.require_all:
            raise ClusterError(f"{len(bad)} of {len(self._hosts)} hosts failed: {reasons}")
        if workers < self._policy.min_workers:
            total = sum(each.place.workers for each in self._hosts)
            raise ClusterError(
                f"{workers} of {total} workers, and {self._policy.min_workers} are wanted: "
                f"{reasons}"
            )

    # -- agents

    async def _start_scheduler(self, host: _Host) -> None:
        [scheduler] = [each for each in host.place.daemons if each.is_scheduler]
        order = self._order(host, scheduler)
        network = self._network
        self.record = evolve(
            self.record,
            name=self.record.name or network.address,
            address=network.address,
            machine=network.machine,
        )
        self._records.create(self.record)
        self.is_recorded = True
        try:
            await self._start_agent(host, [scheduler], [order])
        except SSHError as problem:
            raise ClusterError(f"no scheduler: {host.name}: {problem}") from None
        if not host.place.workers:
            self._watch.stage(host.name, Stage.UP)
        if network.address != self.record.address:
            self._change(lambda record: evolve(record, address=network.address))

    async def _start_workers(self, host: _Host) -> None:
        await host.looked
        workers = [each for each in host.place.daemons if not each.is_scheduler]
        if host.problem is not None or not workers:
            return
        try:
            orders = [self._order(host, each) for each in workers]
            why = await self._start_agent(host, workers, orders)
        except (SSHError, AccessError, ClusterError) as problem:
            self._fail(host, SSHError(f"{host.name}: {problem}", "command"))
            return
        host.is_up = True
        if why:
            self._watch.note(host.name, why)
        self._watch.stage(host.name, Stage.UP)

    def _order(self, host: _Host, daemon: Daemon) -> Order:
        start = host.preparing.start(daemon)
        return Order(
            label=daemon.label,
            log_name=daemon.log_name,
            command=start.command,
            secret=start.secret,
            announcements=start.announcements,
        )

    async def _start_agent(
        self, host: _Host, daemons: Sequence[Daemon], orders: Sequence[Order]
    ) -> str:
        """Write an agent down, and start it; why not all that it keeps is up. Raises SSHError."""
        assert host.connection is not None
        self._watch.stage(host.name, Stage.STARTING)
        spec = host.place.spec
        agent = RecordedAgent(
            id=self._new_id(),
            host=spec.host,
            user=spec.user,
            port=spec.port,
            is_scheduler=daemons[0].is_scheduler,
            workers=sum(each.nprocs for each in daemons),
            labels=tuple(each.label for each in daemons),
            ssh=self._ssh,
            surroundings=host.preparing.surroundings,
        )
        self.ids.append(agent.id)
        self._change(lambda record: record.with_agent(agent))
        all_orders = Orders(cluster=self.record.name, id=agent.id, daemons=tuple(orders))
        try:
            return await start_agent(
                self._reactor, host.connection, agent.surroundings, all_orders, self._told
            )
        except SSHError as problem:
            if problem.kind != "lost":  # it has ended, as it has said
                self._change(lambda record: record.without([agent.id]))
            raise

    def _told(self, label: str, line: str, is_error: bool) -> None:
        if line.startswith(SCHEDULER_STARTED) and not is_error:
            self._network.locate(line.removeprefix(SCHEDULER_STARTED).strip())
        self._watch.line(label, line, is_error)

    def _change(self, change: Callable[[Record], Record]) -> None:
        self.record = self._records.change(self.record.name, change)
