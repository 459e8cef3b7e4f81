"""Work goes on when processes are killed."""

import os
import time

import psutil
import pytest

from tests.support.daemons import PATIENCE_S, all_gone
from twisted_dist import Client, as_completed

pytestmark = pytest.mark.slow

TASKS = 10_000


def square(x):
    """A little work, so that the worker dies in the middle of it."""
    time.sleep(0.0005)
    return x, x * x, os.getppid()


def test_killed_worker(start):
    """10,000 tasks while one of three workers is killed with SIGKILL: all right, no orphan."""
    scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", "0")
    address = scheduler.address("^Start scheduler at")
    workers = [start("dworker", address, "--nthreads", "2") for _ in range(3)]
    with Client(address) as client:
        client.wait_for_workers(3, PATIENCE_S)
        futures = client.map(square, range(TASKS))
        done = as_completed(futures)
        for _ in range(TASKS // 10):
            next(done)
        victim = workers[1]
        children = psutil.Process(victim.process.pid).children(recursive=True)
        assert children
        victim.process.kill()
        results = client.gather(futures)
        assert [x[:2] for x in results] == [(x, x * x) for x in range(TASKS)]
        ran_on = {pid for *_, pid in results}
        assert {each.process.pid for each in workers} >= ran_on
        assert ran_on >= {workers[0].process.pid, workers[2].process.pid}
        assert all_gone(children)
        assert len(client.nthreads()) == 2
    families = [each.family() for each in (scheduler, workers[0], workers[2])]
    for each in (workers[0], workers[2], scheduler):
        each.process.terminate()
        assert each.wait() == 0
    assert all(map(all_gone, families))
