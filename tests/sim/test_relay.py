"""Workers that cannot be dialled, in simulated clusters: the scheduler relays."""

import pytest
from twisted.internet import defer

from tests.sim.test_found import CLIENT_IP, end, start
from tests.support import simtasks as t
from tests.support.simcluster import SCHEDULER_IP
from twisted_dist.errors import ConnectError
from twisted_dist.wire import relay
from twisted_dist.wire.reach import REMEMBER_S
from twisted_dist.wire.relay import IDLE_S, TICKET_S


def relayed(cluster, client, ip):
    """How many relays lead to a worker: what the scheduler says, and what the worker says."""
    worker = cluster.workers[ip]
    told = cluster.wait(client.scheduler_info())["workers"][worker.address]["relayed"]
    assert told == worker.identity()["relayed"]
    return told


def dial(cluster, client, address):
    """A data connection of the client's, as for a result."""
    return defer.Deferred.fromCoroutine(client.session.data.connection(address))


def test_a_client_gets_results():
    """`DataPool` brings a result from a worker that its client cannot dial, and stores there."""
    cluster, client, (a,) = start("a")
    cluster.net.partition(CLIENT_IP, a)
    x = client.submit(t.big, 1)
    assert cluster.wait(x.result(), 60) == t.big(1)
    assert relayed(cluster, client, a) == 1
    data = cluster.wait(client.scatter(t.big(2)), 60)
    assert cluster.wait(data.result(), 60) == t.big(2)
    assert relayed(cluster, client, a) == 1
    cluster.net.heal(CLIENT_IP, a)
    end(cluster, client)


def test_a_worker_gets_inputs():
    """`Worker` computes with what a worker holds that it cannot dial."""
    cluster, client, (a, b) = start("a", "b")
    cluster.net.partition(a, b)
    x = client.submit(t.big, 1, workers="a")
    y = client.submit(t.length, x, 1, workers="b")
    assert cluster.wait(y.result(), 60) == len(t.big(1)) + 1
    assert relayed(cluster, client, a) == 1
    cluster.net.heal(a, b)
    end(cluster, client)


def test_direct_again():
    """`DataPool` dials once more after its time, leaves the relay, and the relay ends."""
    cluster, client, (a,) = start("a")
    cluster.net.partition(CLIENT_IP, a)
    address = cluster.workers[a].address
    by_relay = cluster.wait(dial(cluster, client, address))
    cluster.net.run_for(REMEMBER_S + 1)
    again = cluster.wait(dial(cluster, client, address))  # which tries, and is not waited for
    assert again.transport.other[0] == SCHEDULER_IP
    cluster.net.heal(CLIENT_IP, a)
    for _ in range(20):
        cluster.net.run_for(REMEMBER_S / 10)
        direct = cluster.wait(dial(cluster, client, address))
    assert direct.transport.other[0] == a
    assert direct is cluster.wait(dial(cluster, client, address))
    cluster.net.run_for(IDLE_S + 1)
    assert by_relay.transport is None
    assert relayed(cluster, client, a) == 0
    end(cluster, client)


def test_not_dialled_again_and_again():
    """`Reach` remembers whom it could not dial: the next relay is there at once."""
    cluster, client, (a,) = start("a")
    cluster.net.partition(CLIENT_IP, a)
    address = cluster.workers[a].address
    cluster.wait(dial(cluster, client, address)).transport.abortConnection()
    before = cluster.net.clock.rightNow
    cluster.net.run_for(1)
    assert cluster.wait(dial(cluster, client, address), 1).transport is not None
    assert cluster.net.clock.rightNow < before + 2
    cluster.net.heal(CLIENT_IP, a)
    end(cluster, client)


def test_a_dead_worker():
    """`DataPool` fails at once for a worker that is no more, and says both why."""
    cluster, client, (a, _b) = start("a", "b")
    address = cluster.workers[a].address
    cluster.kill_worker(a)
    cluster.net.run_for(1)
    both = rf"cannot reach {address}: .*, and the scheduler cannot relay: no worker is registered"
    with pytest.raises(ConnectError, match=both):
        cluster.wait(dial(cluster, client, address), 1)
    end(cluster, client)


def test_a_worker_that_does_not_come():
    """`DataPool` fails within a bound where the worker does not come, and says so."""
    cluster, client, (a,) = start("a")
    address = cluster.workers[a].address
    cluster.net.partition(CLIENT_IP, a)
    cluster.net.partition(SCHEDULER_IP, a)
    with pytest.raises(ConnectError, match=f"cannot relay: {address} did not come to the relay"):
        cluster.wait(dial(cluster, client, address), 20)
    assert len(cluster.scheduler._relays) == 0
    cluster.net.heal(CLIENT_IP, a)
    cluster.net.heal(SCHEDULER_IP, a)
    end(cluster, client)


def test_too_many_relays(monkeypatch):
    """`Relays` refuse what is over their bound in one line, which the asker's error has."""
    monkeypatch.setattr(relay, "MOST_RELAYS", 1)
    cluster, client, (a, b) = start("a", "b")
    for each in (a, b):
        cluster.net.partition(CLIENT_IP, each)
    first = dial(cluster, client, cluster.workers[a].address)
    second = dial(cluster, client, cluster.workers[b].address)
    failures = []
    second.addErrback(failures.append)
    cluster.wait(defer.DeferredList([first, second]), 60)
    if not failures:  # it was first
        first.addErrback(failures.append)
    assert "cannot relay: it relays 1 connections already" in failures[0].getErrorMessage()
    for each in (a, b):
        cluster.net.heal(CLIENT_IP, each)
    end(cluster, client)


def test_an_asker_that_goes():
    """`Scheduler` frees the room of an asker that goes before the worker has come."""
    cluster, client, (a,) = start("a")
    cluster.net.partition(CLIENT_IP, a)
    cluster.net.partition(SCHEDULER_IP, a)
    failed = dial(cluster, client, cluster.workers[a].address).addErrback(lambda failure: None)
    cluster.net.run(lambda: len(cluster.scheduler._relays))
    cluster.wait(client.close())
    cluster.net.run_for(TICKET_S / 2)
    assert len(cluster.scheduler._relays) == 0
    assert failed.called
    cluster.net.heal(SCHEDULER_IP, a)
    cluster.stop()


def test_the_end_with_relays():
    """`Worker.stop` ends what is relayed to it; the other end learns of it."""
    cluster, client, (a, _b) = start("a", "b")
    cluster.net.partition(CLIENT_IP, a)
    data = cluster.wait(dial(cluster, client, cluster.workers[a].address))
    cluster.wait(cluster.workers.pop(a).stop())
    cluster.net.run_for(1)
    assert data.transport is None
    cluster.net.heal(CLIENT_IP, a)
    end(cluster, client)
