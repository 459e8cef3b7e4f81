"""Ctrl-C in the middle of anything: the client, and what it asked for, stay sound."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from twisted_dist import Client, LocalCluster

pytestmark = pytest.mark.slow

INTERRUPTS = 100
#: seconds between them, in turn: each falls at another place of a task's round trip
PAUSES_S = (0.002, 0.0031, 0.0052, 0.0047)


class Nuisance:
    """Sends SIGINT to the main thread, while it says that it is ready."""

    def __init__(self):
        self.ready = threading.Event()
        self.stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        main = threading.main_thread().ident
        for count in range(INTERRUPTS):
            self.ready.wait(20)
            time.sleep(PAUSES_S[count % len(PAUSES_S)])
            self.ready.clear()
            signal.pthread_kill(main, signal.SIGINT)
        self.stopped = True


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, whatever this process began with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupted_round_trips(interruptible):
    """Submissions and waits that Ctrl-C cuts short leave a client that works."""
    with LocalCluster(1) as cluster, Client(cluster.scheduler_address) as client:
        client.submit(abs, -1).result(20)
        nuisance = Nuisance()
        seen = done = 0
        while seen < INTERRUPTS:
            try:
                nuisance.ready.set()
                while True:
                    assert client.submit(abs, -done).result(20) == done
                    done += 1
            except KeyboardInterrupt:
                seen += 1
        assert done > 0
        assert client.gather(client.map(abs, range(1000))) == list(range(1000))


def test_interrupted_connecting(interruptible):
    """A client that Ctrl-C cuts short as it connects is not there when the scheduler answers."""
    with LocalCluster(1) as cluster, Client(cluster.scheduler_address) as client:
        pid = client.scheduler_info()["pid"]
        main = threading.main_thread().ident
        os.kill(pid, signal.SIGSTOP)
        try:
            threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                Client(cluster.scheduler_address, timeout=60)
        finally:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.5)
        assert client.scheduler_info()["clients"] == 1
