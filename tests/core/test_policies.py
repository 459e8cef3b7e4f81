"""What `SchedulerCore` decides: demands, resources, order, limits, copies, work taken back."""

import pytest
from attrs import evolve

from tests.core.test_coordination import A, Desk, submit
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.answers import STOP_GRACE_S
from twisted_dist.core.explain import explain, find
from twisted_dist.core.policy.feeding import AHEAD_CALL_BYTES
from twisted_dist.core.story import Story
from twisted_dist.core.task import SchedulerFunction

FIRST = A << CLIENT_SHIFT


@pytest.fixture
def desk():
    """Three clients, and a worker of one thread."""
    return Desk()


def given(out):
    """``[(worker, id), …]`` of the tasks that were handed out."""
    return [
        (each.worker, task_id)
        for each in out
        if isinstance(each, i.SendTasks)
        for run in each.runs
        for task_id in run.ids
    ]


def kinds(out):
    """What clients are told that tasks failed of."""
    return [kind for each in out if isinstance(each, i.ReportErred) for kind in each.kinds]


def finish(desk, worker, *ids, seconds=0.001, nbytes=8):
    """A worker has run tasks, each for the first time."""
    n = len(ids)
    micros = [int(seconds * 1e6)] * n
    return desk.tell(s.TasksFinished(worker, ids, [1] * n, [nbytes] * n, micros, [None] * n))


def test_durations_bear_outliers():
    """`SchedulerFunction.learn` hardly moves for one odd task, and follows a real change."""
    function = SchedulerFunction(DIGEST, "f", b"")
    for _ in range(5):
        function.learn(0.01, 100)
    function.learn(100.0, 100)
    assert function.duration == pytest.approx(0.02)
    for _ in range(20):
        function.learn(1.0, 100)
    assert function.duration == pytest.approx(1.0, rel=0.1)


def test_unmet_demand(desk):
    """`Submissions` refuse what no worker can run, with what there is, unless told to wait."""
    out = desk.tell(submitted(A, FIRST, 2, resources=(("GPU", 10_000),)))
    assert kinds(out) == ["no-worker"] * 2
    (erred,) = [each for each in out if isinstance(each, i.ReportErred)]
    assert "resources GPU=1" in erred.texts[0]
    assert "w (h:1) has no resources" in erred.texts[0]
    assert not desk.tell(submitted(A, FIRST + 2, workers=("new",), wait_for_worker=True))
    assert given(desk.tell(s.WorkerJoined(2, "h:2", "new", 1))) == [(2, FIRST + 2)]


def test_demand_whose_worker_leaves(desk):
    """`Submissions` give up, after a lease, what only a worker that left could run."""
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    desk.tell(submitted(A, FIRST, workers=("two",)))
    assert not kinds(desk.tell(s.WorkerLost(2, "gone")))
    desk.tell(s.Heartbeat(1, {}))
    desk.wait(50.0)
    desk.tell(s.Heartbeat(1, {}))
    assert FIRST in desk.core.state.tasks
    assert desk.core.state.tasks[FIRST].state == "no-worker"
    desk.wait(20.0)
    assert desk.core.state.tasks[FIRST].state == "erred"


def test_resources_are_not_given_twice(desk):
    """`Demand.room_at` lets as many shares out as there are, whatever else a worker has."""
    desk.tell(s.WorkerJoined(2, "h:2", "gpu", 8, {"GPU": 10_000}))
    out = desk.tell(submitted(A, FIRST, 5, resources=(("GPU", 4_000),)))
    assert given(out) == [(2, FIRST), (2, FIRST + 1)]
    assert given(finish(desk, 2, FIRST)) == [(2, FIRST + 2)]


def test_order(desk):
    """`ReadyQueue` puts the user's priority first, then what uses results, then age."""
    desk.tell(submitted(A, FIRST, 3))  # a thread's worth, of unknown duration
    desk.tell(submitted(A, FIRST + 3, 2, priority=-1))
    desk.tell(submitted(A, FIRST + 5, 2))
    desk.tell(submitted(A, FIRST + 7, 1, deps=[[FIRST]]))
    desk.tell(submitted(A, FIRST + 8, 1, priority=1))
    out = finish(desk, 1, FIRST, FIRST + 1, FIRST + 2, seconds=10.0)
    order = given(out)
    for _ in range(5):
        order += given(finish(desk, 1, order[-1][1], seconds=10.0))
    assert [each - FIRST for _, each in order] == [8, 7, 5, 6, 3, 4]


