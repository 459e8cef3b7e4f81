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


def test_short_lives(cluster):
    """A scheduler that is killed as soon as a client is back is of an older generation."""
    client = cluster.client()
    link = client.session._reach._link
    for (ip, *_), _ in zip(sorted(cluster.workers.items()), range(2)):
        cluster.kill_worker(ip)
    generations = [0]
    for _ in range(5):
        cluster.wait(cluster.restart_scheduler(0.0005))
        cluster.net.run(lambda: link.life == cluster.scheduler._members.life, 60)
        cluster.net.run_for(0.0001)
        assert link._generation == cluster.scheduler.core.generation
        generations.append(cluster.scheduler.core.generation)
    assert generations == sorted(set(generations))
    left_clean(cluster, client)


def test_what_only_a_worker_knows(cluster):
    """A worker that comes back says of which generation it was given tasks, told of it or not."""
    client = cluster.client()
    cluster.wait(cluster.restart_scheduler(0.001))
    task = client.submit(t.lasts, 500.0, 1)
    cluster.net.run(lambda: any(each.core.tasks for each in cluster.workers.values()), 60)
    newest = cluster.scheduler.core.generation
    (worker,) = [each for each in cluster.workers.values() if each.core.tasks]
    assert worker.core.generation == newest
    worker._link._generation = 0
    for ip in [ip for ip, each in cluster.workers.items() if each is not worker]:
        cluster.kill_worker(ip)
    cluster.net.kill(client.session.reactor.ip)
    cluster.wait(cluster.restart_scheduler(0.001))
    cluster.net.run(lambda: worker._link.life == cluster.scheduler._members.life, 60)
    assert cluster.scheduler.core.generation == newest + 1
    del task


def test_functions_that_nobody_uses_just_then(cluster):
    """A function whose tasks have all ended can be used again after a restart."""
    client = cluster.client()
    assert cluster.wait(client.submit(t.double, 1).result()) == 2
    cluster.net.run_for(1.0)
    assert not client.session.records.all()
    cluster.wait(cluster.restart_scheduler(1.0))
    assert cluster.wait(client.submit(t.double, 2).result()) == 4
    left_clean(cluster, client)
