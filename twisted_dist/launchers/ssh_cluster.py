"""`SSHCluster`: a cluster over SSH for a program, as ``dcluster`` is one for a shell."""

from __future__ import annotations

import atexit
import shlex
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_dist.address import DEFAULT_PORT
from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.cluster.cluster import Cluster
from twisted_dist.launchers.cluster.far_daemon import SCHEDULER_STARTED, WORKER_REGISTERED
from twisted_dist.launchers.cluster.plan import WorkerOptions, make_plan
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.cluster.request import Request, SSHOptions
from twisted_dist.launchers.cluster.watch import Stage, Watch
from twisted_dist.launchers.cluster.whereabouts import checked_interface
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.hosts.hostfile import parse
from twisted_dist.launchers.hosts.words import words
from twisted_dist.launchers.screen import Screen
from twisted_dist.launchers.ssh.asking import TerminalAsker
from twisted_dist.launchers.ssh.interface import Asker
from twisted_dist.launchers.ssh.outcome import Outcome
from twisted_dist.launchers.ssh.settings import Strictness
from twisted_dist.wire.reactor_thread import ReactorThread

#: beginnings of lines that say what everybody who uses a cluster knows
_ANNOUNCEMENTS = (SCHEDULER_STARTED, "Start worker at:", WORKER_REGISTERED, "To join from")


def ssh_request(
    hosts: str | Sequence[str] = (),
    *,
    hostfile: str | Path | None = None,
    scheduler: str | None = None,
    scheduler_port: int = DEFAULT_PORT,
    nthreads: int = 0,
    nprocs: int = 1,
    worker_options: Iterable[str] = (),
    ssh_username: str | None = None,
    ssh_port: int | None = None,
    ssh_private_key: str | None = None,
    ssh_config: str | None = None,
    ssh_command: str | None = None,
    accept_new: bool = False,
    fingerprints: Iterable[str] = (),
    remote_python: str | None = None,
    activate: str = "",
    env: Mapping[str, str] | None = None,
    bootstrap: bool = False,
    require_all: bool = False,
    min_workers: int = 1,
    insecure: bool = False,
    interface: str = "",
) -> Request:
    """What the arguments of `SSHCluster` ask for; they are named as ``dcluster``'s options.

    Raises:
        UsageProblem: they cannot be meant.
    """
    specs = words([hosts] if isinstance(hosts, str) else hosts, "hosts")
    if hostfile is not None:
        try:
            specs += parse(Path(hostfile).read_text(encoding="utf-8"), str(hostfile))
        except (OSError, UnicodeError) as problem:
            raise UsageProblem(f"cannot read the hostfile {hostfile}: {problem}") from None
    chosen = words([scheduler], "scheduler") if scheduler is not None else [None]
    if len(chosen) != 1:
        raise UsageProblem(f"scheduler={scheduler!r} names {len(chosen)} hosts; there is one")
    workers = WorkerOptions(nprocs=nprocs, nthreads=nthreads, extra=tuple(worker_options))
    plan = make_plan(specs, scheduler=chosen[0], scheduler_port=scheduler_port, workers=workers)
    return Request(
        plan=plan,
        policy=Policy(require_all=require_all, min_workers=min_workers),
        ssh=SSHOptions(
            user=ssh_username,
            port=ssh_port,
            key=ssh_private_key,
            config_file=ssh_config,
            strictness=Strictness.ACCEPT_NEW if accept_new else None,
            fingerprints=tuple(fingerprints),
            command=tuple(shlex.split(ssh_command or "")),
        ),
        surroundings=Surroundings(
            python=remote_python, here=sys.executable, activate=activate, env=dict(env or {})
        ),
        ships=bootstrap,
        is_insecure=insecure,
        interface=checked_interface(interface) if interface else "",
    )


class _LoggingWatch:
    """A `Watch` that logs."""

    log = Logger(namespace="twisted_dist.SSHCluster")

    def line(self, label: str, text: str, is_error: bool) -> None:
        """As `Watch` says."""
        self.log.info("[ {label} ] : {text}", label=label, text=text)

    def stage(self, host: str, stage: Stage, detail: str = "") -> None:
        """As `Watch` says."""
        is_bad = stage in {Stage.FAILED, Stage.LOST, Stage.RESTARTING}
        log = self.log.warn if is_bad else self.log.info
        log("{host}: {stage} {detail}", host=host, stage=stage.value, detail=detail)

    def note(self, host: str, text: str) -> None:
        """As `Watch` says."""
        self.log.info("{host}: {text}", host=host, text=text)


