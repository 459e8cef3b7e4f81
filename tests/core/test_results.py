"""What ended in one turn is handled together, and comes to the same as one by one."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.core.test_coordination import A, B, Desk
from tests.core.test_policies import FIRST
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import instructions as i
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.explain import explain, find
from twisted_dist.core.scheduler import SchedulerCore
from twisted_dist.core.story import MANY_IDS, Story
from twisted_dist.core.transitions import INLINE_BUDGET

OTHER = B << CLIENT_SHIFT


@pytest.fixture
def desk():
    """Three clients, and four workers of one thread."""
    desk = Desk()
    for number in (11, 12, 13):
        desk.tell(s.WorkerJoined(number, f"h{number}:1", f"w{number}", 1))
    return desk


def handed_out(instructions):
    """``{task id: (worker, attempt)}``."""
    return {
        task_id: (each.worker, attempt)
        for each in instructions
        if isinstance(each, i.SendTasks)
        for run in each.runs
        for task_id, attempt in zip(run.ids, run.attempts)
    }


def finished(worker, *ids, attempt=1, nbytes=8, value=None):
    """What a worker says that has run these."""
    n = len(ids)
    return s.TasksFinished(worker, ids, [attempt] * n, [nbytes] * n, [100] * n, [value] * n)


def in_a_turn(desk, *facts):
    """Have them taken in, and decided on once."""
    for fact in facts:
        desk.now += 0.001
        desk.core.take(fact, desk.now)
    out = desk.keep(desk.core.decide())
    invariants.check(desk.core.state)
    return out


def reports(instructions):
    """``{client: [(task id, bytes, value), …]}``."""
    return {
        each.client: list(zip(each.ids, each.nbytes, each.values))
        for each in instructions
        if isinstance(each, i.ReportFinished)
    }


def test_each_client_is_told_of_its_own(desk):
    """`Results` tells clients in one report each, whoever's tasks came between."""
    where = handed_out(desk.tell(submitted(A, FIRST)))
    where.update(handed_out(desk.tell(submitted(B, OTHER, key="shared"))))
    where.update(handed_out(desk.tell(submitted(A, FIRST + 1))))
    desk.tell(submitted(A, FIRST + 2, key="shared"))
    where.update(handed_out(desk.tell(submitted(B, OTHER + 1))))
    facts = [finished(worker, each, value=b"v") for each, (worker, _) in where.items()]
    told = reports(in_a_turn(desk, *facts))
    assert sorted(told[A]) == [(FIRST + n, 8, b"v") for n in range(3)]
    assert sorted(told[B]) == [(OTHER + n, 8, b"v") for n in range(2)]


def test_values_are_pushed_within_the_budget(desk):
    """`Results` pushes a turn's values while `INLINE_BUDGET` lasts, and counts what went."""
    where = handed_out(desk.tell(submitted(A, FIRST, 4)))
    half = INLINE_BUDGET // 2
    facts = [finished(worker, each, nbytes=half, value=b"v") for each, (worker, _) in where.items()]
    told = reports(in_a_turn(desk, *facts))
    assert sorted(value is None for _, _, value in told[A]) == [False, False, True, True]
    client = desk.core.state.clients[A]
    assert client.inlined == INLINE_BUDGET
    desk.tell(s.KeysReleased(A, range(FIRST, FIRST + 4)))
    assert client.inlined == 0
    assert not desk.core.state.tasks


def test_what_ended_is_known_before_what_follows(desk):
    """`SchedulerCore` handles results before the loss of who sent them, in the same turn."""
    ((task_id, (worker, _)),) = handed_out(desk.tell(submitted(A, FIRST))).items()
    out = in_a_turn(desk, finished(worker, task_id, value=b"v"), s.WorkerLost(worker, "gone"))
    assert reports(out)[A] == [(FIRST, 8, b"v")]
    assert not handed_out(out)  # the client has the value: nobody runs it again


def test_who_has_just_answered_is_not_silent(desk):
    """`SchedulerCore.expire` knows of an answer that was taken in and not decided on."""
    ((task_id, (worker, _)),) = handed_out(desk.tell(submitted(A, FIRST))).items()
    state = desk.core.state
    desk.now += desk.core.lease_s - 1
    desk.core.take(finished(worker, task_id), desk.now)
    desk.now += 2
    desk.core.expire(desk.now)
    assert list(state.workers) == [worker]


