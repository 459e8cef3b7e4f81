"""What the chaos has found, each as small as it gets."""

from __future__ import annotations

import pytest

from tests.support import simtasks as t
from tests.support.simcluster import SCHEDULER_IP, SimCluster
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.client.session import HEARD_S
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.scheduler import SchedulerCore
from twisted_dist.core.worker_side import messages as m
from twisted_dist.core.worker_side.machine import WorkerCore
from twisted_dist.errors import ConnectError, ConnectionClosedError, DataLostError, NoWorkerError

#: a client's host, and that of the first of some workers
CLIENT_IP = "10.2.0.1"


def start(*names):
    """A checked cluster with a client, and a worker of each name at ``10.1.0.<number>``."""
    cluster = SimCluster(1, checked=True)
    client = cluster.client()
    for name in names:
        cluster.wait(cluster.add_worker(2, name))
    return cluster, client, [f"10.1.0.{n}" for n in range(2, 2 + len(names))]


def end(cluster, client):
    """Close everything; nothing may be left."""
    cluster.wait(client.close())
    cluster.stop()


def test_data_lost_while_it_is_fetched():
    """`AsyncFuture.result` fails with what has become of data that was lost on its way here."""
    cluster, client, (a,) = start("a")
    data = cluster.wait(client.scatter(t.big(1)))
    cluster.net.run_for(0.1)
    cluster.kill_worker(a)
    with pytest.raises(DataLostError):
        cluster.wait(data.result())
    with pytest.raises(DataLostError):
        cluster.wait(client.gather([data]))
    end(cluster, client)


def test_value_that_is_here_is_not_lost():
    """`Records` keep a value that a client has had, whatever becomes of its last holder."""
    cluster, client, (a,) = start("a")
    data = cluster.wait(client.scatter(t.big(1)))
    assert cluster.wait(data.result()) == t.big(1)
    cluster.kill_worker(a)
    cluster.net.run_for(1.0)
    assert cluster.wait(data.result()) == t.big(1)
    assert data.status == "finished"
    end(cluster, client)


def test_reason_of_a_refused_task_reaches_what_needs_it():
    """`Submissions` fail what needs a task that no worker may run for that task's reason."""
    cluster, client, _ = start("a")
    x = client.submit(t.double, 1, workers="nobody")
    cluster.net.run_for(0.1)
    y = client.submit(t.add, x, 1)
    for each in (x, y):
        with pytest.raises(NoWorkerError):
            cluster.wait(each.result())
    end(cluster, client)


def test_data_of_a_client_that_dies_before_it_tells():
    """`Worker` does not keep what a client has put there and told nobody of."""
    cluster, client, (a,) = start("a")
    client.scatter(t.big(1))
    cluster.net.run(lambda: cluster.workers[a]._store)
    cluster.net.kill(CLIENT_IP)
    cluster.net.run_for(100.0)
    assert not cluster.workers[a]._store
    cluster.stop()


def test_data_that_comes_while_the_worker_is_away():
    """`Worker` does not keep what was put there between two registrations and is nobody's."""
    cluster, client, (a,) = start("a")
    cluster.net.stall(CLIENT_IP, a)
    client.scatter(t.big(1))
    cluster.net.run_for(0.1)
    cluster.net.partition(a, SCHEDULER_IP)
    cluster.net.sever(a, SCHEDULER_IP)
    cluster.net.run_for(0.1)
    cluster.net.heal(CLIENT_IP, a)
    cluster.net.run(lambda: cluster.workers[a]._store)
    cluster.net.kill(CLIENT_IP)
    cluster.net.heal(a, SCHEDULER_IP)
    cluster.net.run_for(100.0)
    assert not cluster.watch.differences()
    cluster.stop()


def test_scatter_that_fails_half_way():
    """`Session.scatter` releases what it had put on some workers when another takes nothing."""
    cluster, client, (a, b) = start("a", "b")
    cluster.net.partition(CLIENT_IP, b)
    cluster.net.partition(SCHEDULER_IP, b)  # which could relay
    with pytest.raises(ConnectError, match="and the scheduler cannot relay"):
        cluster.wait(client.scatter([t.big(1), t.big(2)]))
    cluster.net.run_for(1.0)
    assert not cluster.workers[a]._store
    cluster.net.heal(CLIENT_IP, b)
    cluster.net.heal(SCHEDULER_IP, b)
    end(cluster, client)


