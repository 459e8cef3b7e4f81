"""Large values between hosts that share nothing: as bytes, as fast as they are taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support import hosts as network
from tests.support.daemons import PATIENCE_S
from tests.support.misdeeds import until
from tests.support.shared import MIB, memories

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2"),
]

#: what a user on a host of its own does; what it reads, it is told by the test
BEGIN = """
import sys, threading
from tests.support.shared import MIB, is_right, numbers, total
from twisted_dist import Client, rpc

client = Client("192.168.0.1:8786", timeout=30)
client.wait_for_workers(2, 30)
"""
TRAVELS = """
SIZE = 200 * MIB
import os
assert client.gather([client.submit(os.getppid, workers=[each]) for each in "ab"]) == [1, 1]
made = client.submit(numbers, 1, SIZE, workers=["a"])
assert client.submit(is_right, made, 1, SIZE, workers=["b"]).result(30)
assert is_right(made.result(30), 1, SIZE)
there = client.scatter(numbers(2, SIZE), workers=["a"])
assert client.submit(is_right, there, 2, SIZE, workers=["b"]).result(30)
print("right", flush=True)
"""
ANSWERS = """
SIZE = 500 * MIB
made = client.submit(numbers, 3, SIZE, workers=["a"])
client.submit(total, made, workers=["a"]).result(30)
address = next(k for k, v in client.scheduler_info()["workers"].items() if v["name"] == "a")
got = []
fetching = threading.Thread(target=lambda: got.append(made.result(60)))
fetching.start()
answers = 0
while not got:
    rpc(address).ping()
    assert address in client.nthreads()
    answers += 1
fetching.join()
assert is_right(got[0], 3, SIZE)
assert client.submit(os.getppid, workers=["a"]).result(30) == 1
print("answers", answers, flush=True)
"""
WAITS = """
SIZE = 200 * MIB
made = client.submit(numbers, 4, SIZE, workers=["192.168.0.2"])
client.submit(total, made, workers=["192.168.0.2"]).result(30)
print("made", flush=True)
assert sys.stdin.readline()
assert client.submit(is_right, made, 4, SIZE, workers=["b"]).result(60)
print("right", flush=True)
"""


class Site:
    """A scheduler on host 1, workers *a* and *b* on hosts 2 and 3, which see no others."""

    def __init__(self, start, hosts, directory):
        self._start = start
        self._hosts = hosts
        self._env = {"TWISTED_DIST_HOME": str(directory)}
        start("dscheduler", wrap=hosts.wrap[1], env=self._env).line("^Start scheduler at")
        self.a = self.worker(2, "a")
        self.b = self.worker(3, "b")

    def worker(self, number, name):
        """One more."""
        command = ("dworker", "192.168.0.1:8786", "--nthreads", "1", "--name", name)
        daemon = self._start(*command, wrap=self._hosts.apart[number], env=self._env)
        daemon.line("^Registered")
        return daemon

    def user(self, script):
        """A client on host 4."""
        return subprocess.Popen(
            [*self._hosts.apart[4], sys.executable, "-c", BEGIN + script],
            env={**os.environ, **self._env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def nanny(daemon):
    """The process that runs behind ``unshare``."""
    return daemon.family()[1]


def own(process):
    """Bytes that a process has for itself, and in what it shares."""
    about = process.memory_info()
    return about.rss - about.shared + sum(each.nbytes for each in memories(process.pid))


@pytest.fixture(scope="module")
def hosts():
    """Four hosts."""
    with network.building(4) as four:
        yield four


@pytest.fixture
def site(start, hosts, tmp_path):
    """Daemons on them."""
    return Site(start, hosts, tmp_path)


def test_travels(site):
    """200 MB are right from worker to worker, to a client and from one; a worker answers."""
    with site.user(TRAVELS + ANSWERS) as user:
        told, _ = user.communicate(timeout=3 * PATIENCE_S)
    right, answers = told.splitlines()
    assert right == "right"
    assert int(answers.split()[1]) >= 3


def comes(process):
    """Whether some, but not all, of a value of 200 MB has come to a process."""
    return any(MIB < each.nbytes < 150 * MIB for each in memories(process.pid))


def test_receiver_stops(site):
    """A worker whose peer takes nothing holds no more than before; it goes on when that does."""
    sender, receiver = nanny(site.a), nanny(site.b)
    with site.user(WAITS) as user:
        assert user.stdout.readline() == "made\n"
        before = own(sender)
        user.stdin.write("go\n")
        user.stdin.flush()
        until(lambda: comes(receiver))
        receiver.send_signal(signal.SIGSTOP)
        try:
            until_s = time.monotonic() + 1.5
            most = 0
            while time.monotonic() < until_s:
                most = max(most, own(sender))
                time.sleep(0.05)
        finally:
            receiver.send_signal(signal.SIGCONT)
        assert most - before < 20 * MIB
        assert user.stdout.readline() == "right\n"
        user.communicate(timeout=PATIENCE_S)


def test_sender_is_killed(site):
    """A value whose holder is killed while it travels is made again, and right."""
    sender, receiver = nanny(site.a), nanny(site.b)
    with site.user(WAITS) as user:
        assert user.stdout.readline() == "made\n"
        site.worker(2, "c")
        user.stdin.write("go\n")
        user.stdin.flush()
        until(lambda: comes(receiver))
        sender.kill()
        assert user.stdout.readline() == "right\n"
        user.communicate(timeout=PATIENCE_S)
    assert psutil.pid_exists(receiver.pid)
