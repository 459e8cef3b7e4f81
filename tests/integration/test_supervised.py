"""Daemons as a supervisor starts them: readiness, a watchdog, inherited sockets, /health."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from tests.support.daemons import BIN, PATIENCE_S
from tests.support.misdeeds import SCHEDULER, until
from twisted_dist import Client
from twisted_dist.version import VERSION

pytestmark = pytest.mark.slow

FORMS = pytest.mark.parametrize(
    "form", [(), ("twistd", "-n", "--pidfile="), ("twist",)], ids=" ".join
)
#: starts what follows as systemd does: descriptor 0 becomes 3, and it is told so
LAUNCHER = """
import os, sys
os.dup2(0, 3)
count = int(os.environ.pop("N", "1"))
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
if "NAMED" in os.environ:
    os.environ["LISTEN_FDNAMES"] = ":".join(["s.socket"] * count)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Manager:
    """What systemd is to a service: it listens for what that says of itself."""

    def __init__(self, tmp_path):
        self.path = str(tmp_path / "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(PATIENCE_S)
        self.heard = []

    def until(self, line):
        """Wait for a message with that line; all its lines."""
        while True:
            self.heard.append(self.sock.recv(4096).decode().split("\n"))
            if line in self.heard[-1]:
                return self.heard[-1]

    def rest(self):
        """All lines that have come and were not waited for."""
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self.sock.recv(4096).decode().split("\n"))
        return [line for lines in self.heard for line in lines]


@pytest.fixture
def manager(tmp_path):
    """Somebody to notify."""
    manager = Manager(tmp_path)
    yield manager
    manager.sock.close()


@FORMS
def test_notified(start, manager, tmp_path, form):
    """A scheduler and workers say when they are ready, what they are at, and when they stop."""
    env = {"NOTIFY_SOCKET": manager.path}
    scheduler = start(*form, *SCHEDULER, cwd=tmp_path, env=env)
    address = scheduler.address("Start scheduler at")
    assert manager.until("READY=1") == ["READY=1", f"STATUS=listening at {address}"]
    worker = start(*form, "dworker", address, "--nprocs", "2", cwd=tmp_path, env=env)
    assert manager.until("READY=1")[1] == f"STATUS=waiting for the scheduler at {address}"
    manager.until(f"STATUS=2 of 2 have registered with {address}")
    with Client(address) as client:
        # it is not for tasks
        assert client.submit(os.environ.get, "NOTIFY_SOCKET").result(PATIENCE_S) is None
    worker.process.send_signal(signal.SIGTERM)
    assert "EXTEND_TIMEOUT_USEC=40000000" in manager.until("STOPPING=1")
    assert worker.wait() == 0
    scheduler.process.send_signal(signal.SIGTERM)
    assert scheduler.wait() == 0
    assert "STOPPING=1" in manager.rest()


@pytest.mark.parametrize("command", [SCHEDULER, ("dworker", "127.0.0.1:9")], ids=lambda c: c[0])
def test_watchdog(start, manager, command):
    """A daemon is heard while its reactor runs, and not when it hangs."""
    env = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
    daemon = start(*command, env=env)
    manager.until("READY=1")
    for _ in range(3):
        manager.until("WATCHDOG=1")
    daemon.process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(daemon.process.pid).status() == psutil.STATUS_STOPPED)
    manager.rest()
    manager.sock.settimeout(1.0)
    with pytest.raises(TimeoutError):
        manager.until("WATCHDOG=1")
    daemon.process.send_signal(signal.SIGCONT)
    manager.sock.settimeout(PATIENCE_S)
    manager.until("WATCHDOG=1")


