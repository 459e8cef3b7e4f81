"""`Station`: one host of a cluster, from the first attempt to enter it to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.dialling import MOST_WAIT_S, Dialling
from twisted_dist.launchers.cluster.keeper import Keeper, Start
from twisted_dist.launchers.cluster.plan import Daemon, Place
from twisted_dist.launchers.cluster.watch import Stage, Watch
from twisted_dist.launchers.ssh.interface import Connection
from twisted_dist.launchers.ssh.settings import HostSettings

#: seconds in which attempts to enter a host begin, when a cluster starts
PATIENCE_S: Final = 15.0


class Preparing(Protocol):
    """What a host is prepared with, once it is entered; another object for each host."""

    async def look(self, connection: Connection) -> None:
        """See that daemons can run there.

        Raises:
            SSHError: they cannot; what to do about it.
        """

    def start(self, daemon: Daemon) -> Start:
        """What starts a daemon there, now."""


class Company(Protocol):
    """What a station belongs to, and tells."""

    def on_announced(self, station: Station, daemon: Daemon, line: str) -> None:
        """A daemon has announced that it has got somewhere."""

    def on_over(self, station: Station, daemon: Daemon) -> None:
        """A daemon will not be started again."""

    def on_failed(self, station: Station) -> None:
        """The host is no part of the cluster any more."""


class Station:
    """Enters a host, keeps its daemons running, and enters it again when it was lost.

    Args:
        reactor: for time.
        place: which host, and what runs there.
        resolve: gives its settings; raises SSHError.
        dialling: enters it.
        preparing: looks at it and knows how daemons start.
        chance: varies waits.
        watch: is told.
        company: what it belongs to.

    Attributes:
        up: the daemons that have announced themselves and not died since.
        failed: why the host is not part of the cluster, for good; None while it may be.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        place: Place,
        resolve: Callable[[], Deferred[HostSettings]],
        dialling: Dialling,
        preparing: Preparing,
        chance: random.Random,
        watch: Watch,
        company: Company,
    ) -> None:
        self._reactor = reactor
        self.place = place
        self._resolve = resolve
        self._dialling = dialling
        self._preparing = preparing
        self._chance = chance
        self._watch = watch
        self._company = company
        #: for as long as there is one; and once daemons may be started on it
        self._connection: Connection | None = None
        self._ready: Connection | None = None
        self._life: Deferred[None] | None = None
        self._keepers: dict[Daemon, Keeper] = {}
        self._go = False
        self._is_ending = False
        #: fires once it is known whether the host can be used
        self.looked: Deferred[None] = Deferred()
        self.up: set[Daemon] = set()
        self.failed: SSHError | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.place.spec)

    @property
    def has_settled(self) -> bool:
        """Whether all that is to run there does, or will not."""
        if self.failed is not None:
            return True
        keepers = self._keepers
        return all(
            each in self.up or (each in keepers and keepers[each].is_over)
            for each in self.place.daemons
        )

    @property
    def why_not(self) -> str:
        """Why not all runs there, in one line."""
        if self.failed is not None:
            return str(self.failed)
        whys = [f"{each.label}: {k.why}" for each, k in self._keepers.items() if k.why]
        return "; ".join(whys) or f"{self.name} does not answer yet"

    def begin(self) -> None:
        """Start to enter it."""
        self._life = Deferred.fromCoroutine(self._live())
        self._life.addErrback(self._broken)

    def go(self) -> None:
        """Start its workers, as soon as it is entered: the scheduler is there."""
        self._go = True
        for daemon in self.place.daemons:
            if not daemon.is_scheduler:
                self._keep(daemon)

    def start_scheduler(self) -> None:
        """Start the scheduler, on a host that was looked at."""
        for daemon in self.place.daemons:
            if daemon.is_scheduler:
                self._keep(daemon)

    async def end_workers(self) -> None:
        """End its workers, and start nothing any more."""
        self._is_ending = True
        await gatherResults(
            [
                Deferred.fromCoroutine(keeper.end())
                for daemon, keeper in self._keepers.items()
                if not daemon.is_scheduler
            ]
        )

    async def end(self) -> bool:
        """End all its daemons and leave it; False where nobody knows whether some live on."""
        self._is_ending = True
        known = await gatherResults(
            [Deferred.fromCoroutine(each.end()) for each in self._keepers.values()]
        )
        if self._life is not None:
            self._life.cancel()
        if self._connection is not None:
            await self._connection.close()
        if self.failed is None:
            self._watch.stage(self.name, Stage.ENDED)
        return all(known)

    # -- its life

    async def _live(self) -> None:
        was_there = False
        while not self._is_ending:
            try:
                connection = await self._enter(float("inf") if was_there else PATIENCE_S)
            except SSHError as problem:
                if not was_there or problem.kind.startswith("host-key"):
                    self._give_up(problem)
                    return
                # it may be starting, without its home directory as yet
                self._again(problem)
                await deferLater(self._reactor, MOST_WAIT_S, lambda: None)
                continue
            was_there = True
            self._ready = connection
            if not self.looked.called:
                self.looked.callback(None)
            self._tend()
            reason = await connection.lost()
            self._ready = self._connection = None
            self.up.clear()
            if self._is_ending or self._is_over():
                return
            if self.place.is_schedulers:
                reason = f"{reason.rstrip('.')}; it has the scheduler, which all wait for"
            self._watch.stage(self.name, Stage.LOST, reason)

    async def _enter(self, patience_s: float) -> Connection:
        self._watch.stage(self.name, Stage.CONNECTING)
        settings = await self._resolve()
        connection = await self._dialling.connect(settings, patience_s, self._again)
        self._connection = connection
        try:
            self._watch.stage(self.name, Stage.LOOKING)
            await self._preparing.look(connection)
        except BaseException:
            self._connection = None
            await connection.close()
            raise
        self._watch.stage(self.name, Stage.READY)
        return connection

    def _again(self, problem: SSHError) -> None:
        self._watch.stage(self.name, Stage.CONNECTING, f"{problem}; trying again")

    def _tend(self) -> None:
        """Start what is to run by now and does not."""
        for daemon in self.place.daemons:
            if daemon in self._keepers or (self._go and not daemon.is_scheduler):
                self._keep(daemon)

    def _keep(self, daemon: Daemon) -> None:
        """Keep a daemon running on this connection."""
        keeper = self._keepers.get(daemon)
        if keeper is None:
            keeper = Keeper(
                self._reactor,
                self._chance,
                lambda line, is_error: self._watch.line(daemon.label, line, is_error),
                lambda line: self._came_up(daemon, line),
                lambda why: self._died(daemon, why),
            )
            self._keepers[daemon] = keeper
        ready = self._ready
        if ready is None or keeper.is_over or keeper.daemon is not None:
            return
        self._watch.stage(self.name, Stage.STARTING)
        keeping = Deferred.fromCoroutine(keeper.keep(ready, self._preparing.start(daemon)))
        keeping.addCallback(self._ended, daemon, keeper, ready)
        keeping.addErrback(self._broken)

    def _ended(self, ending: object, daemon: Daemon, keeper: Keeper, there: Connection) -> Any:
        if self._is_ending or there is not self._ready:
            return None
        self.up.discard(daemon)
        if keeper.is_over:
            self._watch.note(self.name, f"{daemon.label}: {keeper.why}")
            if self._is_over():
                self._watch.stage(self.name, Stage.ENDED, keeper.why)
            self._company.on_over(self, daemon)
            return None
        # it is not known what became of it: only a new connection begins anew
        return there.close()

    def _is_over(self) -> bool:
        return bool(self._keepers) and all(each.is_over for each in self._keepers.values())

    def _came_up(self, daemon: Daemon, line: str) -> None:
        self.up.add(daemon)
        if len(self.up) == sum(not each.is_over for each in self._keepers.values()):
            self._watch.stage(self.name, Stage.UP)
        self._company.on_announced(self, daemon, line)

    def _died(self, daemon: Daemon, why: str) -> None:
        self.up.discard(daemon)
        self._watch.stage(self.name, Stage.RESTARTING, f"{daemon.label}: {why}")

    def _give_up(self, problem: SSHError) -> None:
        self.failed = problem
        self._watch.stage(self.name, Stage.FAILED, str(problem))
        if not self.looked.called:
            self.looked.callback(None)
        self._company.on_failed(self)

    def _broken(self, failure: Any) -> None:
        """The end of its life by cancelling, or by a defect of ours, which is said."""
        if failure.check(CancelledError) and self._is_ending:
            return
        self.log.failure("the life of {name} broke", failure=failure, name=self.name)
        self._give_up(SSHError(f"{self.name}: {failure.getErrorMessage()}", "lost"))
