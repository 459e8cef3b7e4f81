"""Demands, resources, order, limits and recalls, where several of them meet."""

import pytest

from tests.core.test_coordination import A, Desk
from tests.core.test_policies import FIRST, finish, given, kinds
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.answers import STOP_GRACE_S
from twisted_dist.core.task import MOST_SURPRISE, SchedulerFunction

HALF = (("GPU", 5_000),)


@pytest.fixture
def desk():
    """Three clients, and a worker of one thread."""
    return Desk()


def look(desk):
    """Let the instant come at which something is due; ``[(worker, id), …]`` asked back."""
    desk.now = max(desk.now, desk.core.next_deadline())
    out = desk.keep(desk.core.expire(desk.now))
    drops = [each for each in out if isinstance(each, i.DropTasks)]
    return [(each.worker, task_id) for each in drops for task_id in each.ids]


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e3, 1e9])
def test_one_odd_duration(factor):
    """`SchedulerFunction.learn` moves by a bounded factor, and is right again after ten."""
    function = SchedulerFunction(DIGEST, "f", b"")
    function.learn(0.01, 100)
    function.learn(0.01 * factor, 100)
    assert 1 / MOST_SURPRISE < function.duration / 0.01 < MOST_SURPRISE
    for _ in range(10):
        function.learn(0.01, 100)
    assert function.duration == pytest.approx(0.01, rel=0.05)
    function.learn(0.0, 0)
    assert function.duration > 0


def test_resources_are_back_however_an_attempt_ends(desk):
    """`Demand.room_at` counts what is held: until an answer, a death, or an old attempt's end."""
    desk.tell(s.WorkerJoined(2, "h:2", "gpu", 8, {"GPU": 10_000}))
    ids = [each for _, each in given(desk.tell(submitted(A, FIRST, 9, resources=HALF, retries=0)))]
    assert ids == [FIRST, FIRST + 1]
    assert given(finish(desk, 2, FIRST)) == [(2, FIRST + 2)]
    fact = s.TasksErred(2, [FIRST + 1], [1], [b"e"], ["t"])
    assert given(desk.tell(fact)) == [(2, FIRST + 3)]
    assert given(desk.tell(s.TasksKilled(2, [FIRST + 2], [1], ["died"]))) == [(2, FIRST + 2)]
    assert not given(desk.tell(s.CancelRequested(A, [FIRST + 3])))  # it may still run
    assert given(desk.tell(s.TasksReturned(2, [FIRST + 3], [1]))) == [(2, FIRST + 4)]
    assert desk.core.state.workers[2].free == {"GPU": 0}


def test_resources_of_several_kinds(desk):
    """`Demand` needs all it asks for on one worker; others go on beside it."""
    desk.tell(s.WorkerJoined(2, "h:2", "a", 4, {"GPU": 10_000}))
    desk.tell(s.WorkerJoined(3, "h:3", "b", 4, {"GPU": 10_000, "disk": 10_000}))
    both = (("GPU", 10_000), ("disk", 10_000))
    assert given(desk.tell(submitted(A, FIRST, 2, resources=both))) == [(3, FIRST)]
    assert given(desk.tell(submitted(A, FIRST + 2, 1, resources=HALF))) == [(2, FIRST + 2)]
    assert len(given(desk.tell(submitted(A, FIRST + 3, 3)))) == 3
    much = (("GPU", 20_000),)  # there are two, but not on one worker
    assert kinds(desk.tell(submitted(A, FIRST + 6, 1, resources=much))) == ["no-worker"]


def test_other_workers_if_need_be(desk):
    """`Demand` with *allow_other_workers* goes elsewhere while none of the named is there."""
    options = {"workers": ("two",), "allow_other_workers": True}
    assert given(desk.tell(submitted(A, FIRST, 1, **options))) == [(1, FIRST)]
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    assert given(desk.tell(submitted(A, FIRST + 1, 1, **options))) == [(2, FIRST + 1)]


def test_unmet_demand_fails_what_needs_it(desk):
    """`Submissions` fail dependents of what no worker can run, with the same reason."""
    desk.tell(submitted(A, FIRST, 1, workers=("nobody",)))
    out = desk.tell(submitted(A, FIRST + 1, 1, deps=[[FIRST]]))
    told = {each: kind for e in out for each, kind in zip(e.ids, e.kinds)}
    assert told[FIRST + 1] == "no-worker"
    desk.tell(s.KeysReleased(A, [FIRST, FIRST + 1]))
    assert not desk.core.state.tasks
    assert not desk.core.state.demands


def test_waiting_for_a_worker_has_no_end(desk):
    """`Submissions` never give up what is to wait for a worker."""
    desk.tell(submitted(A, FIRST, 1, workers=("new",), wait_for_worker=True))
    for _ in range(10):
        desk.wait(50.0)
        desk.tell(s.Heartbeat(1, {}))
    assert desk.core.state.tasks[FIRST].state == "no-worker"
    assert given(desk.tell(s.WorkerJoined(2, "h:2", "new", 1))) == [(2, FIRST)]


