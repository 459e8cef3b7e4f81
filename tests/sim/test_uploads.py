"""Uploads in simulated clusters: every worker has them before its next task, come what may."""

from __future__ import annotations

from itertools import count

import pytest

from tests.support.simcluster import SimCluster
from twisted_dist.client.uploads import upload
from twisted_dist.errors import RefusedError
from twisted_dist.execution.upload_rules import MIB


def double(x):
    """A task."""
    return 2 * x


def send(client, name, blob, timeout=30.0):
    """Upload bytes; a Deferred."""
    return client.run_coroutine(upload, client.session, name, blob, timeout)


def have(cluster):
    """What each living worker's executor has."""
    return [worker._executor.uploads for worker in cluster.workers.values()]


class Guard:
    """Sees that no task is run by a worker that has not all that was uploaded by then."""

    def __init__(self, cluster):
        self.uploaded = {}
        #: what is being uploaded: tasks that run meanwhile may have it
        self.coming = {}
        self.ran = 0
        for worker in cluster.workers.values():
            self.watch(worker)

    def watch(self, worker):
        """See what one worker runs."""
        executor = worker._executor
        run = executor.run

        def checked(tasks, values):
            self.ran += len(tasks)
            missing = {
                name
                for name, blob in self.uploaded.items()
                if executor.uploads.get(name) not in (blob, self.coming.get(name))
            }
            assert not missing, missing
            run(tasks, values)

        executor.run = checked


def test_workers_of_now_and_later():
    """Workers that are there have an upload when it returns, others before their first task."""
    cluster = SimCluster(1)
    for _ in range(3):
        cluster.wait(cluster.add_worker())
    client = cluster.client()
    guard = Guard(cluster)
    blob = b"x" * (3 * MIB) + b"end"
    cluster.wait(send(client, "big.csv", blob))
    cluster.wait(send(client, "a.py", b"1"))
    assert have(cluster) == [{"big.csv": blob, "a.py": b"1"}] * 3
    guard.uploaded = {"big.csv": blob, "a.py": b"1"}
    xs = client.map(double, range(500))
    joining = cluster.add_worker(2)
    guard.watch(list(cluster.workers.values())[-1])
    cluster.wait(joining)
    assert cluster.wait(client.gather(xs)) == [2 * x for x in range(500)]
    assert have(cluster) == [guard.uploaded] * 4
    assert guard.ran >= 500
    del xs
    cluster.wait(client.close())
    cluster.stop()


def test_a_changed_one():
    """An upload of the same name takes the other's place; the same is not sent again."""
    cluster = SimCluster(2)
    cluster.wait(cluster.add_worker())
    client = cluster.client()
    cluster.wait(send(client, "a.py", b"1"))
    cluster.wait(send(client, "a.py", b"2" * (2 * MIB)))
    assert have(cluster) == [{"a.py": b"2" * (2 * MIB)}]
    before = cluster.net.clock.seconds()
    pieces = client.session._questions._last
    cluster.wait(send(client, "a.py", b"2" * (2 * MIB)))
    assert client.session._questions._last == pieces + 1
    assert cluster.net.clock.seconds() - before < 1
    cluster.wait(client.close())
    cluster.stop()


@pytest.mark.parametrize("seed", range(6))
def test_while_workers_come_and_go(seed):
    """`Client.upload_file` returns, and nothing runs without, while workers die and join."""
    cluster = SimCluster(seed)
    for _ in range(5):
        cluster.wait(cluster.add_worker())
    client = cluster.client()
    guard = Guard(cluster)
    xs = client.map(double, range(400))

    def event():
        if cluster.random.random() < 0.5 and len(cluster.workers) > 2:
            cluster.kill_worker()
        else:
            cluster.add_worker()
            guard.watch(list(cluster.workers.values())[-1])

    start = cluster.net.clock.seconds()
    for n in range(12):
        cluster.net.at(start + cluster.random.uniform(0, 0.02) * n, event)
    for n in range(4):
        blob = bytes([n]) * (MIB + n)
        guard.coming["data.csv"] = blob
        # one that dies before its port was seen to be reached is given up when its lease is over
        cluster.wait(send(client, "data.csv", blob, timeout=100.0))
        guard.uploaded["data.csv"] = blob
        ys = client.map(double, range(50))
        assert cluster.wait(client.gather(ys)) == [2 * x for x in range(50)]
    assert cluster.wait(client.gather(xs)) == [2 * x for x in range(400)]
    del xs, ys
    cluster.wait(client.close())
    cluster.stop()


def test_a_worker_that_cannot():
    """`Client.upload_file` names the worker that could not take it, and why."""
    cluster = SimCluster(3)
    names = count(1)
    for _ in range(2):
        cluster.wait(cluster.add_worker(name=f"w{next(names)}"))
    list(cluster.workers.values())[1]._executor.refused = {"a.py"}
    client = cluster.client()
    with pytest.raises(RefusedError, match=r"^a\.py could not be had by w2: no space left$"):
        cluster.wait(send(client, "a.py", b"1"))
    list(cluster.workers.values())[1]._executor.refused = set()
    cluster.wait(send(client, "a.py", b"1"))
    with pytest.raises(RefusedError, match="name of an uploaded file"):
        cluster.wait(send(client, "../a.py", b"1"))
    cluster.wait(client.close())
    cluster.stop()


def test_a_worker_that_hangs():
    """`Client.upload_file` says which workers have not got it in time."""
    cluster = SimCluster(4)
    cluster.wait(cluster.add_worker(name="alice"))
    cluster.wait(cluster.add_worker(name="bob"))
    client = cluster.client()
    ip = next(iter(cluster.workers))
    cluster.kill_worker(ip, silently=True)
    with pytest.raises(TimeoutError, match=r"^a\.py is not there within 2 s: alice$"):
        cluster.wait(send(client, "a.py", b"1", timeout=2.0))
    cluster.wait(send(client, "a.py", b"1", timeout=100.0))  # it is given up by then
    cluster.wait(client.close())
    cluster.stop()


def test_a_restart_forgets():
    """`Client.restart` undoes all uploads."""
    cluster = SimCluster(5)
    cluster.wait(cluster.add_worker())
    client = cluster.client()
    cluster.wait(send(client, "a.py", b"1"))
    cluster.wait(client.restart())
    cluster.wait(cluster.add_worker())
    assert have(cluster) == [{}, {}]
    cluster.wait(send(client, "a.py", b"1"))
    assert have(cluster) == [{"a.py": b"1"}] * 2
    cluster.wait(client.close())
    cluster.stop()
