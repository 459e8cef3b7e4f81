"""Flow control between real processes: whoever stops, memory has a bound and nothing is lost."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import tests
from tests.support.daemons import Daemon
from tests.support.misdeeds import SCHEDULER
from twisted_dist import Client, Executor, LocalCluster, get_client
from twisted_dist.client import flow

pytestmark = pytest.mark.slow

ROOT = Path(tests.__file__).parent.parent
MIB = 2**20


class Flood:
    """A network of one worker, and a client of it that submits without end."""

    def __init__(self, start, tasks, size, most_pending, most_unsent):
        self.scheduler = start(*SCHEDULER, "--insecure")
        address = self.scheduler.address("^Start scheduler at")
        worker = start("dworker", address, "--nthreads", "2", "--insecure")
        worker.line("^Registered")
        words = map(str, (tasks, size, most_pending, most_unsent))
        command = (sys.executable, "-m", "tests.support.flood", address, *words)
        self.client: Daemon = start(*command, cwd=ROOT)
        self.client.line("^flows")

    def rss(self):
        """The scheduler's memory in MiB."""
        return psutil.Process(self.scheduler.process.pid).memory_info().rss / MIB

    def told(self):
        """What the client says in the end."""
        return json.loads(self.client.line(r"^\{.*")[0])


def stop(daemon, seconds, look=lambda: 0):
    """SIGSTOP for a while; the most that *look* has seen meanwhile."""
    seen = [look()]
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            seen.append(look())
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    return max(seen)


def test_stopped_client(start):
    """A scheduler keeps little for a client that is stopped, and that gets all of it later."""
    tasks, size = 60_000, 2000  # 120 MB each way
    flood = Flood(start, tasks, size, 20_000, 64 * MIB)
    before = flood.rss()
    most = stop(flood.client, 20, flood.rss)
    assert most - before < 20_000 * (2 * size + 2000) / MIB + 32
    assert flood.told()["right"] == tasks


def test_stopped_scheduler(start):
    """A client whose scheduler is stopped goes on up to its limits, and waits."""
    tasks = 200_000
    flood = Flood(start, tasks, 10, 20_000, 4 * MIB)
    process = psutil.Process(flood.client.process.pid)
    before = process.memory_info().rss / MIB
    most = stop(flood.scheduler, 5, lambda: process.memory_info().rss / MIB)
    assert most - before < 100
    told = flood.told()
    assert told["right"] == tasks
    assert told["pending"] <= 20_000 + 16_384 + 5000


def test_ctrl_c_gets_out(monkeypatch):
    """Ctrl-C ends a submission that waits for room, and the client goes on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with LocalCluster(1) as cluster, Client(cluster.scheduler_address) as client:
            blocked = client.map(time.sleep, [0.5] * 20)
            monkeypatch.setattr(flow, "MOST_PENDING", 10)
            main = threading.main_thread().ident
            timer = threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT))
            timer.start()
            client.session.submitter._look_at = 0
            with pytest.raises(KeyboardInterrupt):
                client.submit(abs, -1)
            timer.join()
            monkeypatch.setattr(flow, "MOST_PENDING", 1000)
            client.cancel(blocked)
            assert client.submit(abs, -1).result(20) == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_executor(monkeypatch):
    """An `Executor` waits for room without holding up what it waits for, and `shutdown` for it."""
    with Executor() as executor:
        executor.submit(abs, -1).result(60)
        monkeypatch.setattr(flow, "MOST_PENDING", 100)
        done = []
        thread = threading.Thread(
            target=lambda: done.extend(executor.map(abs, range(20_000))), daemon=True
        )
        thread.start()
        thread.join(60)
        assert done == list(range(20_000))
        futures = []
        thread = threading.Thread(
            target=lambda: futures.extend(executor.submit(abs, n) for n in range(3000)), daemon=True
        )
        thread.start()
        thread.join(60)
    assert [each.result(0) for each in futures] == list(range(3000))


def submitting():
    """A task that submits more than it may at once, on a worker whose only thread it has."""
    flow.MOST_PENDING = 100
    client = get_client()
    return sum(client.gather(client.map(abs, range(5000))))


def test_task_that_submits():
    """A task that waits for room leaves its place to those that it waits for."""
    with LocalCluster(1, 1) as cluster, Client(cluster.scheduler_address) as client:
        assert client.submit(submitting).result(60) == sum(range(5000))