def launched(sock, *command, more=None):
    """A process that was given a socket as systemd gives it."""
    program, *rest = command
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(BIN / program), *rest],
        stdin=sock.fileno(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(more or {})},
    )


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
@FORMS
def test_inherited_socket(start, tmp_path, form, family):
    """`dscheduler` listens on the socket that it is given, and those who come wait meanwhile."""
    with socket.socket(getattr(socket, family)) as sock:
        if family == "AF_INET6":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("127.0.0.1" if family == "AF_INET" else "::", 0))
        sock.listen()
        port = sock.getsockname()[1]
        host = () if family == "AF_INET" else ("--host", "127.0.0.1")
        command = [*form, "dscheduler", *host]
        if form:
            command[0] = str(BIN / form[0])
        address = f"127.0.0.1:{port}"
        worker = None
        for _ in range(2):  # a scheduler that starts again has the same socket
            # twistd imports endpoints first, and those want names, as systemd always gives
            process = launched(sock, *command, more={"NAMED": "1"} if form else {})
            try:
                line = ""
                while "Start scheduler at" not in line:
                    line = process.stdout.readline()
                    assert line
                assert line.split()[-1] == address
                if worker is None:  # else it has dialled already, and waits to be accepted
                    worker = start("dworker", address, "--nthreads", "1")
                worker.line("^Registered")
                with Client(address) as client:
                    got = client.submit(os.environ.get, "LISTEN_FDS").result(PATIENCE_S)
                    assert got is None
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0
            finally:
                process.kill()
                process.wait(PATIENCE_S)
                process.stdout.close()


@pytest.mark.parametrize(
    ("kind", "count", "words"),
    [
        ((socket.AF_INET, socket.SOCK_DGRAM), "1", "not TCP's"),
        ((socket.AF_UNIX, socket.SOCK_STREAM), "1", "not TCP's"),
        ((socket.AF_INET, socket.SOCK_STREAM), "2", "several sockets"),
    ],
)
def test_other_sockets(kind, count, words):
    """`dscheduler` refuses in one line what it cannot listen on."""
    with socket.socket(*kind) as sock:
        process = launched(sock, "dscheduler", more={"N": count})
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    (line,) = output.splitlines()
    assert line.startswith("dscheduler: systemd has given ")
    assert words in line


def asked(url):
    """The status and what is said."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, json.load(problem)


def test_health(start, tmp_path):
    """`--http-port` says that a daemon is well, and when a worker drains that it is not."""
    http = ("--http-port", "127.0.0.1:0")
    scheduler = start(*SCHEDULER, *http)
    address = scheduler.address("^Start scheduler at")
    url = scheduler.line(r"^Health at: +(http://127\.0\.0\.1:\d+/health)")[1]
    assert asked(url) == (200, {"status": "ok", "version": VERSION})
    assert asked(url.replace("health", "")) == (404, {"status": "not found"})
    worker = start("dworker", address, "--nprocs", "2", "--nthreads", "1", "--http-port", "0")
    port = worker.line(r"^Health at: .*:(\d+)/health")[1]
    url = f"http://127.0.0.1:{port}/health"
    worker.line("^Registered")
    worker.line("^Registered")
    assert asked(url)[0] == 200
    begun, over = tmp_path / "begun", tmp_path / "over"
    with Client(address) as client:
        future = client.submit(held_back, begun, over)
        until(begun.exists)
        worker.process.send_signal(signal.SIGTERM)
        worker.line("leaving")
        assert asked(url) == (503, {"status": "stopping", "version": VERSION})
        over.touch()
        assert worker.wait() == 0
        future.cancel()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(port)))


def held_back(begun, over):
    """A task that ends when it may."""
    begun.touch()
    while not over.exists():
        time.sleep(0.02)


def test_taken_http_port(start):
    """A port for health that is taken is one line, and no start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        daemon = start(*SCHEDULER, "--http-port", port)
        assert daemon.wait() == 1
        (line,) = daemon.output()
    assert line.startswith(f"dscheduler: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "--http-port" in line


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_units(start, tmp_path):
    """What `--print-unit` prints is right to systemd."""
    for name, command in (
        ("dscheduler.service", ("dscheduler", "--print-unit")),
        ("dscheduler.socket", ("dscheduler", "--print-socket-unit")),
        ("dworker.service", ("dworker", "h:1", "--print-unit", "--resources", "GPU=2 a=1")),
    ):
        daemon = start(*command)
        assert daemon.wait() == 0
        (tmp_path / name).write_text("\n".join(daemon.output()) + "\n", encoding="utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    mine = [
        line for line in checked.stderr.splitlines() if "dscheduler" in line or "dworker" in line
    ]
    assert not mine, checked.stderr
