"""`core.claims`: what workers that come back have, and what clients that come back ask for."""

import pytest

from tests.core.test_coordination import A, B, Desk, submit
from tests.core.test_policies import FIRST, copies, given, kinds
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.aliases import ATTEMPTS_A_GENERATION
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.claims import CLAIM_S, GRACE_S
from twisted_dist.core.scheduler import LEASE_S

#: a worker that comes back
W, X = 2, 3


class Anew(Desk):
    """A scheduler that was started again, of which members return: two workers, client A."""

    def __init__(self, peers=2):
        super().__init__()
        self.tell(s.WorkerLost(1, "it was only for the beginning"))
        self.tell(s.MemberReturned(peers, 0))
        self.out = []

    def tell(self, fact):
        self.out = super().tell(fact)
        return self.out

    def come(self, worker, results=(), tasks=(), waiting=(), attempt=1, *, all_of_it=True):
        """A worker returns with *results* and *tasks*; what is to be done."""
        out = self.tell(s.WorkerJoined(worker, f"h:{worker}", f"w{worker}", 1, {}, claims=True))
        if results:
            n = len(results)
            out += self.tell(s.ResultsClaimed(worker, results, [attempt] * n, [8] * n))
        if tasks:
            out += self.tell(s.TasksClaimed(worker, tasks, [attempt] * len(tasks), waiting))
        if all_of_it:
            out += self.tell(s.AllClaimed(worker))
        return out

    def return_client(self, client=A):
        """A client returns."""
        self.tell(s.ClientLost(client))
        self.tell(s.ClientJoined(client, f"c{client}", returns=True))

    def live(self, seconds):
        """Let time pass, in which the workers beat."""
        out = []
        for _ in range(int(seconds)):
            for worker in list(self.core.state.workers):
                out += self.tell(s.Heartbeat(worker, {}))
            end = self.now + 1.0
            while (due := self.core.next_deadline()) is not None and due <= end:
                self.now = max(self.now, due)
                out += self.keep(self.core.expire(self.now))
            self.now = end
        return out

    @property
    def state(self):
        """Tasks by number: how they are."""
        return {n - FIRST: task.state for n, task in self.core.state.tasks.items()}


@pytest.fixture
def desk():
    """One that has just begun."""
    return Anew()


def done(out):
    """Ids that a client is told have a result."""
    return [n for each in out if isinstance(each, i.ReportFinished) for n in each.ids]


def forgotten(out):
    """What workers are to forget: ``[(worker, id, attempt), …]``."""
    return [
        (each.worker, *pair)
        for each in out
        if isinstance(each, i.ReleaseData)
        for pair in zip(each.ids, each.attempts)
    ]


def dropped(out):
    """What workers are not to run: ``[(worker, id), …]``."""
    return [(each.worker, n) for each in out if isinstance(each, i.DropTasks) for n in each.ids]


# -- results


def test_claim_before_submission(desk):
    """A result that is claimed before its task is told of is not computed again."""
    desk.come(W, [FIRST])
    desk.return_client()
    out = desk.tell(submitted(A, FIRST, 2))
    assert done(out) == [FIRST]
    out += desk.come(X)
    assert [n for _, n in given(out)] == [FIRST + 1]
    assert desk.state == {0: "memory", 1: "processing"}


def test_submission_before_claim(desk):
    """A task that is told of before its result is claimed is not computed again either."""
    desk.return_client()
    assert not given(desk.tell(submitted(A, FIRST, 2)))
    out = desk.come(W, [FIRST]) + desk.come(X)
    assert done(out) == [FIRST]
    assert [n for _, n in given(out)] == [FIRST + 1]


def test_result_of_what_needs_others(desk):
    """A claimed result spares the tasks that only it needed, too."""
    desk.return_client()
    desk.tell(submitted(A, FIRST, 2, deps=[[], [FIRST]], wanted=[1]))
    out = desk.come(W, [FIRST + 1]) + desk.come(X) + desk.live(GRACE_S + 1)
    assert done(out) == [FIRST + 1]
    assert not given(out)
    assert desk.state == {0: "released", 1: "memory"}


