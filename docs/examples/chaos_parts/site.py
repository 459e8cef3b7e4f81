"""The processes: a scheduler, workers, the links between, and who starts again what has ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from chaos_parts.systems import HOST

MARK = "CHAOS_RUN"
#: seconds between looks at the processes
LOOK_S = 0.02
#: seconds until what ended at once is started again
PAUSE_S = 0.5
END_S = 30.0


class Place:
    """Where a daemon runs, one after the other.

    Attributes:
        port: its link: where it finds the scheduler.
        name: of the daemon there now; each has another.
        fault: held while something is done to what is there.
        started: how many daemons there were.
    """

    def __init__(self, label: str, port: int) -> None:
        self.label = label
        self.port = port
        self.name = label
        self.fault = threading.Lock()
        self.started = 0
        self.process: subprocess.Popen[bytes] | None = None

    def family(self) -> list[psutil.Process]:
        """The daemon and what it has started, where it lives."""
        with contextlib.suppress(psutil.Error, AttributeError):
            mine = psutil.Process(self.process.pid)
            return [mine, *mine.children(recursive=True)]
        return []


class Site:
    """All of it.

    Args:
        system: what is tried.
        directory: for logs, and as a home.
        workers: how many.
        nthreads: of each.
        port: the scheduler's; the next ones are the links'.
    """

    def __init__(self, system: Any, directory: Path, workers: int, nthreads: int, port: int):
        self.system = system
        self._directory = directory
        self._nthreads = nthreads
        self.scheduler = Place("scheduler", port)
        self.workers = [Place(f"w{n}", port + n) for n in range(1, workers + 1)]
        self.client_link = Place("client", port + workers + 1)
        self._proxy: subprocess.Popen[bytes] | None = None
        self._orders = threading.Lock()
        self._ending = threading.Event()
        self._guard = threading.Thread(target=self._watch, daemon=True)
        self._client: Any = None
        self._client_lock = threading.Lock()
        self.clients = 0
        #: everything that was started, in that order
        self._all: list[subprocess.Popen[bytes]] = []

    # -- processes

    def _spawn(self, command: list[str], log: str, **pipes: Any) -> subprocess.Popen[bytes]:
        here = str(Path(__file__).parent.parent)
        env = {
            **os.environ,
            **self.system.env,
            MARK: str(self._directory),
            "TWISTED_DIST_HOME": str(self._directory),
            "PYTHONPATH": here,  # for the tasks' functions
        }
        with (self._directory / f"{log}.log").open("ab") as file:
            output = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL, **pipes}
            process = subprocess.Popen(command, env=env, cwd=self._directory, **output)
        self._all.append(process)
        return process

    def start(self) -> None:
        """Start all, and wait for the workers."""
        links = [each.port for each in (*self.workers, self.client_link)]
        ports = list(map(str, (self.scheduler.port, *links)))
        command = [sys.executable, str(Path(__file__).with_name("proxy.py")), *ports]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._proxy = self._spawn(command, "proxy", **pipes)
        assert self._proxy.stdout.readline() == b"ready\n"
        self.start_scheduler()
        deadline = time.monotonic() + END_S
        while not _listens(self.scheduler.port):  # its access file is there when it does
            assert time.monotonic() < deadline, "the scheduler does not listen"
            time.sleep(LOOK_S)
        for each in self.workers:
            self._start_worker(each)
        while len(self.system.workers(self.client())) < len(self.workers):
            assert time.monotonic() < deadline, "the workers do not come"
            time.sleep(LOOK_S)
        self._guard.start()

    def start_scheduler(self) -> None:
        """Start it, or start it again; it listens soon."""
        place = self.scheduler
        place.process = self._spawn(self.system.scheduler(place.port), place.label)
        place.started += 1

    def _start_worker(self, place: Place) -> None:
        place.started += 1
        place.name = f"{place.label}-{place.started}"
        command = self.system.worker(place.port, place.name, self._nthreads)
        place.process = self._spawn(command, place.label)

    def _watch(self) -> None:
        """Start workers again that have ended, for whatever reason; the scheduler's has its own."""
        since: dict[str, float] = {}
        while not self._ending.wait(LOOK_S):
            now = time.monotonic()
            for each in self.workers:
                is_due = now - since.get(each.label, -PAUSE_S) >= PAUSE_S
                if is_due and each.process is not None and each.process.poll() is not None:
                    since[each.label] = now
                    self._start_worker(each)

    def order(self, place: Place, what: str) -> None:
        """Tell the proxy to do something to a link."""
        assert self._proxy is not None
        with self._orders:
            self._proxy.stdin.write(json.dumps([place.port, what]).encode() + b"\n")
            self._proxy.stdin.flush()
            assert self._proxy.stdout.readline() == b"done\n"

    # -- the client

    def client(self) -> Any:
        """The client that there is, or another one after `give_up`."""
        with self._client_lock:
            if self._client is None:
                self._client = self.system.client(self.client_link.port)
                self.clients += 1
            return self._client

    def give_up(self, client: Any) -> None:
        """Close a client that has lost futures, unless it can be used again by itself."""
        with self._client_lock:
            if client is self._client and client is not None and not self.system.is_usable(client):
                self.close_client()

    def close_client(self) -> None:
        """Close it, in a while at most."""
        client, self._client = self._client, None
        if client is not None:
            closing = threading.Thread(target=_close, args=(client,), daemon=True)
            closing.start()
            closing.join(END_S)

    # -- the end

    def end(self) -> list[str]:
        """End all as a user does; what did not go well."""
        self._ending.set()
        if self._guard.is_alive():
            self._guard.join()
        self.close_client()
        problems = []
        for place in (*self.workers, self.scheduler):
            if place.process is None:
                continue
            place.process.terminate()
            try:
                status = place.process.wait(END_S)
            except subprocess.TimeoutExpired:
                problems.append(f"{place.label} does not end")
                continue
            if status:
                problems.append(f"{place.label} ended with status {status}")
        if self._proxy is not None:
            self._proxy.stdin.close()
            self._proxy.stdout.close()
            self._proxy.wait(END_S)
        deadline = time.monotonic() + 5
        while (left := _marked(self._directory)) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        for each in left:
            with contextlib.suppress(psutil.Error):
                problems.append(f"left behind: {each.pid} {' '.join(each.cmdline())[:80]}")
                each.kill()
        return problems


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        client.close()


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that waits to be reaped has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _marked(directory: Path) -> list[psutil.Process]:
    """The processes of this run that live, other than this one."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = each.pid != os.getpid() and each.environ().get(MARK) == str(directory)
            if is_ours and is_alive(each):
                found.append(each)
    return found
