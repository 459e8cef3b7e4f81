"""Workers that retire: what they get no more, what they hand over, and when they leave."""

import pytest

from tests.core.test_coordination import A, Desk, submit
from tests.core.test_policies import FIRST, copies, finish, given, kinds
from tests.core.test_replicas import ask, done
from tests.support.stimuli import submitted
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.claims import CLAIM_S
from twisted_dist.core.explain import explain, find
from twisted_dist.core.scheduler import LEASE_S


@pytest.fixture
def desk():
    """Three clients, and workers 1, 2 and 3 of one thread each."""
    desk = Desk()
    for worker in (2, 3):
        desk.tell(s.WorkerJoined(worker, f"h:{worker}", f"w{worker}", 1))
    return desk


def retire(desk, name="w", number=0, timeout=-1.0):
    """Ask for it; what `told` is to be called with, and what is to be done."""
    desk.last += 1
    out = desk.tell(s.Asked(A, desk.last, "retire", name, b"", (), number, timeout))
    return (A, desk.last), out


def left(out):
    """The workers that are told to leave."""
    return [each.worker for each in out if isinstance(each, i.LeaveNow)]


def dropped(out):
    """``{worker: ids asked back}``."""
    return {each.worker: each.ids for each in out if isinstance(each, i.DropTasks)}


def warnings(out):
    """What is said that is no good."""
    return [each.text for each in out if isinstance(each, i.Log) and each.is_warning]


def pinned(desk, name):
    """A task that runs on a worker of that name; its id."""
    task_id = FIRST + 900 + desk.last
    desk.tell(submitted(A, task_id, workers=(name,)))
    return task_id


def why(desk, number=0):
    """Why a task of client A's is not running."""
    return explain(desk.core.state, find(desk.core.state, FIRST + number))["why"]


def test_idle_worker_leaves_at_once(desk):
    """`Retiring` lets a worker go that has nothing, and answers with its address and name."""
    asked, out = retire(desk)
    assert left(out) == [1]
    assert desk.told(asked) == {"h:1": "w"}
    assert list(desk.core.state.workers) == [2, 3]
    assert not desk.tell(s.WorkerLost(1, "it has left"))


def test_no_new_task_or_copy_comes(desk):
    """A retiring worker is given no task, though it is idle, and no copy."""
    first = submit(desk, A, 0)
    where = desk.core.state.tasks[first].processing_on
    (other, third) = (each for each in (1, 2, 3) if each != where.id)
    retire(desk, where.name)
    desk.tell(s.TasksSeceded(where.id, [first], [1], True))  # its thread is free
    out = [submit(desk, A, n) for n in (1, 2)]
    assert {desk.core.state.tasks[n].processing_on.id for n in out} == {third, other}
    for n in out:
        finish(desk, desk.core.state.tasks[n].processing_on.id, n)
    _, out = ask(desk, "replicate", out, 3)
    assert {worker for worker, _, _ in copies(out)} == {other, third}
    _, out = ask(desk, "rebalance")
    assert not copies(out)


def test_what_had_not_begun_goes_to_others(desk):
    """`Retiring` asks back all; what comes back runs elsewhere, and counts as no failure."""
    out = desk.tell(submitted(A, FIRST, 12))
    theirs = [task_id for worker, task_id in given(out) if worker == 1]
    _, out = retire(desk)
    assert dropped(out) == {1: theirs}
    first, *rest = theirs
    for worker in (2, 3):
        finish(desk, worker, *[task.id for task in desk.core.state.workers[worker].processing])
    out = desk.tell(s.TasksReturned(1, rest, [1] * len(rest)))
    assert sorted(task_id for worker, task_id in given(out) if worker != 1) == rest
    assert all(desk.core.state.tasks[n].failures is None for n in rest)
    assert not left(out)
    out = finish(desk, 1, first)  # a result that comes while it retires
    ((target, source, moved),) = copies(out)
    assert (source, moved) == ("h:1", [first])
    assert left(desk.tell(s.ReplicasAdded(target, [first]))) == [1]
    assert desk.core.state.tasks[first].attempt == 1


def test_results_are_spread_over_others(desk):
    """`Replicas` copy what is only there to others, evenly, and the worker leaves with the last."""
    ids = done(desk, 4, nbytes=1000)
    asked, out = retire(desk)
    assert sorted((worker, len(moved)) for worker, _, moved in copies(out)) == [(2, 2), (3, 2)]
    (one, two) = copies(out)
    assert not left(desk.tell(s.ReplicasAdded(one[0], one[2])))
    assert asked not in desk.replies
    out = desk.tell(s.ReplicasAdded(two[0], two[2]))
    assert left(out) == [1]
    assert desk.told(asked) == {"h:1": "w"}
    assert not given(out)
    assert all(len(desk.core.state.tasks[n].who_has) == 1 for n in ids)