def test_inputs_that_are_claimed(desk):
    """A task runs where its claimed input is."""
    desk.return_client()
    desk.tell(submitted(A, FIRST, 2, deps=[[], [FIRST]], wanted=[1]))
    out = desk.come(W) + desk.come(X, [FIRST])
    assert given(out) == [(X, FIRST + 1)]


def test_two_claimants(desk):
    """A result that two workers claim has two holders, and outlives one of them."""
    desk.return_client()
    desk.come(W, [FIRST])
    desk.tell(submitted(A, FIRST))
    desk.come(X, [FIRST], attempt=0)  # a copy, as of which nobody knows the attempt
    task = desk.core.state.tasks[FIRST]
    assert [each.id for each in task.who_has] == [W, X]
    out = desk.tell(s.WorkerLost(W, "gone"))
    assert not given(out)
    assert task.state == "memory"


def test_claimed_by_one_that_is_lost(desk):
    """A result that is claimed by one who is lost before its task is told of is computed again."""
    desk.come(W, [FIRST])
    desk.tell(s.WorkerLost(W, "gone"))
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    assert given(desk.come(X) + desk.live(GRACE_S + 1)) == [(X, FIRST)]


def test_result_of_an_older_attempt(desk):
    """A result that was computed anew meanwhile, or is being, is forgotten by who returns late."""
    desk.come(X)
    desk.live(GRACE_S + 1)
    desk.return_client()
    desk.tell(submitted(A, FIRST, 2))
    state = desk.core.state
    attempts = [state.tasks[FIRST + n].attempt for n in (0, 1)]
    assert min(attempts) > ATTEMPTS_A_GENERATION
    desk.tell(s.TasksFinished(X, [FIRST], attempts[:1], [8], [10], [None]))
    out = desk.come(W, [FIRST, FIRST + 1])
    assert {(w, n) for w, n, _ in forgotten(out)} == {(W, FIRST), (W, FIRST + 1)}
    assert all(attempt >= 1 for _, _, attempt in forgotten(out))
    assert [each.id for each in state.tasks[FIRST].who_has] == [X]


def test_old_copy_beside_a_new_one_that_is_asked_for(desk):
    """Who comes with an old copy, and is asked for one, holds one when it has fetched it anew."""
    desk.come(X)
    desk.live(GRACE_S + 1)
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    task = desk.core.state.tasks[FIRST]
    desk.tell(s.TasksFinished(X, [FIRST], [task.attempt], [8], [10], [None]))
    desk.tell(s.Asked(A, 1, "replicate", "", b"", [FIRST], 2, -1.0))
    out = desk.tell(s.WorkerJoined(W, "h:2", "w2", 1, {}, claims=True))
    assert copies(out) == [(W, "h:3", [FIRST])]
    out = desk.tell(s.ResultsClaimed(W, [FIRST], [0], [8]))
    assert [(w, n) for w, n, _ in forgotten(out)] == [(W, FIRST)]
    out = desk.tell(s.ReplicasAdded(W, [FIRST]))  # it says so of what it is about to forget
    assert [each.id for each in task.who_has] == [X]
    assert copies(out) == [(W, "h:3", [FIRST])]
    desk.tell(s.ReplicasAdded(W, [FIRST]))
    assert [each.id for each in task.who_has] == [X, W]


def test_result_that_nobody_wants_any_more(desk):
    """A result that is claimed of a task that was released meanwhile is forgotten in time."""
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    desk.tell(s.KeysReleased(A, [FIRST]))
    desk.come(W, [FIRST])
    assert forgotten(desk.live(CLAIM_S + 1)) == [(W, FIRST, 1)]
    assert not desk.core.state.tasks


def test_nobody_asks(desk):
    """A result that nobody asks for is forgotten after `CLAIM_S`, by the attempt it is of."""
    desk.come(W, [FIRST], attempt=5)
    assert not forgotten(desk.live(CLAIM_S - 2))
    assert forgotten(desk.live(4)) == [(W, FIRST, 5)]
    desk.return_client()
    assert given(desk.tell(submitted(A, FIRST))) == [(W, FIRST)]


