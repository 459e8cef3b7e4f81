"""What starts a scheduler and workers: dcluster, dask ssh, and nothing but the daemons."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from attrs import field, frozen

from fifty_hosts_parts.hosts import SSHDs

END_S = 300.0
LOOK_S = 0.05
#: what ends a daemon with whoever holds its standard input
LEASH = "--until-stdin-closes"


@frozen(kw_only=True)
class Row:
    """What was measured.

    Attributes:
        registered_s: seconds until the last worker was there.
        ran_s: and until a task has run on each.
        end_s: from Ctrl-C until nothing is left.
        own_s: of processor time that the launcher had used by then.
        left: processes that were left, and had to be killed.
    """

    registered_s: float
    ran_s: float
    end_s: float
    own_s: float
    left: int


class Launch:
    """Processes on this side, and when one of them has said where the scheduler is."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.processes: list[subprocess.Popen[str]] = []
        self.lines: list[str] = []
        self.located = threading.Event()

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        """One more; what it says is read."""
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(self._env),
            start_new_session=True,  # so that a Ctrl-C is for it alone
        )
        self.processes.append(process)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        return process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line)
            if re.search(r"Start scheduler at|Scheduler at:", line):
                self.located.set()


@frozen
class System:
    """Starts a scheduler on the first host, and a worker on each.

    Attributes:
        name: for the table.
        python: has it.
        options: of each worker.
    """

    name: str
    python: str
    options: tuple[str, ...] = field(default=(), kw_only=True)

    #: of the client
    kind = "twisted_dist"
    #: whether the processes on this side do nothing but start daemons elsewhere
    is_launcher = True

    def begin(self, launch: Launch, hosts: SSHDs, port: int) -> None:
        """Start it all."""
        raise NotImplementedError

    def end(self, launch: Launch) -> None:
        """Begin to end it."""
        launch.processes[0].send_signal(signal.SIGINT)


class DCluster(System):
    """``dcluster``."""

    def begin(self, launch: Launch, hosts: SSHDs, port: int) -> None:
        """As `System` says."""
        words = ["-m", "twisted_dist.cli", "dcluster", "--ssh-config", str(hosts.config)]
        words += ["--scheduler-port", str(port), "--nthreads", "1", *self.options]
        launch.start([self.python, *words, *hosts.addresses])


class DaskSSH(System):
    """``dask ssh``, as it is: it reads no configuration of SSH, and takes any host key."""

    kind = "dask"

    def begin(self, launch: Launch, hosts: SSHDs, port: int) -> None:
        """As `System` says."""
        words = ["-m", "dask", "ssh", "--ssh-port", str(hosts.port)]
        words += ["--ssh-private-key", str(hosts.key), "--scheduler-port", str(port)]
        launch.start([self.python, *words, "--nthreads", "1", *hosts.addresses])


class Daemons(System):
    """The same daemons at once, each by hand: what starting them costs, whoever does it."""

    is_launcher = False

    def _wrap(self, words: list[str], host: str, hosts: SSHDs) -> list[str]:
        return words

    def begin(self, launch: Launch, hosts: SSHDs, port: int) -> None:
        """As `System` says."""
        cli = [self.python, "-m", "twisted_dist.cli"]
        first = hosts.addresses[0]
        words = [*cli, "dscheduler", "--host", first, "--port", str(port), LEASH]
        launch.start(self._wrap(words, first, hosts))
        launch.located.wait(END_S)
        for each in hosts.addresses:
            words = [*cli, "dworker", f"{first}:{port}", "--host", each, "--nthreads", "1", LEASH]
            launch.start(self._wrap([*words, *self.options], each, hosts))

    def end(self, launch: Launch) -> None:
        """As `System` says; the workers first, as dcluster does."""
        for each in reversed(launch.processes):
            if each is launch.processes[0]:
                for worker in launch.processes[1:]:
                    worker.wait(END_S)
            assert each.stdin is not None
            each.stdin.close()


class BySSH(Daemons):
    """The same by a process of OpenSSH's client for each, as a shell's loop would."""

    is_launcher = True

    def _wrap(self, words: list[str], host: str, hosts: SSHDs) -> list[str]:
        home = os.environ["TWISTED_DIST_HOME"]
        command = f"TWISTED_DIST_HOME={shlex.quote(home)} {shlex.join(words)}"
        return ["ssh", "-F", str(hosts.config), host, command]


@contextlib.contextmanager
def client(system: System, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has imported all that a client needs."""
    script = Path(__file__).parent / "client.py"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [system.python, str(script), system.kind, str(count)]
    process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
    try:
        assert process.stdout.readline() == "imported\n"
        yield process
        process.stdin.write("\n")
        process.stdin.close()
        process.wait(END_S)
    finally:
        process.kill()
        process.wait()


def _used_s(launch: Launch) -> float:
    """Seconds of processor time that the processes on this side have used."""
    times = [psutil.Process(each.pid).cpu_times() for each in launch.processes]
    return sum(each.user + each.system for each in times)


def measure(system: System, hosts: SSHDs, port: int) -> Row:
    """Start it on all hosts, use it, end it."""
    launch = Launch({**os.environ, "PYTHONUNBUFFERED": "1"})
    count = len(hosts.addresses)
    try:
        with client(system, count) as using:
            assert using.stdin is not None
            assert using.stdout is not None
            began = time.monotonic()
            starting = threading.Thread(target=system.begin, args=(launch, hosts, port))
            starting.start()
            if not launch.located.wait(END_S):
                raise RuntimeError("".join(launch.lines[-50:]))
            using.stdin.write(f"{hosts.addresses[0]}:{port}\n")
            using.stdin.flush()
            moments = []
            for expected in ("registered", "ran"):
                if using.stdout.readline().strip() != expected:
                    raise RuntimeError("".join(launch.lines[-50:]))
                moments.append(time.monotonic() - began)
            own_s = _used_s(launch) if system.is_launcher else float("nan")
        starting.join()
        began = time.monotonic()
        system.end(launch)
        for each in launch.processes:
            each.wait(END_S)
        while (left := hosts.running()) and time.monotonic() - began < END_S:
            if system.kind == "dask" and time.monotonic() - began > END_S / 3:
                break
            threading.Event().wait(LOOK_S)
        end_s = time.monotonic() - began
    finally:
        for process in launch.processes:
            process.kill()
            process.wait()
        for remaining in hosts.running():
            with contextlib.suppress(psutil.Error):
                remaining.kill()
    return Row(registered_s=moments[0], ran_s=moments[1], end_s=end_s, own_s=own_s, left=len(left))


def all_systems(dask_python: str | None) -> list[System]:
    """Those that are compared."""
    here = sys.executable
    found: list[System] = [
        DCluster("dcluster", here),
        DCluster("dcluster --no-nanny", here, options=("--no-nanny",)),
        Daemons("its daemons, without SSH", here),
        BySSH("its daemons, by 50 ssh", here),
    ]
    if dask_python is not None:
        found.insert(2, DaskSSH("dask ssh", dask_python))
    return found