def test_short_partition_of_workers_loses_nothing():
    """`Scheduler` does not take data for lost that a worker cannot reach for some time."""
    cluster, client, (a, b) = start("a", "b")
    data = cluster.wait(client.scatter(7, workers="a"))
    cluster.net.partition(a, b)
    cluster.net.partition(a, SCHEDULER_IP)  # which could relay
    y = client.submit(t.add, data, 1, workers="b")
    cluster.net.run_for(40.0)
    cluster.net.heal(a, b)
    cluster.net.heal(a, SCHEDULER_IP)
    assert cluster.wait(y.result(), 60) == 8
    assert cluster.wait(data.result()) == 7
    end(cluster, client)


def test_copy_of_an_earlier_attempt():
    """`Answers` does not count a copy whose original was lost, and made again, meanwhile."""
    cluster, client, (a, b, c) = start("a", "b", "c")
    x = client.submit(t.big, 1, workers=["a", "c"])
    cluster.net.run_for(1.0)
    (there,) = cluster.wait(client.who_has(x))[x.key]
    holder, other = (a, c) if there.startswith(a) else (c, a)
    y = client.submit(t.length, x, 1, workers="b")
    cluster.net.run(lambda: cluster.workers[b].core.flights)
    cluster.net.stall(b, SCHEDULER_IP)
    cluster.net.run(lambda: x._record.id in cluster.workers[b]._store)
    cluster.kill_worker(holder)
    cluster.net.run(lambda: x._record.id in cluster.workers[other]._store)
    cluster.net.run_for(0.1)
    cluster.net.heal(b, SCHEDULER_IP)
    assert cluster.wait(y.result()) == len(t.big(1)) + 1
    end(cluster, client)


def test_stop_while_a_peer_is_dialled():
    """`Worker.stop` leaves no call behind while it connects to a worker that says nothing."""
    cluster, client, (a, b) = start("a", "b")
    data = cluster.wait(client.scatter(7, workers="a"))
    cluster.net.partition(a, b)
    y = client.submit(t.add, data, 1, workers="b")
    cluster.net.run_for(1.0)
    del data, y
    end(cluster, client)


def test_close_while_a_result_is_fetched():
    """`AsyncClient.close` leaves no call behind while it connects to a worker."""
    cluster, client, (a,) = start("a")
    x = client.submit(t.big, 1)
    cluster.net.run_for(1.0)
    cluster.net.partition(a, CLIENT_IP)
    failed = x.result().addErrback(lambda failure: failure.trap(ConnectionClosedError))
    cluster.net.run_for(1.0)
    end(cluster, client)
    assert failed.result is ConnectionClosedError


def test_question_to_a_client_that_is_closing():
    """`Questions.ask` leaves nothing to be answered where the question cannot be sent."""
    cluster, client, _ = start("a")
    closed = client.close()
    with pytest.raises(ConnectionClosedError):
        cluster.wait(client.scheduler_info())
    assert not client.session._questions._waiting
    cluster.wait(closed)
    cluster.stop()


def test_what_was_asked_just_before_closing():
    """`AsyncClient.close` sends what was submitted in the same turn of the reactor."""
    cluster, client, _ = start("a")
    client.fire_and_forget(client.submit(t.mark, 1))
    cluster.wait(client.close())
    cluster.net.run_for(5.0)
    assert cluster.world.marks == {1}
    cluster.stop()


def test_connection_lost_while_closing():
    """`AsyncClient.close` dials once more: the scheduler may not have heard of what runs on."""
    cluster, client, _ = start("a")
    client.fire_and_forget(client.submit(t.mark, 1))
    closed = client.close()
    cluster.net.run_for(0.0001)
    cluster.net.sever(CLIENT_IP, SCHEDULER_IP)
    cluster.wait(closed, 5.0)
    cluster.net.run_for(5.0)
    assert cluster.world.marks == {1}
    cluster.stop()


def test_close_out_of_reach():
    """`AsyncClient.close` waits `HEARD_S` for that, and for nothing where nothing runs on."""
    for runs_on in (False, True):
        cluster, client, _ = start("a")
        cluster.net.partition(CLIENT_IP, SCHEDULER_IP)
        cluster.net.sever(CLIENT_IP, SCHEDULER_IP)
        cluster.net.run_for(0.1)
        future = client.submit(t.mark, 1)
        if runs_on:
            client.fire_and_forget(future)
        since = cluster.net.clock.rightNow
        cluster.wait(client.close(), 2 * HEARD_S)
        assert (cluster.net.clock.rightNow - since >= HEARD_S) is runs_on
        cluster.net.heal(CLIENT_IP, SCHEDULER_IP)
        cluster.stop()


@pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.001, 0.002, 0.003, 0.004])
def test_close_while_it_connects(after_s):
    """`AsyncClient.close` ends `start`, which would connect it all the same."""
    cluster = SimCluster(1, checked=True)
    client, connected = cluster.connect()
    outcome = []
    connected.addBoth(outcome.append)
    cluster.net.run_for(after_s)
    assert not outcome
    cluster.wait(client.close(), 1.0)
    assert outcome[0].check(ConnectionClosedError)
    assert not client.session.reactor.getDelayedCalls()
    cluster.net.run(lambda: not cluster.scheduler.core.state.clients, 100)
    cluster.stop()


def test_close_while_it_registers_again():
    """`AsyncClient.close` waits for nothing before a new scheduler has said yes."""
    cluster, client, _ = start("a")
    link = client.session._reach._link
    session = link.session
    cluster.wait(cluster.restart_scheduler(0.001))
    cluster.net.run(lambda: link.session not in (None, session))
    assert not link.session.token
    cluster.wait(client.close(), 1.0)
    cluster.stop()


def test_connection_lost_while_registering():
    """`AsyncClient.start` tries on where the connection is lost before it is welcome."""
    cluster = SimCluster(1, checked=True)
    client, connected = cluster.connect()
    cluster.net.run(lambda: client.session._reach._link.session is not None)
    cluster.net.sever(CLIENT_IP, SCHEDULER_IP)
    assert cluster.wait(connected) is client
    end(cluster, client)


def test_late_answer_of_an_attempt_at_the_same_worker():
    """`Worker` keeps the newest attempt's result when that of an older one is nobody's."""
    cluster, client, (a,) = start("a")
    x = client.submit(t.lasts, 0.2, 7, timeout=0.5, retries=1)
    cluster.net.run_for(0.1)
    cluster.net.stall(a, SCHEDULER_IP)
    cluster.net.run_for(0.8)  # both attempts have ended there, and neither is heard of
    cluster.net.heal(a, SCHEDULER_IP)
    assert cluster.wait(x.result()) == 7
    cluster.net.run_for(1.0)
    assert not cluster.watch.differences()
    end(cluster, client)


def test_thread_of_an_attempt_that_is_not_heard_of_any_more():
    """`SchedulerCore` uses the thread that is free once a task was withdrawn twice."""
    core = SchedulerCore()
    core.handle(s.WorkerJoined(1, "h:1", "w", 2), 0.0)
    core.handle(s.ClientJoined(2, "c"), 0.0)
    core.handle(s.FunctionDefined(2, DIGEST, "f", b"x"), 0.0)
    first = 2 << 40
    core.handle(submitted(2, first, workers=("w",), timeout_s=1.0, retries=1), 0.0)
    core.expire(1.0)  # its second attempt goes to the other thread
    core.handle(submitted(2, first + 1, workers=("w",), timeout_s=9.0), 1.5)
    invariants.check(core.state)
    core.expire(2.0)
    invariants.check(core.state)


def test_input_forgotten_while_others_come():
    """`WorkerCore` does not run a task of which an input went while it waited for another."""
    core = WorkerCore()
    core.handle(m.DataPut([8], [3]))
    core.handle(m.TasksGiven([[DIGEST, [1], [4], [b"x"], [[8, 9]], True]], [("h:1", [9])]))
    core.held.pop(8)  # as the scheduler had it forgotten
    out = core.handle(m.FetchFinished("h:1", [9], [3], []))
    assert not any(isinstance(each, m.Execute) for each in out)
    (missing,) = [each for each in out if isinstance(each, m.ReportMissing)]
    assert (missing.ids, missing.attempts) == ([1], [4])


def test_fetch_of_before_the_registration():
    """`WorkerCore` keeps what it has been given anew when an older fetch of it ends."""
    core = WorkerCore()
    core.handle(m.TasksGiven([[DIGEST, [1], [1], [b"x"], [[9]], True]], [("h:1", [9])]))
    core.reset()
    core.handle(m.DataPut([9], [3]))
    out = core.handle(m.FetchFinished("h:1", [9], [3], []))
    assert not any(isinstance(each, m.Discard) for each in out)
    assert 9 in core.held
