"""Copies, moves, datasets and restarts, where workers and clients come and go meanwhile."""

import pytest

from tests.core.test_coordination import A, B, Desk, submit
from tests.core.test_policies import copies, finish, given
from twisted_dist.core import instructions as i
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.replicas import RETRY_S


@pytest.fixture
def desk():
    """Three clients, and workers 1, 2 and 3 of one thread each."""
    desk = Desk()
    for worker in (2, 3):
        desk.tell(s.WorkerJoined(worker, f"h:{worker}", f"w{worker}", 1))
    return desk


def done(desk, count=1, nbytes=8):
    """Results on worker 1; their ids."""
    desk.tell(s.WorkerLost(2, "away"))
    desk.tell(s.WorkerLost(3, "away"))
    ids = [submit(desk, A, n) for n in range(count)]
    for each in ids:
        finish(desk, 1, each, nbytes=nbytes)
    for worker in (2, 3):
        desk.tell(s.WorkerJoined(worker, f"h:{worker}", f"w{worker}", 1))
    return ids


def ask(desk, what, ids=(), number=0, name=""):
    """Ask; the request, and what is to be done."""
    desk.last += 1
    out = desk.tell(s.Asked(A, desk.last, what, name, b"", ids, number, -1.0))
    return (A, desk.last), out


def targets(out):
    """The workers that are to fetch."""
    return sorted(worker for worker, _, _ in copies(out))


def test_replicate_is_answered_when_all_are_there(desk):
    """`Replicas` answer once the last copy has arrived."""
    (task_id,) = done(desk)
    asked, out = ask(desk, "replicate", [task_id], 3)
    assert targets(out) == [2, 3]
    desk.tell(s.ReplicasAdded(2, [task_id]))
    assert asked not in desk.replies
    desk.tell(s.ReplicasAdded(3, [task_id]))
    assert desk.told(asked) is None
    assert len(desk.core.state.tasks[task_id].who_has) == 3


def test_copy_of_a_lost_worker_goes_elsewhere(desk):
    """`Replicas` make another copy where the one that fetched it is lost, before or after."""
    (task_id,) = done(desk)
    asked, out = ask(desk, "replicate", [task_id], 2)
    (first,) = targets(out)
    (second,) = {2, 3} - {first}
    assert targets(desk.tell(s.WorkerLost(first, "gone"))) == [second]
    desk.tell(s.ReplicasAdded(second, [task_id]))
    assert desk.told(asked) is None
    desk.tell(s.WorkerJoined(4, "h:4", "w4", 1))
    assert targets(desk.tell(s.WorkerLost(second, "gone"))) == [4]
    desk.tell(s.ReplicasAdded(4, [task_id]))
    desk.tell(s.WorkerLost(1, "gone"))
    assert list(desk.core.state.tasks[task_id].who_has) == [desk.core.state.workers[4]]


def test_replicate_with_too_few_workers(desk):
    """`Replicas` answer when there are as many copies as workers, and go on when more come."""
    (task_id,) = done(desk)
    asked, _ = ask(desk, "replicate", [task_id], 9)
    desk.tell(s.ReplicasAdded(2, [task_id]))
    desk.tell(s.WorkerLost(3, "gone"))
    assert desk.told(asked) is None
    assert targets(desk.tell(s.WorkerJoined(4, "h:4", "w4", 1))) == [4]


def test_replicate_before_there_is_a_result(desk):
    """`Replicas` do not wait for what is not computed, and copy it once it is."""
    task_id = submit(desk, A, 0)
    asked, out = ask(desk, "replicate", [task_id], 2)
    assert desk.told(asked) is None
    assert not copies(out)
    worker = desk.core.state.tasks[task_id].processing_on.id
    assert len(targets(finish(desk, worker, task_id))) == 1


def test_one_copy_ends_it(desk):
    """`Replicas` with a factor of 1 make no more copies; less is refused."""
    (task_id,) = done(desk)
    ask(desk, "replicate", [task_id], 2)
    desk.tell(s.ReplicasAdded(2, [task_id]))
    desk.tell(s.ReplicasAdded(3, [task_id]))
    ask(desk, "replicate", [task_id], 1)
    assert not copies(desk.tell(s.WorkerLost(2, "gone")))
    assert not desk.core.state.replicated
    asked, _ = ask(desk, "replicate", [task_id], 0)
    assert "0 copies" in desk.error(asked)
    asked, _ = ask(desk, "replicate", [], 2)
    assert desk.told(asked) is None


