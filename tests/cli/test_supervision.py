"""What a daemon tells systemd, over sockets of the test's own."""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet.task import Clock

from twisted_dist.cli.supervision import Supervisor


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """A socket that listens, and the name of it."""
    path = str(tmp_path / "notify")
    name = path if request.param == "file" else f"@twisted_dist/{os.getpid()}/{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path if request.param == "file" else "\0" + name[1:])
        sock.setblocking(False)
        yield sock, name


def heard(sock):
    """What was told, each as lines."""
    told = []
    while True:
        try:
            told.append(sock.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return told


def test_told(manager):
    """`Supervisor` says when the daemon is ready, what it is at, and when it stops."""
    sock, name = manager
    environ = {"NOTIFY_SOCKET": name, "HOME": "/"}
    clock = Clock()
    supervisor = Supervisor(clock, environ)
    assert environ == {"HOME": "/"}
    supervisor.ready("listening")
    supervisor.status("at it")
    supervisor.stopping(25.0)
    assert heard(sock) == [
        ["READY=1", "STATUS=listening"],
        ["STATUS=at it"],
        ["STOPPING=1", "EXTEND_TIMEOUT_USEC=25000000", "STATUS=leaving"],
    ]
    assert not clock.getDelayedCalls()


def test_watchdog(manager):
    """`Supervisor` is heard at half the time that it has, once it is ready, until it closes."""
    sock, name = manager
    clock = Clock()
    pid = str(os.getpid())
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": pid}
    supervisor = Supervisor(clock, environ)
    assert not environ
    clock.advance(10)
    assert not heard(sock)
    supervisor.ready("there")
    clock.pump([0.5] * 9)
    assert heard(sock)[1:] == [["WATCHDOG=1"]] * 4
    supervisor.close()
    assert not clock.getDelayedCalls()


def test_watchdog_of_another(manager):
    """A watchdog that is another process' is left alone."""
    sock, name = manager
    clock = Clock()
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    Supervisor(clock, environ).ready("there")
    assert not clock.getDelayedCalls()
    assert len(heard(sock)) == 1


@pytest.mark.parametrize("name", ["", "/there/is/nothing", "@nothing/there"])
def test_nobody(name):
    """Where nobody is told, nothing happens."""
    clock = Clock()
    supervisor = Supervisor(clock, {"NOTIFY_SOCKET": name} if name else {})
    for _ in range(3):
        supervisor.ready("there")
        supervisor.stopping(1.0)
    supervisor.close()
    assert not clock.getDelayedCalls()
