"""Workers that leave, on one simulated clock: the real services, wire and clients."""

from __future__ import annotations

from random import Random

import pytest

from tests.support import simtasks as t
from tests.support.simcluster import SimCluster
from twisted_dist.services.lifetime import Lifespan, Lifetime


@pytest.fixture
def cluster():
    """One scheduler, and nobody else yet."""
    cluster = SimCluster(7, checked=True)
    cluster.world.pace = 0.3
    return cluster


def close(cluster, client, *futures):
    """Nothing may be left."""
    for each in futures:
        each.release()
    cluster.wait(client.close())
    cluster.net.run(lambda: not cluster.scheduler.core.state.tasks, 60)
    cluster.stop()


def with_lifetimes(cluster, span, workers=6):
    """Workers that live so long, each with chances of its own; their addresses."""
    started = [cluster.add_worker(2) for _ in range(workers)]
    addresses = [cluster.wait(each) for each in started]
    for number, worker in enumerate(cluster.workers.values()):
        worker._lifetime = Lifetime(
            worker.reactor, span, worker._end_by_command, worker._restart, Random(number)
        )
        worker._lifetime.stream = worker._link.session
        worker._lifetime.begin()
    return addresses


def is_known(cluster, worker):
    """Whether a worker and the scheduler agree that it is registered."""
    return worker._is_known and worker.address in cluster.scheduler.core.state.by_address


def test_begins_anew_while_registering(cluster):
    """A worker whose lifetime is over before the scheduler's answer is there registers again."""
    cluster.wait(cluster.add_worker(1))
    (worker,) = cluster.workers.values()
    cluster.net.slowness = 300  # an answer takes longer than a new child
    session, link = worker._link.session, worker._link
    cluster.wait(cluster.restart_scheduler(0.0005))
    cluster.net.run(lambda: link.session not in (None, session), 60)
    assert not link.session.token
    worker._lifetime.leave(0.0, restarts=True)
    cluster.net.run_for(10.0)
    assert is_known(cluster, worker)
    assert not cluster.watch.differences()
    cluster.stop()


@pytest.mark.parametrize("again", ["its lifetime is over", "restart"])
def test_begins_anew_twice(cluster, again):
    """A worker that begins anew is not there before it has done so, to be let go meanwhile."""
    cluster.wait(cluster.add_worker(1))
    client = cluster.client()
    (worker,) = cluster.workers.values()
    cluster.wait(cluster.restart_scheduler(0.0005))
    cluster.net.run(lambda: worker._link.session is None, 60)
    worker._lifetime.leave(restarts=True)
    cluster.net.run_for(0.1)  # half of what a new child takes
    if again == "restart":
        cluster.wait(client.restart())
    else:
        worker._lifetime.leave(restarts=True)
    cluster.net.run_for(10.0)
    assert is_known(cluster, worker)
    assert not cluster.watch.differences()
    close(cluster, client)


@pytest.mark.parametrize("restarts", [False, True])
def test_lifetimes_cost_nothing(cluster, restarts):
    """Workers leave one after the other, or begin anew: each task runs once, nothing is lost."""
    addresses = with_lifetimes(cluster, Lifespan(2.0, 1.0, restarts))
    cluster.wait(cluster.add_worker(2))
    client = cluster.client()
    xs = client.map(t.double, range(150))
    ys = client.map(t.add, xs, [*xs[1:], xs[0]])
    got = cluster.wait(client.gather(ys))
    assert got == [2 * x + 2 * ((x + 1) % 150) for x in range(150)]
    assert max(cluster.world.begun.values()) == 1
    watch = cluster.watch
    assert (watch.losses, watch.attempts_lost, watch.lost_results) == (0, 0, 0)
    gone = [what for _, what, *_ in cluster.net.log if what == "worker has left"]
    joined = [what for what in cluster.net.log if "WorkerJoined" in str(what)]
    if restarts:
        assert not gone
        assert len(joined) >= 7 + len(addresses)
    else:
        assert len(gone) == len(addresses)
        assert len(joined) == 7
    close(cluster, client, *xs, *ys)


