"""What the chaos has found, where copies, restarts, leases, queues and datasets are."""

from __future__ import annotations

from twisted.internet import defer

from tests.sim.test_found import CLIENT_IP, end, start
from tests.support import simtasks as t
from tests.support.simcluster import SCHEDULER_IP
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.aliases import HERE
from twisted_dist.client.coordination import Lock, Queue, Variable
from twisted_dist.core import instructions as i
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.scheduler import LEASE_S, SchedulerCore

#: seconds: as of core.submission
CLAIM_S = 60.0
#: the first id of client 2
FIRST = 2 << 40


def asked(client, request, what, name="", **more):
    """A question to the core."""
    about = {"blob": b"", "ids": [], "number": 0, "timeout_s": 0.0, **more}
    return s.Asked(client, request, what, name, **about)


def one_worker(nthreads=1):
    """A core with a worker of the number 1, and a client of the number 2 with a function."""
    core = SchedulerCore()
    core.handle(s.WorkerJoined(1, "h:1", "w", nthreads), 0.0)
    core.handle(s.ClientJoined(2, "c"), 0.0)
    core.handle(s.FunctionDefined(2, DIGEST, "f", b"x"), 0.0)
    return core


def give_up(waiting):
    """Have a client wait no longer for what it has just asked for."""
    waiting.addErrback(lambda failure: failure.trap(defer.CancelledError))
    waiting.cancel()


def test_parcel_with_a_future_whose_result_was_lost():
    """`Parcels.make` has a result computed again that only the client has: others ask for it."""
    core = one_worker()
    core.handle(submitted(2, FIRST), 0.0)
    core.handle(s.TasksFinished(1, [FIRST], [1], [1], [1], [b"v"]), 1.0)
    core.handle(s.WorkerLost(1, "it ended"), 2.0)  # the client has the value: nobody computes it
    invariants.check(core.state)
    core.handle(asked(2, 1, "publish", "d", ids=[FIRST]), 3.0)
    invariants.check(core.state)


def test_lock_of_a_client_that_is_out_of_reach():
    """`Lock.held` is false by the time at which the scheduler has given the lock on."""
    cluster, client, _ = start()
    lock = Lock("x", client=client)
    assert cluster.wait(lock.acquire())
    cluster.net.sever(CLIENT_IP, SCHEDULER_IP)
    cluster.net.run_for(3.0)
    assert lock.held()  # which costs nothing
    cluster.net.partition(CLIENT_IP, SCHEDULER_IP)
    cluster.net.run_for(2 * LEASE_S + 20.0)
    other = cluster.client()
    assert cluster.wait(Lock("x", client=other).acquire(timeout=0))
    held = lock.held()
    cluster.wait(other.close())
    end(cluster, client)
    assert not held


def test_lease_that_its_client_does_not_know():
    """`Semaphores` do not keep a lease for ever that came when its client waited no more."""
    cluster, client, _ = start()
    other = cluster.client()
    mine, theirs = Lock("mine", client=client), Lock("theirs", client=other)
    assert cluster.wait(mine.acquire())
    assert cluster.wait(theirs.acquire())
    give_up(Lock("theirs", client=client).acquire())
    cluster.net.run_for(1.0)
    cluster.wait(theirs.release())
    cluster.net.run_for(100.0)
    again = cluster.wait(Lock("theirs", client=other).acquire(timeout=1.0))
    cluster.wait(other.close())
    end(cluster, client)
    assert again


def test_item_that_came_when_its_taker_waited_no_more():
    """`Queue.get` gives an item back that came too late: the scheduler kept it for that taker."""
    cluster, client, _ = start("a")
    other = cluster.client()
    give_up(Queue("x", client=client).get())
    cluster.wait(Queue("x", client=other).put([other.submit(t.double, 1)]))
    cluster.net.run_for(1.0)
    (got,) = cluster.wait(Queue("x", client=other).get(timeout=0))
    assert cluster.wait(got.result()) == 2
    del got
    cluster.net.run_for(10.0)
    left = dict(cluster.scheduler.core.state.tasks)
    cluster.wait(other.close())
    end(cluster, client)
    assert not left


def test_futures_that_came_when_nobody_waited():
    """`Variable.get` and `get_dataset` release the futures in an answer that came too late."""
    cluster, client, _ = start("a")
    other = cluster.client()
    cluster.wait(other.publish_dataset([other.submit(t.double, 1)], name="x"))
    give_up(Variable("x", client=client).get())
    give_up(client.get_dataset("x"))
    cluster.wait(Variable("x", client=other).set([other.submit(t.double, 2)]))
    cluster.net.run_for(10.0)
    cluster.wait(other.unpublish_dataset("x"))
    cluster.wait(Variable("x", client=other).delete())
    cluster.net.run_for(10.0)
    left = dict(cluster.scheduler.core.state.tasks)
    cluster.wait(other.close())
    end(cluster, client)
    assert not left


def test_second_lease_lasts_as_long_as_its_holder_thinks():
    """`Semaphores` do not end a lease before `LEASE_S` since it was asked for."""
    core = one_worker()
    core.handle(asked(2, 1, "acquire", "a", number=1), 0.0)
    core.handle(asked(2, 2, "acquire", "b", number=1), 4.0)  # `Leases.add`: certain until 34
    core.expire(30.5)  # no renewal came through
    assert core.coordination.semaphores.is_held(2)