def test_copy_that_fails_is_tried_again(desk):
    """`Replicas` ask for a copy again, from who still has it."""
    (task_id,) = done(desk)
    asked, out = ask(desk, "replicate", [task_id], 2)
    (first,) = targets(out)
    out = desk.tell(s.InputsMissing(first, [], [], [task_id], ["h:1"], silent=True))
    assert len(copies(out)) == 1
    desk.tell(s.ReplicasAdded(targets(out)[0], [task_id]))
    assert desk.told(asked) is None


def test_copy_that_fails_and_comes_all_the_same(desk):
    """`Replicas.arrived` lets nobody try again for a copy that nobody keeps."""
    x, _ = done(desk, 2)
    out = desk.tell(s.RetirementWanted(1, 300.0))
    coming = {n: worker for worker, _, ids in copies(out) for n in ids}
    target = coming[x]
    (other,) = {2, 3} - {target}
    for each in (target, other):
        desk.tell(s.InputsMissing(each, [], [], [x], ["h:1"], silent=True))
    (task,) = desk.core.state.failed_copies
    assert task.id == x
    assert desk.core.state.copying  # of the other
    out = desk.tell(s.ReplicasAdded(target, [x]))
    assert [(e.worker, e.ids) for e in out if isinstance(e, i.ReleaseData)] == [(target, [x])]
    invariants.check(desk.core.state)
    desk.now += RETRY_S
    assert x in [n for _, _, ids in copies(desk.keep(desk.core.expire(desk.now))) for n in ids]


def test_all_copies_are_released_with_the_last_future(desk):
    """`Replicas` forget the factor with the task; every holder is told to let go."""
    (task_id,) = done(desk)
    ask(desk, "replicate", [task_id], 3)
    for worker in (2, 3):
        desk.tell(s.ReplicasAdded(worker, [task_id]))
    out = desk.tell(s.KeysReleased(A, [task_id]))
    assert sorted(e.worker for e in out if isinstance(e, i.ReleaseData)) == [1, 2, 3]
    assert not desk.core.state.replicated
    assert not desk.core.state.tasks


def test_copy_that_comes_too_late_is_released(desk):
    """`Answers.replicas_added` has a worker forget a copy of what nobody wants any more."""
    (task_id,) = done(desk)
    asked, out = ask(desk, "replicate", [task_id], 2)
    (worker,) = targets(out)
    desk.tell(s.KeysReleased(A, [task_id]))
    assert desk.told(asked) is None
    out = desk.tell(s.ReplicasAdded(worker, [task_id]))
    assert [(e.worker, e.ids) for e in out if isinstance(e, i.ReleaseData)] == [(worker, [task_id])]
    assert not desk.core.state.copying


def test_rebalance_keeps_the_source_until_the_copy_is_there(desk):
    """`Replicas` release nothing where a move failed; the answer comes all the same."""
    ids = done(desk, 3, nbytes=1000)
    asked, out = ask(desk, "rebalance")
    assert targets(out) == [2, 3]
    for worker, _, moved in copies(out):
        assert asked not in desk.replies
        fact = s.InputsMissing(worker, [], [], moved, ["h:1"] * len(moved), silent=True)
        assert not [e for e in desk.tell(fact) if isinstance(e, i.ReleaseData)]
    assert desk.told(asked) is None
    assert list(desk.core.state.workers[1].has_what) == [desk.core.state.tasks[n] for n in ids]


def test_rebalance_when_the_target_is_lost(desk):
    """`Replicas` answer although a worker that was to take data is gone."""
    done(desk, 3, nbytes=1000)
    asked, out = ask(desk, "rebalance")
    ((_, _, moved),) = [each for each in copies(out) if each[0] == 2]
    desk.tell(s.WorkerLost(3, "gone"))
    desk.tell(s.ReplicasAdded(2, moved))
    assert desk.told(asked) is None


def test_rebalance_of_some(desk):
    """`Replicas` move among the named workers, and of the given results, only."""
    ids = done(desk, 4, nbytes=1000)
    _, out = ask(desk, "rebalance", name="h:1\nw2")
    assert targets(out) == [2]
    ((_, _, moved),) = copies(out)
    desk.tell(s.ReplicasAdded(2, moved))
    rest = [each for each in ids if each not in moved]
    asked, out = ask(desk, "rebalance", rest[:1])
    assert copies(out) == [(3, "h:1", rest[:1])]
    desk.tell(s.ReplicasAdded(3, rest[:1]))
    assert desk.told(asked) is None
    asked, out = ask(desk, "rebalance", name="nobody")
    assert desk.told(asked) is None
    assert not copies(out)


