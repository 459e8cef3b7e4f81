"""Locks, events, variables and queues, by what clients ask and are answered."""

import pytest

from tests.support.stimuli import DIGEST, submitted
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import instructions as i
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.semaphores import LEASE_S
from twisted_dist.core.scheduler import SchedulerCore

A, B, C = 7, 8, 9


class Desk:
    """A core with three clients and a worker; keeps all replies, ``{(client, request): …}``."""

    def __init__(self):
        self.core = SchedulerCore(first_token=1000)
        self.now = 0.0
        self.replies = {}
        self.last = 0
        for client in (A, B, C):
            self.tell(s.ClientJoined(client, f"c{client}"))
        self.tell(s.WorkerJoined(1, "h:1", "w", 1))
        self.tell(s.FunctionDefined(A, DIGEST, "f", b"pickle"))

    def keep(self, instructions):
        for each in instructions:
            if isinstance(each, i.Reply):
                assert (each.client, each.request) not in self.replies, "answered twice"
                self.replies[each.client, each.request] = each
        invariants.check(self.core.state)
        return instructions

    def tell(self, fact):
        self.now += 0.001
        return self.keep(self.core.handle(fact, self.now))

    def ask(self, client, what, name="x", number=0, timeout=-1.0, blob=b"", ids=()):
        """Ask; what `told` is to be called with."""
        self.last += 1
        self.tell(s.Asked(client, self.last, what, name, blob, ids, number, timeout))
        return client, self.last

    def told(self, asked):
        """The answer; raises LookupError while there is none."""
        reply = self.replies[asked]
        assert not reply.error, reply.error
        return reply.result

    def error(self, asked):
        """What was wrong."""
        return self.replies[asked].error

    def wait(self, seconds):
        """Let time pass, with a heartbeat of the worker's now and then."""
        end = self.now + seconds
        while (due := self.core.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.keep(self.core.expire(self.now))
        self.now = end


@pytest.fixture
def desk():
    """A new one."""
    return Desk()


def test_lock_goes_from_one_to_the_next(desk):
    """`Semaphores` grant in order, and each token is higher than the one before."""
    first = desk.told(desk.ask(A, "acquire", number=1))
    waiting = [desk.ask(B, "acquire", number=1), desk.ask(C, "acquire", number=1)]
    assert waiting[0] not in desk.replies
    desk.told(desk.ask(A, "release", number=first))
    second = desk.told(waiting[0])
    assert waiting[1] not in desk.replies
    desk.told(desk.ask(B, "release", number=second))
    assert 1000 < first < second < desk.told(waiting[1])


def test_release_of_what_is_not_held(desk):
    """`Semaphores` refuse a token that its client does not hold."""
    token = desk.told(desk.ask(A, "acquire", number=1))
    assert "is not held any more" in desk.error(desk.ask(B, "release", number=token))
    desk.told(desk.ask(A, "release", number=token))
    assert "is not held any more" in desk.error(desk.ask(A, "release", number=token))


def test_waiting_for_a_lock_has_an_end(desk):
    """`Line` answers who waited too long, or would not wait, and lets the next in before it."""
    token = desk.told(desk.ask(A, "acquire", number=1))
    assert desk.told(desk.ask(B, "acquire", number=1, timeout=0.0)) == 0
    late, patient = (desk.ask(B, "acquire", number=1, timeout=t) for t in (2.0, 9.0))
    desk.wait(3.0)
    assert desk.told(late) == 0
    desk.told(desk.ask(A, "release", number=token))
    assert desk.told(patient) > token


def test_semaphore_of_two(desk):
    """`Semaphores` give as many leases as there are, of a number that all agree on."""
    leases = [desk.told(desk.ask(A, "acquire", number=2)) for _ in range(2)]
    third = desk.ask(B, "acquire", number=2)
    assert third not in desk.replies
    assert "2 leases for others, and 3 here" in desk.error(desk.ask(B, "acquire", number=3))
    assert "could never be acquired" in desk.error(desk.ask(B, "acquire", "y", number=0))
    desk.told(desk.ask(A, "release", number=leases[0]))
    assert desk.told(third)


def test_lost_holder_and_lost_waiter(desk):
    """`Coordination.client_lost` frees what a client held, and forgets what it waited for."""
    desk.told(desk.ask(A, "acquire", number=1))
    gone, there = desk.ask(B, "acquire", number=1), desk.ask(C, "acquire", number=1)
    desk.tell(s.ClientLost(B))
    desk.tell(s.ClientLost(A))
    assert gone not in desk.replies
    assert desk.told(there)


def test_lease_that_is_not_renewed(desk):
    """`Semaphores` take a lease from who is silent, not from who renews it."""
    tokens = {each: desk.told(desk.ask(each, "acquire", str(each), number=1)) for each in (A, B)}
    waiting = {each: desk.ask(C, "acquire", str(each), number=1) for each in (A, B)}
    for _ in range(3):
        desk.wait(LEASE_S / 2)
        desk.tell(s.Heartbeat(1, {}))
        assert desk.told(desk.ask(A, "renew")) == [tokens[A]]
    assert waiting[A] not in desk.replies
    assert desk.told(waiting[B]) > tokens[B]
    assert desk.told(desk.ask(B, "renew")) == []


def test_event(desk):
    """`Events` wake all who wait, and those who come later while it is set."""
    waiting = [desk.ask(each, "event-wait") for each in (A, B)]
    late = desk.ask(C, "event-wait", timeout=1.0)
    desk.wait(2.0)
    assert desk.told(late) is False
    desk.told(desk.ask(C, "event-set"))
    assert [desk.told(each) for each in waiting] == [True, True]
    assert desk.told(desk.ask(A, "event-wait")) is True
    desk.told(desk.ask(A, "event-clear"))
    assert desk.told(desk.ask(A, "event-is-set")) is False


def submit(desk, client, number):
    """A task of a client's; its id."""
    task_id = (client << CLIENT_SHIFT) + number
    desk.tell(submitted(client, task_id))
    return task_id


def test_variable_holds_its_futures(desk):
    """`Variables` keep the futures in a value, and lend them under ids of the getter's own."""
    early = desk.ask(B, "variable-get")
    task_id = submit(desk, A, 0)
    desk.told(desk.ask(A, "variable-set", blob=b"value", ids=[task_id]))
    desk.tell(s.KeysReleased(A, [task_id]))
    assert task_id in desk.core.state.tasks
    blob, (own,), keys = desk.told(early)
    assert (blob, len(keys), own >> CLIENT_SHIFT) == (b"value", 1, B)
    assert desk.core.state.clients[B].aliases[own] is desk.core.state.tasks[task_id]
    desk.told(desk.ask(A, "variable-delete"))
    desk.tell(s.KeysReleased(B, [own]))
    assert not desk.core.state.tasks
    assert desk.told(desk.ask(B, "variable-get", timeout=0.0)) is None


def test_variable_behind_a_fence(desk):
    """`Variables` set nothing for who has lost the lease it shows."""
    token = desk.told(desk.ask(A, "acquire", "lock", number=1))
    desk.told(desk.ask(A, "variable-set", blob=b"1", number=token))
    desk.told(desk.ask(A, "release", "lock", number=token))
    assert "is not held" in desk.error(desk.ask(A, "variable-set", blob=b"2", number=token))
    assert desk.told(desk.ask(B, "variable-get"))[0] == b"1"


def test_queue_is_in_order_and_bounded(desk):
    """`Queues` make who puts wait for room, and hand out in order."""
    puts = [desk.ask(A, "queue-put", number=2, blob=b"%d" % n) for n in range(4)]
    assert [desk.told(each) for each in puts[:2]] == [True, True]
    assert puts[2] not in desk.replies
    assert desk.told(desk.ask(B, "queue-put", number=2, blob=b"no", timeout=0.0)) is False
    got = [desk.told(desk.ask(B, "queue-get")) for _ in range(4)]
    assert [each[1] for each in got] == [b"0", b"1", b"2", b"3"]
    assert desk.told(puts[3]) is True
    assert desk.told(desk.ask(B, "queue-get", timeout=0.0)) is None
    assert desk.told(desk.ask(B, "queue-size")) == 0


def test_item_of_a_taker_that_is_lost(desk):
    """`Queues` give an item to another when its taker is lost before it has it."""
    task_id = submit(desk, A, 0)
    for n in range(2):
        desk.told(desk.ask(A, "queue-put", blob=b"%d" % n, ids=[task_id]))
    desk.tell(s.KeysReleased(A, [task_id]))
    first = desk.told(desk.ask(B, "queue-get"))
    desk.told(desk.ask(B, "queue-got", number=first[0]))
    assert desk.told(desk.ask(B, "queue-get"))[1] == b"1"
    waiting = desk.ask(C, "queue-get")
    assert waiting not in desk.replies
    desk.tell(s.ClientLost(B))
    number, blob, (own,), _ = desk.told(waiting)
    assert (blob, own >> CLIENT_SHIFT) == (b"1", C)
    desk.told(desk.ask(C, "queue-got", number=number))
    desk.tell(s.KeysReleased(C, [own]))
    assert not desk.core.state.tasks


def test_what_is_not_there(desk):
    """`Requests` refuse what they do not know, by name; a parcel needs futures that are held."""
    assert "there is no 'nonsense'" in desk.error(desk.ask(A, "nonsense"))
    assert "was released" in desk.error(desk.ask(A, "variable-set", ids=[A << CLIENT_SHIFT]))
    assert "scatter() it" in desk.error(desk.ask(A, "queue-put", blob=b"x" * (2**20 + 1)))


def test_datasets(desk):
    """`Datasets` stay when their publisher has gone, and are replaced only if asked to be."""
    task_id = submit(desk, A, 0)
    desk.told(desk.ask(A, "publish", "d", blob=b"1", ids=[task_id]))
    desk.tell(s.ClientLost(A))
    blob, (own,), _ = desk.told(desk.ask(B, "dataset", "d"))
    assert blob == b"1"
    assert "already" in desk.error(desk.ask(B, "publish", "d", blob=b"2"))
    desk.told(desk.ask(B, "publish", "d", blob=b"2", number=1))
    assert desk.told(desk.ask(B, "datasets")) == ["d"]
    desk.tell(s.KeysReleased(B, [own]))
    assert not desk.core.state.tasks
    desk.told(desk.ask(B, "unpublish", "d"))
    assert "no dataset 'd'" in desk.error(desk.ask(B, "dataset", "d"))


def test_restart(desk):
    """`Restarts` cancel everything, tell who waits, and have workers start anew."""
    task_id = submit(desk, A, 0)
    waiting = desk.ask(B, "queue-get")
    desk.ask(B, "publish", "d")
    desk.last += 1
    out = desk.tell(s.Asked(A, desk.last, "restart", "", b"", [], 0, 0.0))
    assert desk.told((A, desk.last)) == ["h:1"]
    (erred,) = [each for each in out if isinstance(each, i.ReportErred)]
    assert (erred.ids, erred.kinds) == ([task_id], ["cancelled"])
    assert [each.worker for each in out if isinstance(each, i.RestartWorker)] == [1]
    assert "restarted" in desk.error(waiting)
    assert desk.told(desk.ask(B, "datasets")) == []
