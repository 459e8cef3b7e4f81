"""`Client.run` in simulated clusters: each worker's call ends, come what may."""

from __future__ import annotations

import pytest

from tests.sim import chaos
from tests.support import simchaos
from tests.support import simtasks as t
from tests.support.simcluster import SCHEDULER_IP, SimCluster
from tests.support.simerrands import ERRANDS
from twisted_dist.client import session as session_module
from twisted_dist.errors import (
    ConnectionClosedError,
    NoWorkerError,
    RefusedError,
    RemoteTraceback,
    TaskKilledError,
    UsageProblem,
    WorkerLostError,
)


@pytest.fixture
def cluster():
    """Three workers, two of them with names."""
    made = SimCluster(7)
    for name in ("alice", "bob", ""):
        made.wait(made.add_worker(name=name))
    return made


def end(cluster, client):
    """Nothing may be left."""
    cluster.net.run_for(70.0)  # what nobody has claimed is forgotten
    assert not cluster.scheduler._members.errands._under_way
    assert not any(len(each._errands) for each in cluster.workers.values())
    assert not any(each.core.held for each in cluster.workers.values())
    assert not client.session._questions._waiting
    cluster.wait(client.close())
    cluster.stop()


def addresses(cluster):
    """Of all workers."""
    return [each.address for each in cluster.workers.values()]


def test_on_all_and_on_some(cluster):
    """`Client.run` gives each worker's result, of those that are meant, also a large one."""
    client = cluster.client()
    alice, bob, carol = addresses(cluster)
    busy = client.map(t.lasts, [500.0] * 9, range(9))
    start = cluster.net.clock.seconds()
    assert cluster.wait(client.run(t.subtract, 5, y=1)) == {alice: 4, bob: 4, carol: 4}
    assert cluster.wait(client.run(t.double, 2, workers="bob")) == {bob: 4}
    host = carol.partition(":")[0]
    assert cluster.wait(client.run(t.double, 2, workers=[alice, host])) == {alice: 4, carol: 4}
    assert cluster.wait(client.run(t.big, 3)) == dict.fromkeys(addresses(cluster), t.big(3))
    assert cluster.net.clock.seconds() - start < 10
    with pytest.raises(UsageProblem, match=r"^no worker has the address, host or name dave, eve$"):
        cluster.wait(client.run(t.double, 2, workers=["dave", "bob", "eve"]))
    client.cancel(busy)
    del busy
    end(cluster, client)


def test_errors(cluster):
    """`Client.run` raises the first exception, with its traceback, gives them, or leaves them."""
    client = cluster.client()
    with pytest.raises(t.Oops) as caught:
        cluster.wait(client.run(t.oops, 3))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    got = cluster.wait(client.run(t.oops, 3, on_error="return"))
    assert [type(each) for each in got.values()] == [t.Oops] * 3
    assert list(got) == addresses(cluster)
    assert cluster.wait(client.run(t.oops, 3, on_error="ignore")) == {}
    got = cluster.wait(client.run(t.dies, 3, on_error="return", workers=["alice"]))
    assert [type(each) for each in got.values()] == [TaskKilledError]
    late = cluster.wait(client.run(t.lasts, 50.0, 3, timeout=2.0, on_error="return"))
    assert [type(each) for each in late.values()] == [TimeoutError] * 3
    for wrong in ({"on_error": "skip"}, {"timeout": 0}, {"workers": [3]}):
        with pytest.raises(UsageProblem):
            client.run(t.double, 2, **wrong)
    with pytest.raises(UsageProblem):
        client.run(3)
    with pytest.raises(UsageProblem, match="8388608"):
        client.run(t.length, bytes(9 * 2**20), 1)
    end(cluster, client)


@pytest.mark.parametrize("silently", [False, True])
def test_a_worker_is_lost(cluster, silently):
    """`Client.run` names the worker that was lost; others' results are there."""
    client = cluster.client()
    alice, *others = addresses(cluster)
    cluster.net.run_for(10.0)  # it was seen to be reached
    running = client.run(t.lasts, 5.0, 1, on_error="return")
    cluster.net.run_for(1.0)
    cluster.kill_worker(alice.partition(":")[0], silently=silently)
    got = cluster.wait(running, 100.0)
    assert type(got[alice]) is WorkerLostError
    assert f"worker alice ({alice}) was lost" in str(got[alice])
    assert [got[each] for each in others] == [1, 1]
    end(cluster, client)