def test_copy_that_fails_goes_to_another(desk):
    """`Replicas` try another worker where one cannot fetch, and after all of them wait a little."""
    (task_id,) = done(desk)
    _, out = retire(desk)
    targets = []
    for _ in range(2):
        ((target, _, _),) = copies(out)
        targets.append(target)
        out = desk.tell(s.InputsMissing(target, [], [], [task_id], ["h:1"], silent=True))
    assert targets == [2, 3]
    assert not copies(out)
    desk.now = desk.core.next_deadline()
    ((target, _, _),) = copies(desk.keep(desk.core.expire(desk.now)))
    assert left(desk.tell(s.ReplicasAdded(target, [task_id]))) == [1]
    assert not desk.core.state.failed_copies


def test_target_that_retires_too(desk):
    """A copy on its way to a worker that begins to retire is made once more, elsewhere."""
    (task_id,) = done(desk)
    _, out = retire(desk)
    ((first, _, _),) = copies(out)
    (second,) = {2, 3} - {first}
    runs = pinned(desk, f"w{first}")
    _, out = retire(desk, f"w{first}")
    assert [each[0] for each in copies(out)] == [second]
    assert left(desk.tell(s.ReplicasAdded(first, [task_id]))) == []
    assert left(desk.tell(s.ReplicasAdded(second, [task_id]))) == [1]
    ((_, source, moved),) = copies(finish(desk, first, runs))
    assert source == f"h:{first}"
    assert left(desk.tell(s.ReplicasAdded(second, moved))) == [first]


def test_factor_is_kept_elsewhere(desk):
    """A replicated result has its copies on workers that stay before one leaves."""
    (task_id,) = done(desk)
    _, out = ask(desk, "replicate", [task_id], 2)
    ((target, _, _),) = copies(out)
    desk.tell(s.ReplicasAdded(target, [task_id]))
    _, out = retire(desk)
    ((other, source, _),) = copies(out)
    assert (other, source) == (5 - target, f"h:{target}")
    assert not left(out)
    assert left(desk.tell(s.ReplicasAdded(other, [task_id]))) == [1]


def test_who_holds_the_other_copy_is_lost(desk):
    """A retiring worker does not leave with what was held elsewhere too, and is not any more."""
    (task_id,) = done(desk)
    ask(desk, "replicate", [task_id], 3)
    desk.tell(s.ReplicasAdded(2, [task_id]))
    desk.tell(s.ReplicasAdded(3, [task_id]))
    ask(desk, "replicate", [task_id], 1)
    waits = pinned(desk, "w")
    retire(desk)
    desk.tell(s.WorkerLost(2, "gone"))
    out = desk.tell(s.WorkerLost(3, "gone"))
    assert not left(out)
    assert left(finish(desk, 1, waits)) == []
    assert [each[0] for each in copies(desk.tell(s.WorkerJoined(4, "h:4", "w4", 1)))] == [4]


def test_nobody_to_take_the_data(desk):
    """`Retiring` says once, by name, that there is nobody; it goes on when somebody comes."""
    for worker in (2, 3):
        desk.tell(s.WorkerLost(worker, "gone"))
    task_id = submit(desk, A, 0)
    finish(desk, 1, task_id)
    _, out = retire(desk)
    (words,) = warnings(out)
    assert words.startswith("w (h:1) cannot leave: there is no other worker to take its 1 results")
    assert not warnings(desk.tell(s.Heartbeat(1, {})))
    out = desk.tell(s.WorkerJoined(4, "h:4", "w4", 1))
    assert copies(out) == [(4, "h:1", [task_id])]
    assert left(desk.tell(s.ReplicasAdded(4, [task_id]))) == [1]


def test_deadline(desk):
    """`Retiring` has a worker leave at its deadline; what it ran is run by others."""
    task_id = submit(desk, A, 0)
    where = desk.core.state.tasks[task_id].processing_on
    asked, _ = retire(desk, where.name, timeout=5.0)
    retire(desk, where.name, timeout=50.0)  # the first deadline counts
    desk.now += 5.0
    out = desk.keep(desk.core.expire(desk.now))
    assert left(out) == [where.id]
    (words,) = warnings(out)
    assert "1 tasks have not ended there, and 0 results" in words
    assert desk.told(asked) == {where.address: where.name}
    ((other, again),) = given(out)
    assert (again, other != where.id) == (task_id, True)
    assert desk.core.next_deadline() is None or desk.core.next_deadline() > desk.now


def test_worker_asks_itself(desk):
    """`RetirementWanted` is the same, asked by the worker."""
    assert left(desk.tell(s.RetirementWanted(2, 300.0))) == [2]
    assert not desk.tell(s.RetirementWanted(2, 300.0))
    for odd in (float("nan"), float("inf"), 1e300):
        desk.tell(s.RetirementWanted(3, odd))