# -- tasks that run


def test_running_task_goes_on(desk):
    """A task that a worker has is its worker's, once it is told of; no other gets it."""
    desk.come(W, tasks=[FIRST])
    desk.return_client()
    out = desk.tell(submitted(A, FIRST)) + desk.come(X)
    assert not given(out)
    assert not dropped(out)
    assert desk.core.state.tasks[FIRST].processing_on.id == W
    assert done(desk.tell(s.TasksFinished(W, [FIRST], [1], [8], [10], [None]))) == [FIRST]


def test_running_task_that_was_told_of(desk):
    """The same, where the client was first."""
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    out = desk.come(W, tasks=[FIRST]) + desk.come(X)
    assert not given(out)
    assert not dropped(out)
    assert done(desk.tell(s.TasksFinished(W, [FIRST], [1], [8], [10], [None]))) == [FIRST]


def test_two_that_run_it(desk):
    """Of two workers that have a task one keeps it; the other is told to drop it."""
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    desk.come(W, tasks=[FIRST])
    out = desk.come(X, tasks=[FIRST])
    assert dropped(out) == [(X, FIRST)]
    desk.tell(s.TasksReturned(X, [FIRST], [1]))
    assert desk.core.state.tasks[FIRST].processing_on.id == W


def test_running_what_nobody_asks_for(desk):
    """A task that nobody tells of uses a thread, and is stopped after `CLAIM_S`."""
    desk.come(W, tasks=[FIRST])
    worker = desk.core.state.workers[W]
    assert worker.busy == 1
    assert dropped(desk.live(CLAIM_S + 2)) == [(W, FIRST)]
    desk.tell(s.TasksReturned(W, [FIRST], [1]))
    assert worker.busy == 0


def test_result_while_unclaimed(desk):
    """What ends before its client tells of it is a result that is held, not computed again."""
    desk.come(W, tasks=[FIRST, FIRST + 1])
    worker = desk.core.state.workers[W]
    desk.tell(s.TasksFinished(W, [FIRST], [1], [8], [10], [None]))
    desk.tell(s.TasksErred(W, [FIRST + 1], [1], [b""], ["it failed"]))
    assert worker.busy == 0
    desk.come(X)
    desk.return_client()
    out = desk.tell(submitted(A, FIRST, 2))
    assert done(out) == [FIRST]
    assert [n for _, n in given(out)] == [FIRST + 1]
    assert len(done(desk.live(CLAIM_S + 5))) == 0


def test_result_while_unclaimed_that_nobody_wants(desk):
    """Such a result is forgotten too when nobody asks."""
    desk.come(W, tasks=[FIRST])
    desk.tell(s.TasksFinished(W, [FIRST], [1], [8], [10], [None]))
    assert forgotten(desk.live(CLAIM_S + 2)) == [(W, FIRST, 1)]


def test_waiting_task(desk):
    """A task that waits for others when its worker returns uses no thread there."""
    desk.come(W, tasks=[FIRST], waiting=[FIRST])
    worker = desk.core.state.workers[W]
    assert worker.busy == 0
    desk.come(X)
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    assert worker.busy == 0
    assert desk.core.state.tasks[FIRST].processing_on is worker
    out = desk.tell(submitted(A, FIRST + 1, 4))
    assert W in {each for each, _ in given(out)}  # others run in its place
    assert desk.tell(s.TasksSeceded(W, [FIRST], [1], False)) is not None
    assert FIRST in done(desk.tell(s.TasksFinished(W, [FIRST], [1], [8], [10], [None])))


def test_fenced_worker(desk):
    """Claims of a worker that is not, or no longer, on the books mean nothing."""
    for fact in (
        s.ResultsClaimed(9, [FIRST], [1], [8]),
        s.TasksClaimed(9, [FIRST], [1], []),
        s.AllClaimed(9),
    ):
        assert not desk.tell(fact)
    desk.come(W, [FIRST])
    desk.tell(s.WorkerLost(W, "given up"))
    assert not desk.tell(s.ResultsClaimed(W, [FIRST], [1], [8]))
    assert not forgotten(desk.live(CLAIM_S + 2))