def test_a_link_that_breaks(cluster):
    """A connection that is lost for less than a lease costs nothing, and nothing is done twice."""
    client = cluster.client()
    alice, *_ = addresses(cluster)
    running = client.run(t.lasts, 5.0, 1)
    cluster.net.run_for(1.0)
    for ip in (alice.partition(":")[0], client.session.reactor.ip):
        cluster.net.sever(SCHEDULER_IP, ip)
    assert cluster.wait(running, 60.0) == dict.fromkeys(addresses(cluster), 1)
    end(cluster, client)


def test_a_scheduler_that_begins_anew(cluster):
    """`Client.run` fails with the scheduler: nobody knows what was done."""
    client = cluster.client()
    running = client.run(t.lasts, 5.0, 1)
    cluster.net.run_for(1.0)
    restarting = cluster.restart_scheduler(1.0)
    with pytest.raises(ConnectionClosedError, match="whether it was done is unknown"):
        cluster.wait(running, 100.0)
    cluster.wait(restarting)
    assert set(cluster.wait(client.run(t.double, 2)).values()) == {4}
    end(cluster, client)


def test_peers_of_before(cluster, monkeypatch):
    """An old scheduler refuses by name; an old worker is not sent what it does not know."""
    client = cluster.client()
    monkeypatch.setattr("tests.support.simcluster.METRIC", "other")
    cluster.net.run_for(10.0)
    with pytest.raises(NoWorkerError, match=r"alice .* is of a version that does not know run"):
        cluster.wait(client.run(t.double, 2))
    monkeypatch.setattr(type(cluster.scheduler._members.errands), "asked", lambda *_: False)
    with pytest.raises(RefusedError, match="there is no 'run'"):
        cluster.wait(client.run(t.double, 2))
    end(cluster, client)


def test_a_scheduler_that_does_not_answer(cluster, monkeypatch):
    """`Client.run` with a timeout waits for no longer than that and what any question may take."""
    monkeypatch.setattr(session_module, "ANSWER_S", 5.0)
    client = cluster.client()
    monkeypatch.setattr(type(cluster.scheduler._members.errands), "asked", lambda *_: True)
    with pytest.raises(ConnectionClosedError, match="did not answer within 7 s"):
        cluster.wait(client.run(t.double, 2, timeout=2.0))
    end(cluster, client)


@pytest.mark.parametrize("seed", range(6))
def test_chaos(seed, monkeypatch):
    """Each `Client.run` ends, rightly or for a reason, under whatever the chaos does."""
    monkeypatch.setattr(simchaos, "MORE", ((ERRANDS, 1.0),))
    assert not chaos.run_seed(seed).violation


def test_without_workers():
    """`Client.run` gives nothing where there is nobody."""
    cluster = SimCluster(1)
    client = cluster.client()
    assert cluster.wait(client.run(t.double, 2)) == {}
    end(cluster, client)


def test_nbytes(cluster):
    """`Client.nbytes` says what is held, by function or by key, copies counted once."""
    client = cluster.client()
    xs = client.map(t.double, range(3))
    big = client.submit(t.big, 1, key="large-one-1")
    cluster.wait(client.gather([*xs, big]))
    cluster.wait(client.replicate([big]))
    each = cluster.wait(client.nbytes(summary=False))
    assert set(each) == {"large-one-1", *(x.key for x in xs)}
    total = sum(each[x.key] for x in xs)
    assert cluster.wait(client.nbytes()) == {"double": total, "large-one": each["large-one-1"]}
    assert each["large-one-1"] > len(t.big(1))
    assert cluster.wait(client.nbytes(xs[0], summary=False)) == {xs[0].key: each[xs[0].key]}
    assert cluster.wait(client.nbytes("large-one-1")) == {"large-one": each["large-one-1"]}
    assert cluster.wait(client.nbytes([])) == {}
    for what in (None, [None], [3, True], [["a"], 1]):
        with pytest.raises(RefusedError):
            cluster.wait(client.run_coroutine(client.session.query, "nbytes", what))
    for each in (*xs, big):
        each.release()
    end(cluster, client)
