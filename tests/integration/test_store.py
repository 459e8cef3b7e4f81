"""Large values are one memory for all processes of a host, and end with the last of them."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest

from tests.support.daemons import PATIENCE_S, all_gone, is_gone, starting
from tests.support.misdeeds import SCHEDULER, until
from tests.support.shared import (
    MIB,
    inodes,
    is_right,
    kept,
    mapped,
    memories,
    numbers,
    total,
    where,
)
from twisted_dist import Client

pytestmark = pytest.mark.slow

LARGE = 64 * MIB


class Site:
    """A scheduler, workers *a* and *b*, and a client, on this host."""

    def __init__(self, start, *options):
        self.scheduler = start(*SCHEDULER)
        self.address = self.scheduler.address("^Start scheduler at")
        command = ("dworker", self.address, "--nthreads", "1", *options)
        self.a, self.b = (start(*command, "--name", name) for name in "ab")
        self.client = Client(self.address, PATIENCE_S)
        self.client.wait_for_workers(2, PATIENCE_S)
        self.daemons = (self.scheduler, self.a, self.b)

    def nothing_is_kept(self):
        """Wait until nobody has any value's memory."""
        until(lambda: not kept(*self.daemons))


@pytest.fixture(scope="module")
def site(home):
    """Daemons and a client, for tests that leave them as they were."""
    with starting() as start:
        site = Site(start)
        with site.client:
            yield site


def test_what_a_client_has_stays(start):
    """An array that a client has stays what it is, whatever becomes of its future and worker."""
    site = Site(start)
    client = site.client
    future = client.submit(numbers, 3, LARGE, workers=["a"])
    here = future.result(PATIENCE_S)
    view = here[1000:2000]
    del future
    for seed in range(30):  # memory is used again, but not this
        again = client.submit(numbers, seed, LARGE // 4, workers=["a"])
        assert client.submit(total, again).result(PATIENCE_S) == int(
            numbers(seed, LARGE // 4).sum()
        )
        last = again.result(PATIENCE_S)
        assert is_right(last, seed, LARGE // 4)
    site.a.process.kill()
    for seed in range(20):
        assert is_right(
            client.submit(numbers, seed, LARGE // 4).result(PATIENCE_S), seed, LARGE // 4
        )
    assert is_right(here, 3, LARGE)
    del here, again
    last = None
    client.close()
    assert (view == np.arange(1003, 2003)).all()
    assert inodes(os.getpid()) == {mapped(view)}
    del view
    until(lambda: not memories(os.getpid()))


def test_one_memory(site):
    """A result that a worker made, another used and a client has is one memory, until it ends."""
    client = site.client
    names = set(os.listdir("/dev/shm"))
    made = client.submit(numbers, 7, LARGE, workers=["a"])
    used = client.submit(where, made, workers=["b"]).result(PATIENCE_S)
    here = made.result(PATIENCE_S)
    inode = mapped(here)
    assert used == (inode, False)
    assert inode in inodes(site.a.process.pid)
    assert inode in inodes(site.b.process.pid)
    assert not here.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        here[0] = 1
    assert is_right(here, 7, LARGE)
    assert kept(*site.daemons) == {inode}
    del made
    until(lambda: not memories(site.a.process.pid) and not memories(site.b.process.pid))
    assert is_right(here, 7, LARGE)
    del here
    site.nothing_is_kept()
    until(lambda: set(os.listdir("/dev/shm")) <= names)


def test_scatter(site):
    """What was scattered stays what it was, when the client writes to its own afterwards."""
    client = site.client
    own = numbers(5, LARGE)
    there = client.scatter(own)
    expected = int(own.sum())
    own[:] = 0
    sums = [client.submit(total, there, workers=[name]) for name in "ab"]
    assert client.gather(sums) == [expected] * 2
    assert is_right(there.result(PATIENCE_S), 5, LARGE)
    seen = {client.submit(where, there, workers=[name]).result(PATIENCE_S)[0] for name in "ab"}
    assert len(seen) == 1


def test_child_is_killed(site):
    """Results that a child was making when it was killed are made again; no descriptor stays."""
    client = site.client
    child = client.submit(os.getpid, workers=["a"]).result(PATIENCE_S)
    nanny = psutil.Process(site.a.process.pid)
    before = nanny.num_fds()
    for round_ in range(3):
        seeds = range(100 * round_, 100 * round_ + 12)
        futures = client.map(numbers, seeds, [8 * MIB] * 12, workers=["a"], retries=2)
        futures[3].result(PATIENCE_S)
        os.kill(child, signal.SIGKILL)
        for seed, each in zip(seeds, client.gather(futures)):
            assert is_right(each, seed, 8 * MIB)
        child = client.submit(os.getpid, workers=["a"], pure=False).result(PATIENCE_S)
    del futures, each
    site.nothing_is_kept()
    until(lambda: abs(nanny.num_fds() - before) <= 1)


def test_all_are_killed(start, tmp_path):
    """Daemons that are killed leave nothing: no memory, no file, no process."""
    names = set(os.listdir("/dev/shm"))
    options = ("--memory-limit", "256MiB", "--local-directory", str(tmp_path))
    site = Site(start, *options)
    with site.client as client:
        futures = client.map(numbers, range(24), [16 * MIB] * 24)
        client.gather([client.submit(total, each) for each in futures])
        processes = [each for daemon in site.daemons for each in daemon.family()]
        for daemon in (site.a, site.b, site.scheduler):
            daemon.process.kill()
        assert all_gone(processes[1:])
        until(lambda: all(map(is_gone, processes)))
        assert list(tmp_path.iterdir()) == []
        until(lambda: set(os.listdir("/dev/shm")) <= names)
        del futures