def test_all_but_one(cluster):
    """`retire_workers` of all but one moves all results there, and they are there."""
    for _ in range(4):
        cluster.wait(cluster.add_worker(1))
    client = cluster.client()
    futures = client.map(t.big, range(60))
    cluster.net.run(lambda: all(each.status == "finished" for each in futures), 600)
    left = cluster.wait(client.retire_workers(n=3))
    assert len(left) == 3
    (holds,) = cluster.wait(client.has_what()).values()
    assert len(holds) == 60
    assert cluster.wait(client.gather(futures)) == [t.big(n) for n in range(60)]
    assert set(cluster.world.begun.values()) == {1}
    cluster.net.run(lambda: len(cluster.workers) == 1, 60)
    close(cluster, client, *futures)


def test_scheduler_is_not_there(cluster):
    """A worker whose lifetime is over while it has no scheduler leaves all the same."""
    cluster.wait(cluster.add_worker(1))
    cluster.wait(cluster.scheduler.stop())
    (worker,) = cluster.workers.values()
    cluster.net.run(lambda: worker._link.session is None, 60)
    worker.retire()
    cluster.net.run(lambda: not cluster.workers, 60)
    cluster.net.run_for(1.0)
    assert not worker.reactor.getDelayedCalls()


def test_scheduler_goes_meanwhile(cluster):
    """A worker that waits for leave to go does not wait for a scheduler that is gone."""
    cluster.wait(cluster.add_worker(1))
    client = cluster.client()
    future = client.submit(t.lasts, 50.0, 1)
    (worker,) = cluster.workers.values()
    cluster.net.run(lambda: worker.core.tasks, 60)
    worker.retire()
    cluster.net.run_for(5.0)
    assert cluster.scheduler.core.state.retiring
    assert future.status == "pending"
    cluster.wait(cluster.scheduler.stop())
    cluster.net.run(lambda: not cluster.workers, 60)
    cluster.net.run_for(1.0)
    assert not worker.reactor.getDelayedCalls()


def test_scheduler_never_answers(cluster):
    """A worker that its scheduler never lets go leaves after its deadline and a little more."""
    cluster.wait(cluster.add_worker(1))
    ((ip, worker),) = cluster.workers.items()
    cluster.net.partition("10.0.0.1", ip)
    worker.retire(5.0)
    cluster.net.run_for(14.0)
    assert cluster.workers
    cluster.net.run(lambda: not cluster.workers, 4.0)
    cluster.net.heal("10.0.0.1", ip)
    cluster.net.run(lambda: not cluster.scheduler.core.state.workers, 60)
    cluster.stop()


def test_all_are_told_to_end(cluster):
    """Workers that are all told to end leave at once: what they hold has nowhere to go."""
    for _ in range(4):
        cluster.wait(cluster.add_worker(1))
    client = cluster.client()
    futures = client.map(t.big, range(40))
    cluster.net.run(lambda: all(each.status == "finished" for each in futures), 600)
    for worker in list(cluster.workers.values()):
        worker.retire(25.0, waits=False)
    cluster.net.run(lambda: not cluster.workers, 5.0)
    cluster.wait(cluster.add_worker(2))  # and what they held can be had again
    assert cluster.wait(client.gather(futures)) == [t.big(n) for n in range(40)]
    close(cluster, client, *futures)


def test_some_are_told_to_end(cluster):
    """Workers that are told to end hand over to those that stay: nothing runs again."""
    for _ in range(4):
        cluster.wait(cluster.add_worker(1))
    client = cluster.client()
    futures = client.map(t.big, range(40))
    cluster.net.run(lambda: sum(each.status == "finished" for each in futures) > 20, 600)
    for worker in list(cluster.workers.values())[:3]:
        worker.retire(25.0, waits=False)
    cluster.net.run(lambda: len(cluster.workers) == 1, 25.0)
    assert cluster.wait(client.gather(futures)) == [t.big(n) for n in range(40)]
    assert set(cluster.world.begun.values()) == {1}
    close(cluster, client, *futures)
