"""Hostile connections to the ports of daemons that are at work: nothing comes of them.

1,000 connections, of every kind in `tests.support.hostile`; ``TWISTED_DIST_HOSTILE=10000`` in
the environment makes it ten times that.
"""

import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.support.daemons import PATIENCE_S
from tests.support.hostile import HELLO, Attacker, dialled, heard
from twisted_dist import Client
from twisted_dist.access.find import find_access
from twisted_dist.wire.control import HELLO_DEADLINE_S

pytestmark = pytest.mark.slow


CONNECTIONS = int(os.environ.get("TWISTED_DIST_HOSTILE", "1000"))
#: before memory is measured: what is allocated once is there then
WARM_UP = 100
#: connections that are made at a time
ATTACKERS = 4
TASKS = 300
#: of a daemon's memory, by all of them; 50 KiB that stay of each would be four times that
MOST_GROWTH_BYTES = 10 * 2**20


def square(x):
    """Some work."""
    return x * x


class Network:
    """A scheduler and a worker with its child, as processes."""

    def __init__(self, start):
        self.scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self.scheduler.address("^Start scheduler at")
        self.worker = start("dworker", self.address, "--nthreads", "1", "--host", "127.0.0.1")
        self.addresses = [self.address, self.worker.address("^Start worker at:")]
        self.worker.line("^Registered")
        self.access = find_access(self.address)
        self.daemons = [psutil.Process(each.process.pid) for each in (self.scheduler, self.worker)]

    def attacked(self, numbers, seed):
        """Hostile connections, several at a time; returns when all are closed at this end."""
        with ThreadPoolExecutor(ATTACKERS) as pool:
            running = [
                pool.submit(
                    Attacker(self.addresses, self.access, f"{seed}.{each}").attack,
                    numbers[each::ATTACKERS],
                )
                for each in range(ATTACKERS)
            ]
            for each in running:
                each.result()

    def children(self):
        """Pids of what the nanny has started."""
        return [each.pid for each in self.daemons[1].children(recursive=True)]

    def descriptors(self):
        """How many each daemon has open."""
        return [each.num_fds() for each in self.daemons]

    def rss(self):
        """Bytes of memory of each daemon."""
        return [each.memory_info().rss for each in self.daemons]

    def settles(self, descriptors):
        """Wait until no more descriptors are open than were."""
        deadline = time.monotonic() + PATIENCE_S
        while (now := self.descriptors()) != descriptors:
            assert time.monotonic() < deadline, f"{now} are open, and {descriptors} were"
            time.sleep(0.05)

    def end(self):
        """Ask both to end; they do, and have reported no failure."""
        for each in (self.worker, self.scheduler):
            each.process.terminate()
            assert each.wait() == 0
            for index, line in enumerate(each.output()):
                bad = "Traceback" in line or "Unhandled" in line
                assert not bad, "\n".join(each.lines[index : index + 30])


@pytest.fixture
def network(start):
    """A scheduler and a worker."""
    return Network(start)


class Work(threading.Thread):
    """Has a network work all the time; a context manager."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self._client = client
        self._over = threading.Event()
        self.answers = []

    def run(self):
        """Until it is over."""
        while not self._over.is_set():
            futures = self._client.map(square, range(len(self.answers), len(self.answers) + TASKS))
            self.answers.append(sum(self._client.gather(futures)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *problem):
        self._over.set()
        self.join(PATIENCE_S)

    def assert_right(self):
        """All answers came, and are right."""
        assert not self.is_alive()
        assert self.answers == [
            sum(x * x for x in range(first, first + TASKS)) for first in range(len(self.answers))
        ]


def test_hostile_connections(network):
    """`ControlProtocol` and `TLSProtocol` end hostile connections, and work goes on meanwhile."""
    with Client(network.address) as client:
        assert client.submit(square, 7).result(PATIENCE_S) == 49
        children = network.children()
        assert children
        before = network.descriptors()
        with Work(client) as work:
            network.attacked(range(WARM_UP), "warm-up")
            network.settles(before)
            rss = network.rss()
            done = len(work.answers)
            network.attacked(range(WARM_UP, CONNECTIONS), "attack")
            assert work.is_alive()
            assert len(work.answers) > done
            network.settles(before)
            growth = [now - then for now, then in zip(network.rss(), rss)]
        work.assert_right()
        assert max(growth) < MOST_GROWTH_BYTES, growth
        assert all(each.is_running() for each in network.daemons)
        assert network.children() == children
        assert client.submit(os.getpid).result(PATIENCE_S) in children
    network.end()


def test_silent_connections(network):
    """`ControlProtocol` ends connections that say nothing by the deadline; work goes on."""
    silent = [dialled(network.address) for _ in range(300)]
    began = time.monotonic()
    waiting = select.poll()
    opened = {each.fileno(): each for each in silent}
    for each in opened:
        waiting.register(each, select.POLLIN)
    with Client(network.address) as client:
        assert client.submit(square, 7).result(PATIENCE_S) == 49
        assert time.monotonic() - began < HELLO_DEADLINE_S
        while opened and time.monotonic() - began < 2 * HELLO_DEADLINE_S:
            for descriptor, _ in waiting.poll(1000):
                waiting.unregister(descriptor)
                assert heard(opened.pop(descriptor)) == b""
            assert client.submit(square, 8).result(PATIENCE_S) == 64
    assert not opened
    for each in silent:
        each.close()
    network.end()


@pytest.mark.parametrize("kind", ["nobody", "stranger"])
def test_strangers_hear_nothing(network, kind):
    """`TLSProtocol` gives no byte of our protocol to whoever has no credential of the network."""
    for address in network.addresses:
        context = getattr(Attacker([], network.access, 0), kind)
        with dialled(address) as sock:
            try:
                with context.wrap_socket(sock) as secured:
                    secured.sendall(HELLO)
                    received = secured.recv(1000)
            except TimeoutError:
                raise
            except OSError:  # TLS's alert, or a reset that was faster
                received = b""
            assert received == b""
    network.end()