def test_those_that_hold_least(desk):
    """`Client.retire_workers(n=…)` means those that hold least, of the named ones."""
    done(desk, 2, nbytes=1000)
    desk.tell(s.ReplicasAdded(2, []))
    asked, out = retire(desk, "", number=1)
    assert left(out) == [2]
    assert desk.told(asked) == {"h:2": "w2"}
    _, out = retire(desk, "w", number=2)
    assert list(desk.core.state.retiring) == [desk.core.state.workers[1]]
    assert "nobody" in desk.error(retire(desk, "w\nnobody")[0])


def test_lost_while_it_retires(desk):
    """A worker that is lost before it could leave is lost as any; who waits is answered."""
    (task_id,) = done(desk)
    asked, _ = retire(desk, timeout=9.0)
    out = desk.tell(s.WorkerLost(1, "gone"))
    assert desk.told(asked) == {"h:1": "w"}
    assert [n for _, n in given(out)] == [task_id]
    assert not desk.core.state.retiring
    desk.wait(20.0)


def test_pinned_task(desk):
    """What only a retiring worker may run waits, and says so; patience begins when it has left."""
    desk.tell(submitted(A, FIRST, 2, workers=("w",)))
    retire(desk)
    out = desk.tell(s.TasksReturned(1, [FIRST + 1], [1]))
    assert not given(out)
    assert why(desk, 1) == (
        "it asks for workers=['w'], and only workers that retire could give that (w (h:1))"
    )
    assert not kinds(desk.tell(submitted(A, FIRST + 2, workers=("w",))))
    for _ in range(30):
        desk.wait(LEASE_S / 10)
        for worker in (1, 2, 3):
            desk.tell(s.Heartbeat(worker, {}))
    assert find(desk.core.state, FIRST + 1).state == "no-worker"
    out = finish(desk, 1, FIRST)
    ((target, _, moved),) = copies(out)
    assert left(desk.tell(s.ReplicasAdded(target, moved))) == [1]
    for _ in range(9):
        desk.wait(LEASE_S / 10)
        for worker in (2, 3):
            desk.tell(s.Heartbeat(worker, {}))
    assert find(desk.core.state, FIRST + 1).state == "no-worker"
    desk.wait(LEASE_S / 5)
    assert find(desk.core.state, FIRST + 1).erred_by[0] == "no-worker"
    assert kinds(desk.tell(submitted(A, FIRST + 9, workers=("w",)))) == ["no-worker"]


def test_pinned_task_and_another_of_that_name(desk):
    """What waited for a retiring worker goes to the next of its name."""
    desk.tell(submitted(A, FIRST, 2, workers=("w",)))
    retire(desk)
    desk.tell(s.TasksReturned(1, [FIRST + 1], [1]))
    assert given(desk.tell(s.WorkerJoined(4, "h:4", "w", 1))) == [(4, FIRST + 1)]


def test_all_retire(desk):
    """`explain` says that nothing begins as all workers retire."""
    desk.tell(submitted(A, FIRST, 3))
    retire(desk, "")
    desk.tell(submitted(A, FIRST + 3))
    assert why(desk, 3).endswith(
        "all workers retire, and begin nothing more: w (h:1), w2 (h:2), w3 (h:3)"
    )


def test_backlog_goes_to_others(desk):
    """What waits for its data at a retiring worker waits for anybody; its inputs are fetched."""
    (data,) = done(desk, nbytes=10**9)
    desk.tell(submitted(A, FIRST + 500, 20, deps=[[data]] * 20))
    waiting = [task.id for task in desk.core.state.workers[1].backlog]
    assert waiting
    _, out = retire(desk)
    assert {task_id for worker, task_id in given(out) if worker != 1} <= set(waiting)
    assert len(given(out)) >= 2
    assert desk.core.state.workers[1].backlog.peek() is None


def test_who_fetches_is_waited_for(desk):
    """A worker does not leave while another fetches from it."""
    (data,) = done(desk)
    _, out = retire(desk)
    ((target, _, _),) = copies(out)
    other = 5 - target
    for n in range(3):
        desk.tell(submitted(A, FIRST + 100 + n, deps=[[data]], workers=(f"w{other}",)))
    assert desk.core.state.workers[other].fetching
    assert not left(desk.tell(s.ReplicasAdded(target, [data])))
    assert left(desk.tell(s.ReplicasAdded(other, [data]))) == [1]