def test_time_limit(desk):
    """`Answers` fail an attempt that takes too long; its thread is free once it has ended."""
    desk.tell(submitted(A, FIRST, 2, timeout_s=1.0))
    state = desk.core.state
    assert [t.state for t in state.tasks.values()] == ["processing", "queued"]
    desk.now += 1.5
    assert stops(desk.keep(desk.core.expire(desk.now))) == [(1, FIRST, 1)]
    assert state.tasks[FIRST].state == "processing"
    out = desk.tell(s.TasksStopped(1, [FIRST], [1], ["it was at\n  File x"]))
    assert given(out) == [(1, FIRST + 1)]
    kind, _, text = state.tasks[FIRST].erred_by
    assert kind == "timed-out"
    assert "attempt 1, on worker w (h:1): not done within timeout=1 s; it was at\n  File x" in text


def stops(out):
    """``[(worker, task, attempt), …]`` that are to be stopped."""
    return [
        (each.worker, *which)
        for each in out
        if isinstance(each, i.StopTasks)
        for which in zip(each.ids, each.attempts)
    ]


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        (lambda n: s.TasksErred(1, [n], [1], [b""], ["its own error"]), "its own error"),
        (lambda n: s.TasksKilled(1, [n], [1], ["by SIGKILL"]), "by SIGKILL"),
        (lambda n: s.TasksReturned(1, [n], [1]), "it had not begun there"),
    ],
)
def test_time_limit_whatever_comes_of_it(desk, answer, where):
    """`Answers` call it a time limit, whatever the worker calls the end of what was to stop."""
    desk.tell(submitted(A, FIRST, 1, timeout_s=1.0))
    desk.wait(1.5)
    desk.tell(answer(FIRST))
    kind, _, text = desk.core.state.tasks[FIRST].erred_by
    assert (kind, where in text) == ("timed-out", True)


def test_result_after_the_time_limit(desk):
    """`Answers` take a result that comes before the task was stopped."""
    desk.tell(submitted(A, FIRST, 1, timeout_s=1.0))
    desk.wait(1.5)
    finish(desk, 1, FIRST)
    assert desk.core.state.tasks[FIRST].state == "memory"


def test_nobody_says_where_it_was(desk):
    """`Answers` wait for a while only; the thread is free when the worker says so."""
    desk.tell(submitted(A, FIRST, 2, timeout_s=1.0))
    desk.wait(1.5)
    desk.wait(STOP_GRACE_S)
    kind, _, text = desk.core.state.tasks[FIRST].erred_by
    assert (kind, "does not say where" in text) == ("timed-out", True)
    assert desk.core.state.tasks[FIRST + 1].state == "queued"
    assert given(finish(desk, 1, FIRST)) == [(1, FIRST + 1)]


def test_cancelled_code_is_stopped(desk):
    """`cancel` has the code of a task end, and not only its result forgotten."""
    desk.tell(submitted(A, FIRST, 2))
    out = desk.tell(s.CancelRequested(A, [FIRST, FIRST + 1]))
    assert stops(out) == [(1, FIRST, 1), (1, FIRST + 1, 1)]
    assert not desk.tell(s.TasksStopped(1, [FIRST], [1], ["where"]))
    assert not desk.tell(s.TasksReturned(1, [FIRST + 1], [1]))
    out = desk.tell(submitted(A, FIRST + 2, 1))
    assert given(out) == [(1, FIRST + 2)]


def test_stopped_unasked(desk):
    """`Answers` count a task that a worker stopped by itself as one that killed its process."""
    desk.tell(submitted(A, FIRST, 1))
    for attempt in (1, 2, 3):
        desk.tell(s.TasksStopped(1, [FIRST], [attempt], ["why not"]))
    assert desk.core.state.tasks[FIRST].erred_by[0] == "killed"


def test_work_is_taken_back(desk):
    """`balance` asks a worker that is behind for what it has not begun, for one that is idle."""
    assert len(given(desk.tell(submitted(A, FIRST, 3)))) == 3
    assert not given(desk.tell(s.WorkerJoined(2, "h:2", "idle", 1)))
    dropped = []
    desk.now = desk.core.next_deadline()
    for each in desk.keep(desk.core.expire(desk.now)):
        if isinstance(each, i.DropTasks):
            dropped += [(each.worker, task_id) for task_id in each.ids]
    assert dropped == [(1, FIRST + 2)]
    assert given(desk.tell(s.TasksReturned(1, [FIRST + 2], [1]))) == [(2, FIRST + 2)]


