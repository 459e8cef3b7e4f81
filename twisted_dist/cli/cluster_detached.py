"""``dcluster --detach`` and ``dcluster add``: start agents on hosts, and leave them there."""

from __future__ import annotations

import os
import random
import signal
import sys
import uuid
from collections.abc import Callable
from time import time
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_dist.access.home import Home
from twisted_dist.address import parse_address
from twisted_dist.cli.cluster import HostOptions
from twisted_dist.cli.cluster_run import ONE_SIGNAL_S, banner
from twisted_dist.cli.cluster_watch import ClusterWatch
from twisted_dist.errors import ClusterError, SSHError, TwistedDistError
from twisted_dist.launchers.cluster.credentials import Credentials
from twisted_dist.launchers.cluster.detaching import Detaching
from twisted_dist.launchers.cluster.entrance import Entrance
from twisted_dist.launchers.cluster.forgetting import end_agents, forget_gone
from twisted_dist.launchers.cluster.network import Network
from twisted_dist.launchers.cluster.plan import Place
from twisted_dist.launchers.cluster.preparing import HostPreparing
from twisted_dist.launchers.cluster.record import Record, Records
from twisted_dist.launchers.cluster.request import Request, SSHOptions
from twisted_dist.launchers.cluster.visiting import Visiting, entrances
from twisted_dist.launchers.screen import Screen, wants_colour
from twisted_dist.launchers.ssh.asking import TerminalAsker
from twisted_dist.launchers.ssh.interface import Connection


def _lasting(ssh: SSHOptions) -> SSHOptions:
    """What was said of SSH, in words that mean the same in any directory."""

    def whole(path: str | None) -> str | None:
        return None if path is None else os.path.abspath(os.path.expanduser(path))

    return evolve(ssh, key=whole(ssh.key), config_file=whole(ssh.config_file))


def _as_before(said: SSHOptions, before: SSHOptions) -> SSHOptions:
    """What was said of SSH now, or else when the cluster was started."""
    return SSHOptions(
        user=said.user or before.user,
        port=said.port or before.port,
        key=said.key or before.key,
        config_file=said.config_file or before.config_file,
        strictness=said.strictness or before.strictness,
        fingerprints=said.fingerprints,
        command=said.command or before.command,
    )


def new_record(options: HostOptions, request: Request, records: Records) -> Record:
    """What is known of a cluster that is to be. Raises ClusterError where there is one."""
    name = options["cluster"] or ""
    if name and records.has(name):
        raise ClusterError(
            f"there is a cluster {name} already: dcluster add HOST... --cluster {name}; "
            f"dcluster down {name}"
        )
    return Record(
        name=name,
        address="",
        machine="",
        since=time(),
        is_insecure=request.is_insecure,
        is_passing=not request.plan.scheduler_port,
        interface=request.interface,
    )


def _network(reactor: Any, record: Record, port: int, interface: str) -> Network:
    """What the hosts have in common. Raises TwistedDistError where there are no credentials."""
    home = None if record.is_insecure else Home()
    # they stay: this process is to end
    interface = interface or record.interface
    network = Network(reactor, port, Credentials(home), passing=False, interface=interface)
    if record.address:
        if home is not None and not home.network_path(record.address).exists():
            raise ClusterError(
                f"there are no credentials of {record.address} in {home.directory} any more"
            )
        network.machine = record.machine
        network.locate(record.address)
        network.whereabouts.learn("scheduler", [parse_address(record.address)[0]])
    return network