def test_rebalance_of_what_is_even(desk):
    """`Replicas` move nothing where nothing is to be gained, and answer at once."""
    done(desk, 1, nbytes=1000)
    asked, out = ask(desk, "rebalance")
    assert not copies(out)
    assert desk.told(asked) is None


def test_dataset_goes_to_clients_under_their_own_ids(desk):
    """`Datasets` are lent to each client, however often; unpublishing takes nothing from it."""
    (task_id,) = done(desk)
    desk.told(desk.ask(A, "publish", "d", blob=b"v", ids=[task_id]))
    desk.tell(s.KeysReleased(A, [task_id]))
    lent = [desk.told(desk.ask(client, "dataset", "d"))[1][0] for client in (A, B, B)]
    assert len(set(lent)) == 3
    desk.told(desk.ask(B, "unpublish", "d"))
    assert "there are: none" in desk.error(desk.ask(A, "dataset", "d"))
    assert "no dataset" in desk.error(desk.ask(A, "unpublish", "d"))
    desk.tell(s.KeysReleased(A, lent[:1]))
    desk.tell(s.ClientLost(B))
    assert not desk.core.state.tasks


def test_lent_future_is_computed_again(desk):
    """`Parcels.lend` has a result that was lost since computed again for who is given it."""
    (task_id,) = done(desk)
    desk.told(desk.ask(A, "publish", "d", ids=[task_id]))
    out = desk.tell(s.WorkerLost(1, "gone"))
    (own,) = desk.told(desk.ask(B, "dataset", "d"))[1]
    ((worker, again),) = given(out)
    assert again == task_id
    out = desk.tell(s.TasksFinished(worker, [task_id], [2], [8], [10], [b"v"]))
    told = {e.client: e.ids for e in out if isinstance(e, i.ReportFinished)}
    assert told[B] == [own]


def test_restart_gives_everything_up(desk):
    """`Restarts` cancel for all clients, answer who waits for copies, and forget the workers."""
    ids = done(desk, 3, nbytes=1000)
    mine = submit(desk, B, 0)
    desk.told(desk.ask(A, "publish", "d", ids=ids[:1]))
    copied, _ = ask(desk, "replicate", ids[:1], 3)
    moved, _ = ask(desk, "rebalance")
    asked, out = ask(desk, "restart")
    assert sorted(desk.told(asked)) == ["h:1", "h:2", "h:3"]
    assert sorted(e.worker for e in out if isinstance(e, i.RestartWorker)) == [1, 2, 3]
    erred = {e.client: (e.ids, set(e.kinds)) for e in out if isinstance(e, i.ReportErred)}
    assert erred == {A: (ids, {"cancelled"}), B: ([mine], {"cancelled"})}
    assert desk.told(copied) is None
    assert desk.told(moved) is None
    state = desk.core.state
    assert not state.workers
    assert not state.copying
    desk.tell(s.WorkerJoined(5, "h:1", "w1", 1))
    out = desk.tell(s.TasksFinished(1, ids[:1], [1], [8], [10], [b"late"]))  # of a life before
    assert not out
    assert given(desk.tell(s.KeysReleased(A, ids))) == []
    desk.tell(s.KeysReleased(B, [mine]))
    assert not state.tasks
    task_id = submit(desk, B, 1)
    assert state.tasks[task_id].processing_on.id == 5


@pytest.mark.parametrize(("what", "number"), [("rebalance", 0), ("replicate", 2)])
def test_data_that_is_forgotten_on_its_way(desk, what, number):
    """`Replicas` answer, and remember nothing, when what they move is nobody's any more."""
    ids = done(desk, 4, nbytes=1000)
    asked, out = ask(desk, what, ids, number)
    assert copies(out)
    desk.tell(s.WorkerLost(1, "gone"))
    desk.tell(s.KeysReleased(A, ids))
    assert not desk.core.state.tasks
    assert not desk.core.state.copying
    assert asked in desk.replies


def test_whom_to_ask(desk):
    """A client that asks once more where a result is hears of another holder."""
    (task_id,) = done(desk)
    ask(desk, "replicate", [task_id], 3)
    for worker in (2, 3):
        desk.tell(s.ReplicasAdded(worker, [task_id]))
    told = set()
    for request in range(3):
        out = desk.tell(s.LocationsAsked(A, request, [task_id]))
        ((address, ids),) = next(
            each for each in out if isinstance(each, i.ReportLocations)
        ).sources
        assert ids == [task_id]
        told.add(address)
    assert told == {"h:1", "h:2", "h:3"}