def copies(out):
    """``[(worker, from where, ids), …]`` that are to be fetched."""
    return [
        (each.worker, *source)
        for each in out
        if isinstance(each, i.CopyData)
        for source in each.sources
    ]


def test_copies_are_kept_up(desk):
    """`Replicas` keep the number of copies, when holders leave and workers come."""
    task_id = submit(desk, A, 0)
    finish(desk, 1, task_id)
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    desk.last += 1
    out = desk.tell(s.Asked(A, desk.last, "replicate", "", b"", [task_id], 3, -1.0))
    asked = (A, desk.last)
    assert copies(out) == [(2, "h:1", [task_id])]
    assert asked not in desk.replies
    assert copies(desk.tell(s.ReplicasAdded(2, [task_id]))) == []
    assert desk.told(asked) is None
    assert copies(desk.tell(s.WorkerJoined(3, "h:3", "three", 1)))[0][0] == 3
    desk.tell(s.ReplicasAdded(3, [task_id]))
    desk.tell(s.WorkerLost(1, "gone"))
    assert copies(desk.tell(s.WorkerJoined(4, "h:4", "four", 1)))[0][0] == 4


def test_rebalance(desk):
    """`Replicas` move data from who holds most, and have the source forget it then."""
    ids = [submit(desk, A, n) for n in range(4)]
    for each in ids:
        finish(desk, 1, each, nbytes=1000)
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    desk.last += 1
    out = desk.tell(s.Asked(A, desk.last, "rebalance", "", b"", [], 0, -1.0))
    ((worker, source, moved),) = copies(out)
    assert (worker, source, len(moved)) == (2, "h:1", 2)
    out = desk.tell(s.ReplicasAdded(2, moved))
    assert [each.ids for each in out if isinstance(each, i.ReleaseData)] == [moved]
    assert desk.told((A, desk.last)) is None
    assert [w.nbytes for w in desk.core.state.workers.values()] == [2000, 2000]


def test_explanations(desk):
    """`explain` says for each state what the task waits for, and where its time went."""
    desk.tell(submitted(A, FIRST, 3, key="", timeout_s=9.0))
    desk.tell(submitted(A, FIRST + 3, 1, deps=[[FIRST + 1]]))
    desk.tell(submitted(A, FIRST + 4, 1, workers=("no",), wait_for_worker=True))
    state = desk.core.state

    def why(number):
        return explain(state, find(state, FIRST + number))["why"]

    assert "w (h:1) has had it" in why(0)
    assert why(2).startswith("1 tasks come before it, and all 1 threads of 1 workers")
    assert "waits for 1 of its 1 inputs" in why(3)
    assert "0 tasks come before it" in why(3)  # of what it waits for
    assert "asks for workers=['no']" in why(4)
    finish(desk, 1, FIRST)
    assert why(0) == "it is done: 8 bytes, held by w (h:1)"
    told = explain(state, find(state, FIRST))
    assert [what for _, what, _ in told["story"]] == ["was submitted", "was given", "finished"]
    desk.tell(s.CancelRequested(A, [FIRST + 2]))
    assert "it has failed (cancelled)" in why(2)


def test_story_is_bounded():
    """`Story` forgets the oldest, and finds what it has."""
    story = Story(most_entries=10)
    for n in range(100):
        story.note(float(n), "was", range(n, n + 1000), "here")
    assert [entry.now for entry in story.of(95)] == [float(n) for n in range(90, 96)]


def test_large_arguments_are_not_given_ahead(desk):
    """`expected_s` counts what a task's arguments take: a worker is sent few of them ahead."""
    desk.tell(submitted(A, FIRST))
    finish(desk, 1, FIRST, seconds=1e-5)  # so short that thousands would go
    large = b"x" * (AHEAD_CALL_BYTES // 2)
    out = []
    for n in range(1, 21):
        fact = submitted(A, FIRST + n)
        out += given(desk.tell(evolve(fact, calls=[large])))
    assert 1 <= len(out) <= 3
    small = given(desk.tell(submitted(A, FIRST + 100, 50, priority=1)))
    assert not small
    finish(desk, 1, *[n for _, n in out])
    assert desk.core.state.workers[1].processing