def test_input_that_is_missing_where_it_is_computed_again():
    """`Answers.inputs_missing` does not release what is only now being made there."""
    core = one_worker()
    core.handle(s.WorkerJoined(3, "h:3", "v", 1), 0.0)
    core.handle(submitted(2, FIRST, workers=("w",)), 0.0)
    core.handle(s.TasksFinished(1, [FIRST], [1], [1], [1], [None]), 1.0)
    core.handle(submitted(2, FIRST + 1, deps=[[FIRST]], workers=("v",)), 2.0)
    core.handle(s.WorkerLost(1, "severed"), 3.0)
    core.handle(s.WorkerJoined(4, "h:1", "w", 1), 4.0)  # and computes it again
    assert core.state.tasks[FIRST].processing_on.id == 4
    # what `v` found there before that
    out = core.handle(s.InputsMissing(3, [FIRST + 1], [1], [FIRST], ["h:1"]), 5.0)
    released = [each for each in out if isinstance(each, i.ReleaseData)]
    # the worker obeys: it forgets the result of attempt 2, which it tells of just now
    core.handle(s.TasksFinished(4, [FIRST], [2], [1], [1], [None]), 6.0)
    assert not released or not core.state.tasks[FIRST].who_has


def test_data_that_is_told_of_too_late():
    """`Submissions` do not believe that a worker holds what it was told to forget."""
    core = one_worker()
    core.handle(s.DataPut(1, [FIRST]), 0.0)
    core.handle(s.Heartbeat(1, {}), CLAIM_S - 1)
    released = core.expire(CLAIM_S + 1)
    assert any(isinstance(each, i.ReleaseData) and FIRST in each.ids for each in released)
    core.handle(s.DataScattered(2, [FIRST], [1], 1), CLAIM_S + 2)
    task = core.state.tasks.get(FIRST)
    assert task is None or not task.who_has


def test_data_put_before_the_worker_registered_anew():
    """`Submissions` do not believe that a worker holds what was put there in an earlier life."""
    core = one_worker()
    core.handle(s.DataPut(1, [FIRST]), 0.0)
    core.handle(s.WorkerLost(1, "severed"), 1.0)  # it forgets all that it holds
    core.handle(s.WorkerJoined(3, "h:1", "w", 1), 2.0)  # and has nothing to tell of
    core.handle(s.DataScattered(2, [FIRST], [1], 1), 3.0)
    task = core.state.tasks.get(FIRST)
    assert task is None or not task.who_has


def test_data_put_while_its_worker_registered_anew():
    """`Submissions` count data where its worker says it is, under whatever number it was put."""
    core = one_worker()
    core.handle(s.WorkerLost(1, "severed"), 0.0)
    core.handle(s.WorkerJoined(3, "h:1", "w", 1), 1.0)
    core.handle(s.DataPut(3, [FIRST]), 2.0)  # put before it knew that it is number 3 now
    core.handle(s.DataScattered(2, [FIRST], [1], 1), 3.0)
    assert [each.id for each in core.state.tasks[FIRST].who_has or ()] == [3]


def test_input_that_is_not_where_the_scheduler_thinks():
    """A task ends, of which a worker says that it lacks an input which it is said to hold."""
    core = one_worker()
    core.handle(s.DataScattered(2, [FIRST], [1], 1), 0.0)
    out = core.handle(submitted(2, FIRST + 1, deps=[[FIRST]]), 1.0)
    for n in range(1, 100):
        if not any(isinstance(each, i.SendTasks) for each in out):
            break
        out = core.handle(s.InputsMissing(1, [FIRST + 1], [n], [FIRST], [HERE]), 1.0 + n)
    assert n < 99


def test_attempt_that_waits_for_others_when_it_is_withdrawn():
    """A thread that only waits is not counted as used when its task's time is over."""
    core = one_worker()
    core.handle(submitted(2, FIRST, timeout_s=1.0), 0.0)
    core.handle(s.TasksSeceded(1, [FIRST], [1], True), 0.1)
    core.expire(1.0)  # it fails, and goes on waiting for what it has submitted
    out = core.handle(submitted(2, FIRST + 1, timeout_s=9.0), 1.1)  # nothing is given ahead
    assert any(isinstance(each, i.SendTasks) for each in out)


def test_name_of_a_refused_task():
    """`Submissions._refuse` keeps the name of a task, for whoever is given its future."""
    core = one_worker()
    core.handle(submitted(2, FIRST, key="mine", workers=("nobody",)), 0.0)
    assert core.state.tasks[FIRST].name == "mine"


def test_replicate_while_there_is_no_worker():
    """`AsyncClient.replicate` without a number means all workers, if there are none as well."""
    cluster, client, (a,) = start("a")
    x = client.submit(t.double, 1)
    assert cluster.wait(x.result()) == 2
    cluster.kill_worker(a)
    cluster.net.run_for(1.0)
    try:
        cluster.wait(client.replicate(x))
    finally:
        del x
        end(cluster, client)


def test_client_whose_machine_ends():
    """`Scheduler` gives up a client that says nothing any more, as it does with workers."""
    cluster, client, _ = start()
    x = client.submit(t.double, 1)
    cluster.net.run_for(1.0)
    cluster.net.crash(CLIENT_IP)
    cluster.net.run_for(1000.0)
    del x
    left = dict(cluster.scheduler.core.state.tasks)
    cluster.stop()
    assert not left