def test_data_that_is_not_told_of_yet(desk):
    """A worker does not leave with data of which its client will tell; nor wait for ever."""
    data = (A << CLIENT_SHIFT) + 7
    desk.tell(s.DataPut(1, [data]))
    assert not left(retire(desk)[1])
    out = desk.tell(s.DataScattered(A, [data], [8], 1))
    ((target, _, _),) = copies(out)
    assert left(desk.tell(s.ReplicasAdded(target, [data]))) == [1]
    put_at, other = desk.now, 5 - target
    desk.tell(s.DataPut(other, [data + 1]))
    retire(desk, f"w{other}")
    for _ in range(11):
        desk.wait(CLAIM_S / 10)
        there = other in desk.core.state.workers
        for worker in (2, 3):
            desk.tell(s.Heartbeat(worker, {}))
        assert there is (desk.now < put_at + CLAIM_S)


def test_moves_to_it_become_copies(desk):
    """A result that `rebalance` was moving to a worker is not only there when that retires."""
    done(desk, 3, nbytes=1000)
    _, out = ask(desk, "rebalance")
    ((_, _, moved),) = [each for each in copies(out) if each[0] == 2]
    runs = pinned(desk, "w2")
    retire(desk, "w2")
    desk.tell(s.ReplicasAdded(2, moved))
    out = desk.tell(s.TasksErred(2, [runs], [1], [b""], ["oops"]))
    assert left(out) == [2]
    held = [desk.core.state.tasks[n].who_has for n in moved]
    assert [[w.id for w in each] for each in held] == [[1]]


def test_restart_while_it_retires(desk):
    """`Restarts` end retirements as well: whoever waited is answered."""
    done(desk)
    asked, _ = retire(desk, timeout=9.0)
    ask(desk, "restart")
    assert desk.told(asked) == {"h:1": "w"}
    assert not desk.core.state.retiring
    desk.wait(20.0)


def test_nobody_waits_when_all_leave(desk):
    """Workers that do not wait leave with what they hold once nobody stays to take it."""
    (first, second) = done(desk, 2, nbytes=1000)
    state = desk.core.state
    assert {each.id for n in (first, second) for each in state.tasks[n].who_has} == {1}
    assert not left(desk.tell(s.RetirementWanted(1, 25.0, False)))
    assert left(desk.tell(s.RetirementWanted(2, 25.0, False))) == [2]  # though a copy was to come
    out = desk.tell(s.RetirementWanted(3, 25.0, False))
    assert sorted(left(out)) == [1, 3]
    assert "2 results go with w" in " ".join(warnings(out))
    assert not state.workers


def test_those_that_end_first_do_not_wait(desk):
    """A worker that does not wait still ends what it runs, and hands over while others stay."""
    task_id = pinned(desk, "w")
    assert not left(desk.tell(s.RetirementWanted(1, 25.0, False)))
    out = finish(desk, 1, task_id)
    ((target, _, moved),) = copies(out)
    assert moved == [task_id]
    assert left(desk.tell(s.ReplicasAdded(target, [task_id]))) == [1]


def test_haste_after_waiting(desk):
    """A worker that retires in its own time and is then told to end waits no longer."""
    done(desk, 2, nbytes=1000)
    for worker in (2, 3):
        desk.tell(s.WorkerLost(worker, "gone"))
    out = desk.tell(s.RetirementWanted(1, 300.0))
    assert not left(out)
    assert "it waits for one" in " ".join(warnings(out))
    assert left(desk.tell(s.RetirementWanted(1, 25.0, False))) == [1]


def test_copies_on_their_way_to_who_retires_as_well(desk):
    """A result that was to go to a worker which retires then goes to another, without a wait."""
    (task_id,) = done(desk, 1, nbytes=1000)
    desk.tell(s.WorkerJoined(4, "h:4", "w4", 1))
    leaving, targets = 1, []
    for _ in range(3):
        ((target, source, moved),) = copies(desk.tell(s.RetirementWanted(leaving, 25.0, False)))
        assert (source, moved) == ("h:1", [task_id])
        targets.append(target)
        desk.last += 1
        pinned(desk, f"w{target}")  # so that it stays for a while
        leaving = target
    assert sorted(targets) == [2, 3, 4]


def test_more_copies_than_are_made_at_a_time(desk):
    """Where more copies are wanted than the only holder serves at a time, they come in turn."""
    (task_id,) = done(desk, 1, nbytes=1000)
    desk.tell(s.WorkerJoined(4, "h:4", "w4", 1))
    retire(desk)
    ask(desk, "replicate", [task_id], 3)
    under_way = sorted(desk.core.state.copying[desk.core.state.tasks[task_id]], key=lambda w: w.id)
    assert len(under_way) == 2
    ((target, _, moved),) = copies(desk.tell(s.ReplicasAdded(under_way[0].id, [task_id])))
    assert moved == [task_id]
    assert {target, *(each.id for each in under_way)} == {2, 3, 4}
