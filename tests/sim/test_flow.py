"""Flow control of clients that cannot block, in simulated clusters."""

from __future__ import annotations

from tests.support import simtasks as t
from tests.support.simcluster import SimCluster
from twisted_dist.client import flow


def test_room(monkeypatch):
    """`AsyncClient.room` fires when enough has ended; while the scheduler is away, it waits."""
    monkeypatch.setattr(flow, "MOST_PENDING", 40)
    cluster = SimCluster(1, checked=True)
    cluster.wait(cluster.add_worker(2))
    client = cluster.client()
    assert client.room().called
    futures = client.map(t.double, range(60))
    room = client.room()
    cluster.net.run_for(0.01)
    started = cluster.restart_scheduler(3.0)
    cluster.net.run_for(2.0)
    assert not room.called
    cluster.wait(started)
    cluster.wait(room)
    assert sum(each.done() for each in futures) >= 60 - 30
    assert cluster.wait(client.gather(futures)) == [2 * n for n in range(60)]
    cluster.wait(client.close())
    assert client._session.flow.room().called
    cluster.stop()