def test_given_up_and_back():
    """A worker that was given up, and what it ran given to others, is told to drop that."""
    desk = Desk()
    task_id = submit(desk, A, 0)
    desk.tell(s.WorkerJoined(W, "h:2", "w2", 1))
    desk.wait(LEASE_S / 2)
    desk.tell(s.Heartbeat(W, {}))
    desk.wait(LEASE_S / 2 + 1)  # worker 1 was silent
    assert desk.core.state.tasks[task_id].processing_on.id == W
    desk.tell(s.WorkerJoined(4, "h:1", "w", 1, {}, claims=True))
    out = desk.tell(s.TasksClaimed(4, [task_id], [1], []))
    assert dropped(out) == [(4, task_id)]
    out = desk.tell(s.AllClaimed(4))
    assert not given(out)


# -- the grace


def test_nothing_is_given_out(desk):
    """A scheduler that has begun anew gives nothing out until its members are back."""
    desk.return_client()
    assert not given(desk.tell(submitted(A, FIRST, 3)))
    assert not given(desk.come(W))
    assert {n for _, n in given(desk.come(X))} == {FIRST, FIRST + 1, FIRST + 2}


def test_grace_ends(desk):
    """It waits for `GRACE_S`, no longer, for members that do not come."""
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    desk.come(W)
    assert not given(desk.live(GRACE_S - 1))
    assert given(desk.live(2)) == [(W, FIRST)]


def test_half_of_the_claims(desk):
    """A worker that has not said all that it has gets nothing, though the grace is over."""
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    desk.come(W, all_of_it=False)
    assert not given(desk.live(GRACE_S + 2))
    assert given(desk.tell(s.AllClaimed(W))) == [(W, FIRST)]


def test_grace_without_peers():
    """Where no member knew of any worker, the grace lasts its time."""
    desk = Anew(peers=0)
    desk.return_client()
    desk.tell(submitted(A, FIRST))
    assert not given(desk.come(W))
    assert given(desk.live(GRACE_S + 1)) == [(W, FIRST)]


def test_new_demand_during_the_grace(desk):
    """What no worker can run, yet, is refused only when those of earlier may have come."""
    desk.return_client()
    assert not kinds(desk.tell(submitted(A, FIRST, workers=("w3",))))
    desk.come(W)
    assert given(desk.come(X)) == [(X, FIRST)]


def test_first_life_has_no_grace():
    """A scheduler of which no member knows begins at once."""
    desk = Desk()
    assert given(desk.tell(submitted(A, FIRST))) == [(1, FIRST)]


def test_told_twice(desk):
    """A task that its client tells of again, after it was gone for a while, is not run again."""
    desk.come(W)
    desk.come(X)
    desk.tell(s.ClientJoined(B, "b"))
    desk.tell(s.FunctionDefined(B, DIGEST, "f", b"pickle"))
    (worker, _), *_ = given(desk.tell(submitted(A, FIRST)))
    attempt = desk.core.state.tasks[FIRST].attempt
    desk.tell(s.TasksFinished(worker, [FIRST], [attempt], [8], [10], [None]))
    desk.core.state.clients[A].returns = True
    out = desk.tell(submitted(A, FIRST))
    assert done(out) == [FIRST]
    assert not given(out)


def test_grace_period_is_waited_for():
    """`SchedulerCore.next_deadline` is no instant that has passed, while nothing is moved."""
    desk = Desk()
    desk.tell(s.WorkerJoined(W, "h:2", "w2", 1))
    desk.tell(submitted(A, FIRST, 3, workers=("w",)))
    assert desk.core.state.balance_at is not None
    desk.tell(s.MemberReturned(5, 0))
    desk.now += GRACE_S / 2
    for _ in range(3):
        desk.keep(desk.core.expire(desk.now))
        assert desk.core.next_deadline() > desk.now
