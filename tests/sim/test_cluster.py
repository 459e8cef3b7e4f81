"""Whole clusters on one simulated clock: the real services, wire and clients."""

from __future__ import annotations

import pytest

from tests.support.simcluster import SimCluster
from twisted_dist.errors import ConnectError
from twisted_dist.services.scheduler import Scheduler


def double(x):
    """A task."""
    return 2 * x


def add(x, y):
    """A task with inputs."""
    return x + y


def churn(seed, workers, tasks, events, checked=False):
    """Run a map and sums of its neighbours while workers join and die; the log."""
    cluster = SimCluster(seed, checked)
    for _ in range(workers):
        cluster.add_worker(cluster.random.choice([1, 2, 4]))
    client = cluster.client()
    xs = client.map(double, range(tasks // 2))
    ys = client.map(add, xs, [*xs[1:], xs[0]])

    def event():
        if cluster.random.random() < 0.5 and len(cluster.workers) > workers // 2:
            cluster.kill_worker()
        else:
            cluster.add_worker()

    start = cluster.net.clock.seconds()
    for n in range(events):
        cluster.net.at(start + cluster.random.uniform(0, 0.02) * n, event)
    got = cluster.wait(client.gather(ys))
    n = tasks // 2
    assert got == [2 * x + 2 * ((x + 1) % n) for x in range(n)]
    del xs, ys
    cluster.wait(client.close())
    cluster.net.run(lambda: not cluster.scheduler.core.state.tasks, 60)
    cluster.stop()
    return cluster.net.log


def test_ten_thousand_tasks_on_two_hundred_workers():
    """`Scheduler` gets 10,000 tasks right on 200 workers of which some die and some join."""
    log = churn(1, 200, 10_000, 60)
    assert sum(kind == "worker killed" for _, kind, *_ in log) > 10


@pytest.mark.parametrize("seed", range(4))
def test_same_seed_same_log(seed):
    """`SimCluster` gives the same log, byte counts and instants, for the same seed."""
    assert churn(seed, 10, 300, 12, checked=True) == churn(seed, 10, 300, 12)


def test_other_seed_other_log():
    """`SimCluster` gives another log for another seed, so comparing logs says something."""
    assert churn(1, 5, 50, 3) != churn(2, 5, 50, 3)


def test_short_partition_loses_nothing():
    """`Scheduler` keeps a worker that it cannot hear for less than the lease."""
    cluster = SimCluster(7, checked=True)
    cluster.wait(cluster.add_worker(2))
    cluster.wait(cluster.add_worker(2))
    client = cluster.client()
    xs = client.map(double, range(400))
    ip = next(iter(cluster.workers))
    start = cluster.net.clock.seconds()
    cluster.net.at(start + 1.0, lambda: cluster.net.partition("10.0.0.1", ip))
    cluster.net.at(start + 31.0, lambda: cluster.net.heal("10.0.0.1", ip))
    assert cluster.wait(client.gather(xs)) == [2 * x for x in range(400)]
    assert cluster.wait(client.scheduler_info())["workers"].keys() == {
        worker.address for worker in cluster.workers.values()
    }
    assert cluster.world.begun.total() == 400
    cluster.wait(client.close())
    cluster.stop()


def test_silent_worker_is_given_up_after_its_lease():
    """`Scheduler` runs the tasks of a worker elsewhere once its lease has run out."""
    cluster = SimCluster(8, checked=True)
    cluster.wait(cluster.add_worker())
    silent = next(iter(cluster.workers))
    client = cluster.client()
    xs = client.map(double, range(20))
    cluster.net.partition("10.0.0.1", silent)
    cluster.wait(cluster.add_worker())
    assert cluster.wait(client.gather(xs), 90) == [2 * x for x in range(20)]
    cluster.net.heal("10.0.0.1", silent)
    cluster.wait(client.wait_for_workers(2), 60)  # it finds out, and registers again
    cluster.wait(client.close())
    cluster.stop()


def test_severed_worker_registers_again():
    """`Worker` registers again when its connection is lost, and its tasks run."""
    cluster = SimCluster(9, checked=True)
    cluster.wait(cluster.add_worker(2))
    client = cluster.client()
    xs = client.map(double, range(100))
    start = cluster.net.clock.seconds()
    cluster.net.at(start + 0.5, lambda: cluster.net.sever("10.0.0.1", next(iter(cluster.workers))))
    assert cluster.wait(client.gather(xs)) == [2 * x for x in range(100)]
    cluster.wait(client.close())
    cluster.stop()


def test_worker_before_scheduler():
    """`Worker.start` waits for a scheduler that is not there, and registers when it comes."""
    cluster = SimCluster(10)
    cluster.wait(cluster.scheduler.stop())
    registered = cluster.add_worker()
    cluster.net.run(lambda: cluster.net.clock.seconds() > 20)
    assert not registered.called
    scheduler = Scheduler(reactor=cluster.net.hosts["10.0.0.1"], host="10.0.0.1", insecure=True)
    cluster.scheduler = scheduler
    cluster.wait(scheduler.start(8786))
    assert cluster.wait(registered, 10) == next(iter(cluster.workers.values())).address
    cluster.stop()


@pytest.mark.parametrize("connects", [True, False])
@pytest.mark.parametrize("seconds", [0.0005, 0.01, 5.0, 9.99, 12.0])
def test_stop_while_registering(seconds, connects):
    """`Worker.stop` leaves no call behind, in whatever step of registering it comes."""
    cluster = SimCluster(11)
    if connects:
        cluster.net.hosts["10.0.0.1"].sleep(60.0)  # connections are made, and nothing is said
    else:
        cluster.net.partition("10.0.0.1", "10.1.0.1")
    registered = cluster.add_worker()
    registered.addErrback(lambda failure: failure.trap(ConnectError))
    end = cluster.net.clock.seconds() + seconds
    cluster.net.run(lambda: cluster.net.clock.seconds() >= end)
    cluster.stop()


def test_a_release_never_overtakes_what_needs_it():
    """`AsyncClient` tells of a released future after the submission that it is an argument of."""
    cluster = SimCluster(1, checked=True)
    cluster.add_worker()
    client = cluster.client()
    x = client.submit(double, 4)
    cluster.wait(x.result())
    y = client.submit(double, x)
    del x
    client.session.sender.tell_releases()  # its timer may come before the submission is written
    assert cluster.wait(y.result()) == 16
    cluster.wait(client.close())
    cluster.stop()


def test_futures_that_only_a_generator_holds():
    """`AsyncClient.map` over a generator of futures keeps each until the calls are sent."""
    cluster = SimCluster(1, checked=True)
    cluster.add_worker()
    client = cluster.client()

    def xs():
        for n in range(10):
            client.session.sender.tell_releases()
            yield client.submit(double, n)

    ys = client.map(double, xs())
    assert cluster.wait(client.gather(ys)) == [4 * n for n in range(10)]
    cluster.wait(client.close())
    cluster.stop()