class _PrintingWatch:
    """A `Watch` for who has started a cluster in a script: what tasks print is printed."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def line(self, label: str, text: str, is_error: bool) -> None:
        """As `Watch` says."""
        if not text.startswith(_ANNOUNCEMENTS):
            self._screen.line(f"[ {label} ] : {text}")

    def stage(self, host: str, stage: Stage, detail: str = "") -> None:
        """As `Watch` says."""
        if detail and stage in {Stage.FAILED, Stage.LOST, Stage.RESTARTING}:
            self._screen.line(f"{host}: {stage.value}: {detail.removeprefix(f'{host}: ')}")

    def note(self, host: str, text: str) -> None:
        """As `Watch` says."""
        self._screen.line(f"{host}: {text}")


class AsyncSSHCluster:
    """A scheduler and workers on hosts, over SSH, in a reactor.

    Args:
        hosts: as ``dcluster`` takes them, in one string or several: the scheduler on the first
            one, workers on all; ``user@host:port``, ``node[01-16]``.
        reactor: the running one, by default.
        asker: asks a person for what SSH wants to know; at the terminal by default.
        watch: is told of lines and of what happens to hosts; by default they are logged.
        options: hostfile, scheduler, scheduler_port, nthreads, nprocs, worker_options (words
            for ``dworker``), ssh_username, ssh_port, ssh_private_key, ssh_config, ssh_command,
            accept_new, fingerprints, remote_python, activate, env, bootstrap, require_all,
            min_workers, insecure, interface: as ``dcluster``'s options of these names.

    Attributes:
        scheduler_address: for `Client`; "" until it has started.

    Raises:
        UsageProblem: the arguments cannot be meant.
    """

    def __init__(
        self,
        hosts: str | Sequence[str] = (),
        *,
        reactor: Any = None,
        asker: Asker | None = None,
        watch: Watch | None = None,
        **options: Any,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._cluster = Cluster(
            reactor,
            ssh_request(hosts, **options),
            asker if asker is not None else TerminalAsker(reactor),
            watch if watch is not None else _LoggingWatch(),
        )
        self._is_closing = False
        self._closed: Outcome[Sequence[str]] = Outcome()
        self.scheduler_address = ""

    def start(self) -> Deferred[str]:
        """Start it; fires with the scheduler's address, once all hosts are up or have failed.

        Fails with `ClusterError` where too little could be started; nothing is left then.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> str:
        try:
            self.scheduler_address = await self._cluster.start()
        except BaseException:
            await self.close()
            raise
        return self.scheduler_address

    def close(self) -> Deferred[Sequence[str]]:
        """End it; fires with the hosts on which something may live on for a minute yet.

        May be called twice, and while it starts.
        """
        if not self._is_closing:
            self._is_closing = True
            ending = Deferred.fromCoroutine(self._cluster.end())
            # a failure, too, which `callback` takes for one
            ending.addBoth(lambda outcome: self._closed.tell(cast("Any", outcome)))
        return self._closed.when_known()


class SSHCluster:
    """A scheduler and workers on hosts, over SSH, for code that blocks; a context manager.

    Ended with this object or, at the latest, with this process, whatever ends that.

    Args:
        hosts: as of `AsyncSSHCluster`, whose *options* are these too.
        options: as there.

    Attributes:
        scheduler_address: for `Client`, which takes this object itself, too.

    Raises:
        UsageProblem: the arguments cannot be meant.
        ClusterError: too little could be started; says which hosts failed, and why.
    """

    def __init__(self, hosts: str | Sequence[str] = (), **options: Any) -> None:
        screen = Screen(sys.stdout, False)
        self._screen = screen
        self._thread = ReactorThread()
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            options.setdefault("watch", _PrintingWatch(screen))
            self._cluster = AsyncSSHCluster(hosts, reactor=self._thread.reactor, **options)
            screen.start()
            atexit.register(self.close)
            self.scheduler_address: str = self._thread.call(self._cluster.start)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the cluster and wait for that. May be called twice."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        atexit.unregister(self.close)
        try:
            if hasattr(self, "_cluster"):
                self._thread.call(self._cluster.close)
        finally:
            self._thread.stop()
            self._screen.stop()

    def __enter__(self) -> SSHCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