class DetachRun:
    """One run of ``dcluster --detach``, or of ``dcluster add`` where *record* has an address.

    Args:
        reactor: of everything.
        request: what is wanted.
        records: of clusters.
        record: of this one.

    Raises:
        TwistedDistError: it cannot be begun.
    """

    def __init__(self, reactor: Any, request: Request, records: Records, record: Record) -> None:
        self._reactor = reactor
        self._is_new = not record.address
        self._plan = request.plan
        self._records = records
        ssh = _lasting(request.ssh)
        if not self._is_new and record.agents:
            ssh = _as_before(ssh, record.agents[0].ssh)
        self._screen = Screen(sys.stdout, wants_colour(sys.stdout, os.environ))
        self._watch = ClusterWatch(self._screen, None, request.plan)
        asker = TerminalAsker(reactor, held=self._screen.hold)
        chance = random.Random()
        self._entrance = Entrance(reactor, ssh, asker, request.environ, chance)
        self._make_entrance = entrances(reactor, asker, request.environ, chance)
        network = _network(reactor, record, request.plan.scheduler_port, request.interface)

        async def enter(
            place: Place, patience_s: float, failed: Callable[[SSHError], None]
        ) -> Connection:
            return await self._entrance.enter(place.spec, patience_s, failed)

        def preparing(place: Place) -> HostPreparing:
            return HostPreparing(
                reactor,
                place,
                request.surroundings,
                network,
                request.directories,
                chance,
                time,
                self._watch,
                ships=request.ships,
            )

        self._detaching = Detaching(
            reactor,
            request.plan.places,
            request.policy,
            ssh,
            enter,
            preparing,
            network,
            records,
            record,
            lambda: uuid.uuid4().hex[:12],
            self._watch,
            is_new=self._is_new,
        )
        self._told_at: float | None = None
        self._is_ending = False
        self.exit_status = 0

    def begin(self) -> None:
        """Start, once the reactor runs."""
        self._screen.start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signalled)
        if self._is_new:
            for each in banner(self._plan):
                self._screen.line(each)
        starting = self._detaching.start()
        starting.addCallbacks(self._started, self._failed)

    def _started(self, record: Record) -> None:
        up, wanted = self._detaching.workers_up, self._plan.workers
        insecure = ", insecure=True" if record.is_insecure else ""
        if self._is_new:
            told = [
                f"{up} of {wanted} workers; they stay when this ends",
                f'  Client("{record.address}"{insecure})  uses them',
                f"  dcluster status {record.name}  tells how they are",
                f"  dcluster down {record.name}  ends them",
            ]
        else:
            told = [f"{up} of {wanted} workers more in {record.name}"]
        for each in told:
            self._watch.say(each)
        if not self._is_ending:
            self._is_ending = True
            self._finish(self._leave())

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and self._is_ending:
            return
        is_ours = failure.check(TwistedDistError)
        self._problem(failure.getErrorMessage() if is_ours else failure.getTraceback())
        self.undo()

    def _problem(self, text: str) -> None:
        self.exit_status = 1
        self._watch.say(text, is_error=True)

    def _signalled(self, number: int, frame: object) -> None:
        now = self._reactor.seconds()
        if self._told_at is None:
            self._told_at = now
            self._reactor.callFromThread(self.undo)
        elif not 0 <= now - self._told_at < ONE_SIGNAL_S:
            os._exit(1)  # what was started is written down

    def undo(self) -> None:
        """End what was started, and then this."""
        if not self._is_ending:
            self._is_ending = True
            self.exit_status = 1
            self._finish(self._undo())

    async def _undo(self) -> None:
        detaching = self._detaching
        await detaching.leave()
        record = detaching.record
        mine = [each for each in record.agents if each.id in detaching.ids]
        if detaching.is_recorded and (mine or self._is_new):
            self._watch.say("Ending what was started (this may take a moment).")
            visiting = Visiting(self._reactor, record.name, self._make_entrance)
            try:
                left = await end_agents(visiting, self._records, record, mine, lambda seen: None)
            finally:
                await visiting.close()
            for each in left:
                self._problem(f"{each.agent.name}: it may live on there: {each.why}")
            if left:
                self._problem(f"dcluster down {record.name} ends it, once that host is there")
        await self._entrance.close()

    async def _leave(self) -> None:
        await self._detaching.leave()
        if not self._is_new:
            await self._forget_gone()
        await self._entrance.close()

    async def _forget_gone(self) -> None:
        """Hosts that had workers before may have restarted since."""
        detaching = self._detaching
        hosts = [str(each.spec) for each in self._plan.places]
        record = detaching.record
        visiting = Visiting(self._reactor, record.name, self._make_entrance)
        try:
            await forget_gone(visiting, self._records, record, hosts, detaching.ids)
        finally:
            await visiting.close()

    def _finish(self, coroutine: Any) -> None:
        ending = Deferred.fromCoroutine(coroutine)
        ending.addErrback(lambda failure: self._problem(failure.getErrorMessage()))
        ending.addBoth(self._stop)

    def _stop(self, _: object) -> None:
        self._screen.stop()
        if self._reactor.running:
            self._reactor.stop()
