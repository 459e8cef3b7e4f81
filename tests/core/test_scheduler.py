"""`SchedulerCore`, driven by hand."""

from tests.support.stimuli import DIGEST as D
from tests.support.stimuli import submitted
from twisted_dist.core import stimuli as s
from twisted_dist.core.instructions import ReportErred, ReportFinished, SendTasks
from twisted_dist.core.scheduler import SchedulerCore

BASE = 9 << 40


def network(workers: int = 2) -> SchedulerCore:
    """A core with workers 1.. and the client 9, who has sent a function."""
    core = SchedulerCore()
    for w in range(1, workers + 1):
        core.handle(s.WorkerJoined(w, f"h{w}:1", f"w{w}", 1), 0.0)
    core.handle(s.ClientJoined(9, "c"), 0.0)
    core.handle(s.FunctionDefined(9, D, "inc", b"x"), 0.0)
    return core


def submit(core, n, first=BASE, deps=(), key=""):
    """Submit n tasks; what the core says."""
    return core.handle(submitted(9, first, n, deps, key), 0.0)


def run_all(core, instructions):
    """Answer every SendTasks until nothing moves; ids reported to the client."""
    queue, reported = list(instructions), []
    while queue:
        each = queue.pop(0)
        if isinstance(each, SendTasks):
            for run in each.runs:
                n = len(run.ids)
                fact = s.TasksFinished(
                    each.worker, run.ids, run.attempts, [5] * n, [1] * n, [b"r"] * n
                )
                queue += core.handle(fact, 1.0)
        elif isinstance(each, ReportFinished):
            reported += each.ids
    return reported


def test_map_finishes_and_is_forgotten():
    """`SchedulerCore` reports each task of a map once, and forgets it when released."""
    core = network()
    reported = run_all(core, submit(core, 1000))
    assert sorted(reported) == list(range(BASE, BASE + 1000))
    core.handle(s.KeysReleased(9, range(BASE, BASE + 1000)), 2.0)
    assert not core.state.tasks
    assert all(not w.has_what and not w.processing for w in core.state.workers.values())


def test_dependent_waits_for_its_input():
    """`SchedulerCore` sends a dependent only once its input is in memory."""
    core = network(1)
    first = submit(core, 1)
    assert not [i for i in submit(core, 1, BASE + 1, [[BASE]]) if isinstance(i, SendTasks)]
    assert run_all(core, first) == [BASE, BASE + 1]


def test_worker_lost_requeues():
    """`SchedulerCore.handle(WorkerLost)` moves its running tasks to survivors."""
    core = network(2)
    sent = {i.worker: i for i in submit(core, 2) if isinstance(i, SendTasks)}
    lost = sent[1].runs[0].ids
    (again,) = [
        i for i in core.handle(s.WorkerLost(1, "gone"), 1.0) if isinstance(i, SendTasks)
    ] or [None]
    if again is None:  # worker 2 is full: it gets the task when it finishes its own
        out = run_all(core, [sent[2]])
        assert set(lost) <= set(out)
    else:
        assert again.worker == 2
        assert again.runs[0].ids == lost


def test_lost_result_is_computed_again_for_a_dependent():
    """`SchedulerCore` recomputes a lost result that a later task needs."""
    core = network(1)
    assert run_all(core, submit(core, 1)) == [BASE]
    core.handle(s.WorkerLost(1, "gone"), 1.0)
    core.handle(s.WorkerJoined(2, "h2:1", "w2", 1), 1.0)
    assert BASE + 1 in run_all(core, submit(core, 1, BASE + 1, [[BASE]]))


def test_late_answer_is_dropped():
    """`SchedulerCore` ignores a result of an attempt that was given up."""
    core = network(1)
    (sent,) = [i for i in submit(core, 1) if isinstance(i, SendTasks)]
    run = sent.runs[0]
    core.handle(s.TasksReturned(1, run.ids, run.attempts), 1.0)
    fact = s.TasksFinished(1, run.ids, run.attempts, [5], [1], [b"r"])
    assert not [i for i in core.handle(fact, 1.0) if isinstance(i, ReportFinished)]


def test_killing_task_fails_after_its_budget():
    """`SchedulerCore` gives up a task that killed three processes."""
    core = network(1)
    out = submit(core, 1)
    for _ in range(3):
        (sent,) = [i for i in out if isinstance(i, SendTasks)]
        run = sent.runs[0]
        out = core.handle(s.TasksKilled(1, run.ids, run.attempts, ["died"]), 1.0)
    (report,) = [i for i in out if isinstance(i, ReportErred)]
    assert report.kinds == ["killed"]


def test_same_key_is_computed_once():
    """`SchedulerCore` answers a second submission of a key from the first."""
    core = network(1)
    out = submit(core, 1, key="k") + submit(core, 1, BASE + 1, key="k")
    assert len([i for i in out if isinstance(i, SendTasks)]) == 1
    assert sorted(run_all(core, out)) == [BASE, BASE + 1]


def test_error_reaches_all_dependents():
    """`SchedulerCore` fails what needs a failed task, with the same exception."""
    core = network(1)
    (sent,) = [i for i in submit(core, 1) if isinstance(i, SendTasks)]
    submit(core, 1, BASE + 1, [[BASE]])
    run = sent.runs[0]
    out = core.handle(s.TasksErred(1, run.ids, run.attempts, [b"e"], ["t"]), 1.0)
    (report,) = [i for i in out if isinstance(i, ReportErred)]
    assert report.ids == [BASE, BASE + 1]
    assert report.blobs == [b"e", b"e"]


def test_failure_is_told_once():
    """`SchedulerCore` does not tell of a failure again when more needs it."""
    core = network(1)
    (sent,) = [each for each in submit(core, 1) if isinstance(each, SendTasks)]
    core.handle(s.TasksErred(1, sent.runs[0].ids, sent.runs[0].attempts, [b"e"], ["t"]), 1.0)
    (report,) = submit(core, 1, BASE + 1, [[BASE]])
    assert report.ids == [BASE + 1]
