"""A scheduler that is killed and started again: nothing promised is lost, little is done twice."""

from __future__ import annotations

import pytest

from tests.support import simtasks as t
from tests.support.simcluster import SimCluster
from twisted_dist.core.claims import GRACE_S
from twisted_dist.services.members import QUIET_S


@pytest.fixture
def cluster():
    """Three workers of two threads."""
    cluster = SimCluster(7, checked=True)
    for _ in range(3):
        cluster.wait(cluster.add_worker(2))
    return cluster


def left_clean(cluster, client):
    """Close, and see that nothing stays."""
    cluster.wait(client.close())
    cluster.net.run(lambda: not cluster.scheduler.core.state.tasks, 200)
    cluster.stop()


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 1.0])
def test_in_the_middle(cluster, after_s):
    """Tasks that ran go on, results stay where they are, futures come true."""
    client = cluster.client()
    xs = client.map(t.double, range(60))
    ys = client.map(t.add, xs, [*xs[1:], xs[0]])
    cluster.net.run_for(after_s)
    cluster.wait(cluster.restart_scheduler(2.0))
    got = cluster.wait(client.gather(ys))
    assert got == [2 * x + 2 * ((x + 1) % 60) for x in range(60)]
    assert max(cluster.world.begun.values()) == 1
    del xs, ys
    left_clean(cluster, client)


def test_long_tasks_go_on(cluster):
    """Tasks that run while the scheduler is gone are not begun again."""
    client = cluster.client()
    xs = [client.submit(t.lasts, 10.0, n) for n in range(6)]
    cluster.net.run_for(1.0)
    cluster.wait(cluster.restart_scheduler(2.0))
    assert cluster.wait(client.gather(xs)) == list(range(6))
    assert max(cluster.world.begun.values()) == 1
    assert cluster.net.clock.rightNow < 15.0
    del xs
    left_clean(cluster, client)


def test_one_after_the_other(cluster):
    """A scheduler whose members have all been back for a while is soon replaced by another."""
    client = cluster.client()
    cluster.net.run_for(QUIET_S + 0.5)
    for n in range(4):
        cluster.wait(cluster.restart_scheduler(1.0))
        since = cluster.net.clock.rightNow
        assert cluster.wait(client.submit(t.double, n).result()) == 2 * n
        assert cluster.net.clock.rightNow - since < GRACE_S / 2
        cluster.net.run_for(QUIET_S + 0.5)
    left_clean(cluster, client)


def test_functions_that_nobody_uses_just_then(cluster):
    """A function whose tasks have all ended can be used again after a restart."""
    client = cluster.client()
    assert cluster.wait(client.submit(t.double, 1).result()) == 2
    cluster.net.run_for(1.0)
    assert not client.session.records.all()
    cluster.wait(cluster.restart_scheduler(1.0))
    assert cluster.wait(client.submit(t.double, 2).result()) == 4
    left_clean(cluster, client)
