"""Faults of real processes on hosts of their own, and what is asserted after each."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.daemons import PATIENCE_S, Daemon, all_gone
from tests.support.hosts import Hosts
from tests.support.misdeeds import until
from tests.support.workload import TASKS, times_run

ADDRESS = "192.168.0.1:8786"
#: hosts' numbers
SCHEDULER, WORKERS, CLIENT = 1, (2, 3, 4), 5
NTHREADS = 2
#: tasks that have begun when the fault comes
FIRST = TASKS // 5
#: how long a blip is: less than the 15 seconds after which a worker is suspect
BLIP_S = 5.0
#: how long packets are lost
ROUGH_S = 15.0
DOWN_S = 2.0


def marked(home: Path) -> list[psutil.Process]:
    """All processes that were started with this home, without those that wait to be reaped."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = each.environ().get("TWISTED_DIST_HOME") == str(home)
            if is_ours and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


class Site:
    """A scheduler, three workers with nannies and a client, each on a host of its own."""

    def __init__(self, start: Callable[..., Daemon], hosts: Hosts, directory: Path) -> None:
        self._start = start
        self.hosts = hosts
        self.home = directory / "home"
        self.tally = directory / "tally"
        #: those that are to end with status 0
        self.living: dict[int, Daemon] = {}
        self.start_scheduler()
        for number in WORKERS:
            self.start_worker(number)

    def start_scheduler(self) -> None:
        """Start it, or start it again on its address."""
        daemon = self._daemon(SCHEDULER, "dscheduler")
        daemon.line(f"^Start scheduler at {ADDRESS}")

    def start_worker(self, number: int) -> None:
        """Start one on a host."""
        daemon = self._daemon(number, "dworker", ADDRESS, "--nthreads", str(NTHREADS))
        daemon.line("^Registered")

    def _daemon(self, number: int, *command: str) -> Daemon:
        env = {"TWISTED_DIST_HOME": str(self.home)}
        daemon = self._start(*command, wrap=self.hosts.wrap[number], env=env)
        self.living[number] = daemon
        return daemon

    def kill(self, number: int) -> None:
        """SIGKILL to a daemon; whatever it has started must end too."""
        family = self.living.pop(number).family()
        family[0].kill()
        assert all_gone(family), "a child outlived its killed parent"

    def child(self, number: int) -> psutil.Process:
        """The process in which a worker's tasks run."""
        return until(lambda: self.living[number].family()[1:])[0]

    @contextlib.contextmanager
    def client(self) -> Iterator[User]:
        """The workload on its host, from its first task on."""
        env = {**os.environ, "TWISTED_DIST_HOME": str(self.home)}
        command = [sys.executable, "-m", "tests.support.workload", ADDRESS, str(self.tally)]
        user = User([*self.hosts.wrap[CLIENT], *command], env)
        try:
            until(lambda: sum(times_run(self.tally).values()) >= FIRST)
            yield user
        finally:
            user.close()

    def end(self) -> None:
        """SIGTERM to all: each ends with status 0, and no process is left."""
        assert len(marked(self.home)) >= len(self.living)  # they are found by that
        for number in sorted(self.living, reverse=True):  # the scheduler last
            daemon = self.living[number]
            daemon.process.terminate()
            assert daemon.wait() == 0, f"host {number}: {daemon.output()[-5:]}"
        until(lambda: not marked(self.home))


class User:
    """The client's process, and what it says."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=env, text=True, **pipes)
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        threading.Thread(
            target=lambda: self._said.put(self.process.communicate()), daemon=True
        ).start()

    def report(self, bound_s: float) -> dict[str, Any]:
        """What became of the work; AssertionError where it hangs or the process fails."""
        try:
            said, errors = self._said.get(timeout=bound_s)
        except queue.Empty:
            raise AssertionError(f"the client hangs: nothing within {bound_s:g} s") from None
        lines = said.splitlines()
        assert lines[1:], f"the client ended with {self.process.returncode}: {errors[-2000:]}"
        return json.loads(lines[1])

    def close(self) -> None:
        """End it by force."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: the test's.
        inject: does it, and returns when what was broken is whole again.
        again: tasks that may be begun more than once; None where values are lost, so that
            what they were made of is made again.
        times: of how many faults it is made; no task is begun again more often.
        bound_s: seconds after the fault until when all must be done.
    """

    name: str
    inject: Callable[[Site], None]
    again: int | None = 0
    times: int = 1
    bound_s: float = 60.0


def _kill_worker(site: Site) -> None:
    site.kill(2)


def _kill_two_workers(site: Site) -> None:
    site.kill(2)
    site.kill(3)
    site.start_worker(3)


def _kill_scheduler(site: Site) -> None:
    site.kill(SCHEDULER)
    time.sleep(DOWN_S)
    site.start_scheduler()


def _kill_child(site: Site) -> None:
    site.child(2).kill()


def _stop(number: int) -> Callable[[Site], None]:
    """SIGSTOP to a daemon and all its processes, for a while."""

    def inject(site: Site) -> None:
        family = site.living[number].family()
        for each in family:
            each.send_signal(signal.SIGSTOP)
        try:
            time.sleep(BLIP_S)
        finally:
            for each in reversed(family):
                each.send_signal(signal.SIGCONT)

    return inject


def _cut(number: int) -> Callable[[Site], None]:
    """Nothing reaches or leaves a host, for a while."""

    def inject(site: Site) -> None:
        site.hosts.cut(number)
        try:
            time.sleep(BLIP_S)
        finally:
            site.hosts.mend(number)

    return inject


def _reset(number: int) -> Callable[[Site], None]:
    """All connections of a host's end, at both ends, as by a router that has forgotten them."""

    def inject(site: Site) -> None:
        for each in {number, SCHEDULER}:
            peer = [] if number == SCHEDULER else ["dst", site.hosts.address(number)]
            words = peer if each == SCHEDULER else []
            subprocess.run(
                [*site.hosts.wrap[each], "ss", "-K", "-t", "state", "established", *words],
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=PATIENCE_S,
            )

    return inject


def _unplug(site: Site) -> None:
    site.hosts.unplug(2)
    try:
        time.sleep(BLIP_S)
    finally:
        site.hosts.plug(2)


def _lose_packets(site: Site) -> None:
    """Of each direction 30%, and 50 ms later."""
    link = site.hosts.links[2]
    link.set(delay_s=0.05, loss=0.3)
    try:
        time.sleep(ROUGH_S)
    finally:
        link.set()


IN_FLIGHT = len(WORKERS) * NTHREADS
FAULTS = [
    Fault("nothing", lambda site: None),
    Fault("kill-worker", _kill_worker, again=None),
    Fault("kill-two-workers-one-returns", _kill_two_workers, again=None, times=2),
    Fault("kill-scheduler", _kill_scheduler, again=IN_FLIGHT),
    Fault("kill-child", _kill_child, again=NTHREADS),
    Fault("stop-worker", _stop(2)),
    Fault("stop-scheduler", _stop(SCHEDULER)),
    Fault("cut-worker", _cut(2)),
    Fault("cut-scheduler", _cut(SCHEDULER)),
    Fault("cut-client", _cut(CLIENT)),
    Fault("reset-worker", _reset(2)),
    Fault("reset-scheduler", _reset(SCHEDULER)),
    Fault("reset-client", _reset(CLIENT)),
    Fault("unplug-worker", _unplug),
    Fault("lose-packets", _lose_packets),
]
