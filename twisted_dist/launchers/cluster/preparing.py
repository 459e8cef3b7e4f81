"""`HostPreparing`: looks at a host, and knows how daemons are started there."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, TimeoutError

from twisted_dist.errors import SSHError, UsageProblem
from twisted_dist.launchers.cluster.far_daemon import LEASH
from twisted_dist.launchers.cluster.keeper import Start
from twisted_dist.launchers.cluster.network import Network
from twisted_dist.launchers.cluster.plan import Daemon, Place
from twisted_dist.launchers.cluster.watch import Stage, Watch
from twisted_dist.launchers.far_side import probe
from twisted_dist.launchers.far_side.bootstrap import ship
from twisted_dist.launchers.far_side.command import Surroundings, remote_command
from twisted_dist.launchers.ssh.interface import Connection
from twisted_dist.launchers.ssh.running import run

#: seconds in which a host answers what it is asked first; activations may take some
LOOK_S: Final = 60.0
#: seconds in which the package is sent, where it is, over a slow link, and pip there has got
#: what it needs
SHIP_S: Final = 600.0
#: ports that are tried where any free one will do: below those that the kernel gives out, some
#: of which are taken at any moment
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 8

DAEMONS: Final = "twisted_dist.cli"


@frozen(kw_only=True)
class Looked:
    """What a look at a host found.

    Attributes:
        report: what it says of itself.
        problems: what was found in that.
        skew_s: by which its clock is ahead.
    """

    report: probe.Report
    problems: Sequence[probe.Problem]
    skew_s: float


@cache
def _cloudpickle() -> str:
    """Its version here; that is a file to be read, and hosts are many."""
    return version("cloudpickle")


def _lacks_package(looked: Looked) -> bool:
    return any(each.is_fatal and each.column == "package" for each in looked.problems)


class HostPreparing:
    """Prepares one host.

    Args:
        reactor: for time.
        place: which, and what runs there.
        surroundings: of all hosts; the place's own come before them.
        network: shared by all hosts.
        directories: that daemons there will write to.
        chance: for a port.
        wall: seconds since 1970.
        watch: is told what should be known, and stops nothing.
        ships: the package is sent to hosts where it is not, or not of this version.

    Attributes:
        looked: what the last look has found.
    """

    def __init__(
        self,
        reactor: Any,
        place: Place,
        surroundings: Surroundings,
        network: Network,
        directories: Sequence[str],
        chance: random.Random,
        wall: Callable[[], float],
        watch: Watch,
        *,
        ships: bool,
    ) -> None:
        self._reactor = reactor
        self._place = place
        self._ships = ships
        self._network = network
        self._directories = directories
        self._chance = chance
        self._wall = wall
        self._watch = watch
        spec = place.spec
        self._surroundings = evolve(
            surroundings,
            python=spec.python or surroundings.python,
            env={**surroundings.env, **spec.env},
        )
        self.looked: Looked | None = None

    @property
    def _name(self) -> str:
        return str(self._place.spec)

    @property
    def surroundings(self) -> Surroundings:
        """What programs there are started in; with the package, once it was shipped."""
        return self._surroundings

    async def look(self, connection: Connection) -> None:
        """As `Preparing` says."""
        looked = await self.examine(connection)
        if self._ships and _lacks_package(looked):
            await self._ship(connection, looked.report)
            looked = await self.examine(connection)
        fatal = [each for each in looked.problems if each.is_fatal]
        if fatal:
            raise SSHError(f"{self._name}: {'; '.join(map(str, fatal))}", "command")
        if self.looked is None:
            for each in looked.problems:
                self._watch.note(self._name, str(each))
        self.looked = looked
        inner = looked.report.inner
        known = looked.report.addresses if inner is None else (inner,)
        self._network.whereabouts.learn(self._name, known)

    async def _ship(self, connection: Connection, report: probe.Report) -> None:
        """Send the package there, or find that an earlier one did; use it."""
        self._watch.stage(self._name, Stage.SHIPPING)
        try:
            bundle = await self._network.bundle(report)
            shipping = Deferred.fromCoroutine(ship(connection, self._surroundings, bundle))
            shipped = await shipping.addTimeout(SHIP_S, self._reactor)
        except UsageProblem as problem:
            raise SSHError(f"{self._name}: --bootstrap: {problem}", "command") from None
        except TimeoutError:
            raise SSHError(
                f"{self._name}: --bootstrap has taken {SHIP_S:g} s and has not ended", "command"
            ) from None
        except SSHError as problem:
            raise SSHError(
                f"{self._name}: {problem}", problem.kind, problem.is_passing
            ) from problem
        self._surroundings = shipped.surroundings(self._surroundings)
        if shipped.is_new:
            self._watch.note(self._name, f"twisted_dist was shipped to {shipped.path}")

    async def examine(self, connection: Connection, *, would_ship: bool = False) -> Looked:
        """What there is on the host, good or bad.

        Args:
            connection: to it.
            would_ship: the package need not be there: it would be sent.

        Raises:
            SSHError: no Python answers there.
        """
        asked = self._wall()
        words = probe.arguments(
            ports=self._ports(),
            directories=self._directories,
            interface=self._network.interface,
        )
        command = remote_command(words, self._surroundings)
        try:
            finished = await run(self._reactor, connection, command, b"", LOOK_S)
            report = probe.read(finished.output, finished.errors, finished.ending)
        except SSHError as problem:
            raise SSHError(
                f"{self._name}: {problem}", problem.kind, problem.is_passing
            ) from problem
        skew_s = probe.clock_skew(report.wall, asked, self._wall())
        if self._place.is_schedulers and not self._network.port:
            report = self._with_a_port(report)
        wanted = probe.Wanted(
            python=sys.version_info[:2],
            cloudpickle=_cloudpickle(),
            is_bootstrapped=would_ship,
            interface=self._network.interface,
        )
        problems = probe.problems(report, wanted, skew_s)
        return Looked(report=report, problems=problems, skew_s=skew_s)

    def _ports(self) -> list[tuple[str, int]]:
        """What to ask about: nothing where our own scheduler may be there still."""
        if not self._place.is_schedulers or self.looked is not None:
            return []
        if self._network.port:
            return [("", self._network.port)]
        return [("", each) for each in self._chance.sample(_PORTS, _TRIES)]

    def _with_a_port(self, report: probe.Report) -> probe.Report:
        """Settle on a port that is free there."""
        free = [port for (_, port), why in report.ports.items() if not why]
        if not free:
            return report
        self._network.port = free[0]
        return evolve(report, ports={("", free[0]): ""})

    def start(self, daemon: Daemon) -> Start:
        """As `Preparing` says."""
        assert self.looked is not None
        network = self._network
        own = network.whereabouts.of(self._name)
        words = ["-m", DAEMONS]
        if daemon.is_scheduler:
            network.place(own, self.looked.report.hostname)
            words += ["dscheduler", f"--port={network.port}", *LEASH]
            secret_option, secret = "--network-file", network.credentials.for_scheduler
        else:
            threads = self._place.threads(daemon, self.looked.report.cores)
            words += ["dworker", network.address, f"--nthreads={threads}"]
            words += [f"--nprocs={daemon.nprocs}", *LEASH]
            secret_option, secret = "--access-file", network.credentials.for_worker
        if own is not None:
            words.append(f"--host={own}")
        if network.credentials.is_insecure:
            words.append("--insecure")
        else:
            words.append(f"{secret_option}=-")
        # it was looked for once
        python = self._surroundings.python or self.looked.report.executable or None
        surroundings = evolve(self._surroundings, python=python)
        command = remote_command([*words, *daemon.words], surroundings)
        return Start(command, secret(), max(1, daemon.nprocs))