def test_no_worker_at_all_is_no_failure(desk):
    """`Submissions` wait for the first worker, and refuse only what that cannot run."""
    desk.tell(s.WorkerLost(1, "gone"))
    assert not desk.tell(submitted(A, FIRST, 1, resources=HALF))
    desk.wait(500.0)
    assert desk.core.state.tasks[FIRST].state == "no-worker"
    desk.tell(s.WorkerJoined(2, "h:2", "plain", 1))
    desk.wait(50.0)
    desk.tell(s.Heartbeat(2, {}))
    assert desk.core.state.tasks[FIRST].state == "no-worker"
    desk.wait(20.0)
    assert desk.core.state.tasks[FIRST].erred_by[0] == "no-worker"


def test_priority_among_demands(desk):
    """`assign_queued` lets the higher priority go first, whichever queue it waits in."""
    finish_s = 10.0
    desk.tell(submitted(A, FIRST, 1))
    finish(desk, 1, FIRST, seconds=finish_s)
    desk.tell(submitted(A, FIRST + 1, 1))
    desk.tell(submitted(A, FIRST + 2, 1))
    desk.tell(submitted(A, FIRST + 3, 1, workers=("w",)))
    desk.tell(submitted(A, FIRST + 4, 1, workers=("w",), priority=2))
    desk.tell(submitted(A, FIRST + 5, 1, priority=1))
    order = [FIRST + 1]
    while len(order) < 5:
        ((_, task_id),) = given(finish(desk, 1, order[-1], seconds=finish_s))
        order.append(task_id)
    assert [each - FIRST for each in order] == [1, 4, 5, 2, 3]


def test_recalled_task_that_had_begun(desk):
    """`balance` takes the result of what it asked back too late."""
    desk.tell(submitted(A, FIRST, 3))
    desk.tell(s.WorkerJoined(2, "h:2", "idle", 1))
    assert look(desk) == [(1, FIRST + 2)]
    out = finish(desk, 1, FIRST + 2)
    assert [e.ids for e in out if isinstance(e, i.ReportFinished)] == [[FIRST + 2]]
    assert desk.core.state.workers[1].recalled == {}


def test_nothing_is_recalled_twice_or_for_nobody(desk):
    """`balance` asks once, nothing of who has only what it runs, and nothing without idle ones."""
    desk.tell(submitted(A, FIRST, 2))
    assert desk.core.state.balance_at is None  # nobody is idle
    desk.tell(s.WorkerJoined(2, "h:2", "idle", 1))
    assert look(desk) == [(1, FIRST + 1)]
    assert look(desk) == []
    assert given(desk.tell(s.TasksReturned(1, [FIRST + 1], [1]))) == [(2, FIRST + 1)]
    desk.tell(s.WorkerJoined(3, "h:3", "idle too", 1))
    for _ in range(3):
        if desk.core.state.balance_at is None:
            break
        assert look(desk) == []
    assert desk.core.state.balance_at is None


def test_recall_only_what_the_idle_may_run(desk):
    """`balance` leaves alone what asks for the worker that has it."""
    desk.tell(submitted(A, FIRST, 3, workers=("w",)))
    desk.tell(s.WorkerJoined(2, "h:2", "idle", 1))
    assert all(look(desk) == [] for _ in range(5))
    assert len(desk.core.state.workers[1].processing) == 3


def test_recalled_task_whose_helper_is_gone(desk):
    """`Answers` give a task that came back to whoever has room, the same worker too."""
    desk.tell(submitted(A, FIRST, 2))
    desk.tell(s.WorkerJoined(2, "h:2", "idle", 1))
    assert look(desk) == [(1, FIRST + 1)]
    desk.tell(s.WorkerLost(2, "gone"))
    assert given(desk.tell(s.TasksReturned(1, [FIRST + 1], [1]))) == [(1, FIRST + 1)]


def test_time_limit_with_retries(desk):
    """`Answers` give each attempt its time anew, and ignore what an earlier one says late."""
    desk.tell(submitted(A, FIRST, 1, timeout_s=1.0, retries=1))
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    task = desk.core.state.tasks[FIRST]
    desk.wait(1.5)
    desk.wait(STOP_GRACE_S - 0.5)  # the worker does not stop it
    assert (task.state, task.attempt, task.processing_on.id) == ("processing", 2, 2)
    out = finish(desk, 1, FIRST)  # of the first attempt
    assert not [each for each in out if isinstance(each, i.ReportFinished)]
    assert [each.ids for each in out if isinstance(each, i.ReleaseData)] == [[FIRST]]
    desk.wait(1.5)
    desk.tell(s.TasksStopped(2, [FIRST], [2], ["there"]))
    assert task.erred_by[0] == "timed-out"
    assert "attempt 2, on worker two (h:2)" in task.erred_by[2]


def test_time_limit_of_what_has_ended(desk):
    """`Answers` let no limit strike after the attempt, nor a task that ran again since."""
    desk.tell(submitted(A, FIRST, 1, timeout_s=1.0))
    desk.wait(0.5)
    desk.tell(s.TasksKilled(1, [FIRST], [1], ["died"]))
    desk.wait(0.7)  # the first attempt's second is over
    assert desk.core.state.tasks[FIRST].state == "processing"
    desk.tell(s.TasksFinished(1, [FIRST], [2], [8], [10], [b"v"]))
    desk.wait(5.0)
    assert desk.core.state.tasks[FIRST].state == "memory"
    (worker,) = desk.core.state.workers.values()  # its lease is all that is left
    assert desk.core.state.alarms.next() <= worker.last_seen + desk.core.lease_s
    assert [each for *_, each in desk.core.state.alarms._heap if each.function is not None] == [
        worker.lease_alarm
    ]