def test_late_and_twice(desk):
    """`Results` has surplus results released, be they late or said twice in one turn."""
    ((task_id, (worker, _)),) = handed_out(desk.tell(submitted(A, FIRST))).items()
    desk.tell(s.WorkerLost(worker, "gone"))
    other = desk.core.state.tasks[task_id].processing_on
    last = desk.core.state.tasks[task_id].attempt
    desk.tell(s.WorkerJoined(worker + 1000, "h:1", "back", 1))
    out = in_a_turn(
        desk,
        finished(worker + 1000, task_id, attempt=1),
        finished(other.id, task_id, attempt=last),
        finished(other.id, task_id, attempt=last),
    )
    released = [(each.worker, each.ids) for each in out if isinstance(each, i.ReleaseData)]
    assert released == [(worker + 1000, [task_id])]
    assert reports(out)[A] == [(FIRST, 8, None)]


def test_story_of_what_came_alone(desk):
    """`explain` tells where each of the tasks was that ended, and were given, in one turn."""
    where = handed_out(desk.tell(submitted(A, FIRST, 3)))
    in_a_turn(desk, *(finished(worker, each) for each, (worker, _) in where.items()))
    state = desk.core.state
    for task_id, (worker, _) in where.items():
        told = explain(state, find(state, task_id))["story"]
        label = state.workers[worker].label
        assert [(what, place) for _, what, place in told[1:]] == [
            ("was given", label),
            ("finished", label),
        ]


def test_story_of_many_that_came_alone():
    """`Story.note_each` finds each where it was, and is bounded like `note`."""
    story = Story(most_entries=4)
    ids = list(range(3 * MANY_IDS))
    story.note_each(1.0, "was", ids, [f"w{n}" for n in ids])
    assert [entry.where for entry in story.of(2 * MANY_IDS)] == [f"w{2 * MANY_IDS}"]
    story.note_each(2.0, "was", [1, 2, 1], ["a", "b", "c"])
    assert [entry.where for entry in story.of(1)] == ["w1", "a", "c"]
    story.note(3.0, "went", [1], "d")
    assert [entry.where for entry in story.of(1)] == ["a", "c", "d"]


@given(
    deps=st.lists(st.sets(st.integers(1, 6), max_size=3), min_size=1, max_size=30),
    wanted=st.sets(st.integers(0, 29), min_size=1),
    value=st.sampled_from([None, b"v"]),
    together=st.integers(2, 8),
)
def test_as_one_by_one(deps, wanted, value, together):
    """`SchedulerCore` gives every result to who wants it however many ended in a turn."""
    n = len(deps)
    needs = [sorted({k - each for each in back if each <= k}) for k, back in enumerate(deps)]
    wishes = sorted({each % n for each in wanted})
    outcomes = [_run_all(needs, wishes, value, each) for each in (1, together)]
    assert outcomes[0] == outcomes[1] == {FIRST + k for k in wishes}


def _run_all(needs, wanted, value, together):
    """Run a graph with so many answers in a turn; the ids that the client is told of."""
    core = SchedulerCore()
    for number in (1, 2, 3):
        core.handle(s.WorkerJoined(number, f"h{number}:1", f"w{number}", 2), 0.0)
    core.handle(s.ClientJoined(A, "a"), 0.0)
    core.handle(s.FunctionDefined(A, DIGEST, "f", b"x"), 0.0)
    deps = [[FIRST + each for each in some] for some in needs]
    given = handed_out(core.handle(submitted(A, FIRST, len(needs), deps, wanted=wanted), 0.0))
    told = set()
    now = 0.0
    while given:
        now += 0.01
        for task_id in list(given)[:together]:
            worker, attempt = given.pop(task_id)
            core.take(finished(worker, task_id, attempt=attempt, value=value), now)
        out = core.decide()
        invariants.check(core.state)
        given.update(handed_out(out))
        told.update(task_id for rows in reports(out).values() for task_id, _, _ in rows)
    core.handle(s.KeysReleased(A, sorted(told)), now)
    assert not core.state.tasks
    assert not any(each.has_what for each in core.state.workers.values())
    return told
