"""What is rare about locks, events, variables and queues: losses, time limits, restarts."""

import pytest

from tests.core.test_coordination import A, B, C, Desk, submit
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.semaphores import LEASE_S


@pytest.fixture
def desk():
    """Three clients, and a worker of one thread."""
    return Desk()


def pass_time(desk, seconds):
    """Let time pass, in which the worker stays alive."""
    for _ in range(int(seconds // LEASE_S) + 1):
        desk.wait(min(seconds, LEASE_S))
        seconds -= LEASE_S
        desk.tell(s.Heartbeat(1, {}))


def test_silent_holder_that_waits_is_watched_again(desk):
    """`Semaphores` take a lease that a silent client was granted when it lost another."""
    first = desk.told(desk.ask(A, "acquire", number=1))
    again = desk.ask(A, "acquire", number=1)
    other = desk.ask(B, "acquire", number=1)
    pass_time(desk, LEASE_S + 1)
    assert desk.told(again) > first
    assert other not in desk.replies
    pass_time(desk, LEASE_S + 1)
    assert desk.told(other) > desk.told(again)
    assert "is not held any more" in desk.error(desk.ask(A, "release", number=first))


def test_renewal_keeps_all_leases(desk):
    """`Semaphores` renew all leases of a client at once, and answer those that it holds."""
    tokens = [desk.told(desk.ask(A, "acquire", name, number=1)) for name in "xyz"]
    for _ in range(4):
        pass_time(desk, LEASE_S - 1)
        assert desk.told(desk.ask(A, "renew")) == tokens
    desk.told(desk.ask(A, "release", "y", number=tokens[1]))
    assert desk.told(desk.ask(A, "renew")) == [tokens[0], tokens[2]]


def test_waiter_that_is_lost_is_passed_over(desk):
    """`Line` skips who timed out or went away, and keeps the order of the others."""
    token = desk.told(desk.ask(A, "acquire", number=1))
    late, gone = desk.ask(B, "acquire", number=1, timeout=1.0), desk.ask(C, "acquire", number=1)
    last = desk.ask(B, "acquire", number=1)
    desk.wait(2.0)
    desk.tell(s.ClientLost(C))
    desk.told(desk.ask(A, "release", number=token))
    assert desk.told(late) == 0
    assert gone not in desk.replies
    assert desk.told(last) > token


def test_semaphore_is_forgotten_when_free(desk):
    """`Semaphores` let the number of leases be another once nobody holds or waits for one."""
    token = desk.told(desk.ask(A, "acquire", number=2))
    assert desk.error(desk.ask(B, "acquire", number=1))
    desk.told(desk.ask(A, "release", number=token))
    assert desk.told(desk.ask(B, "acquire", number=1)) > token


@pytest.mark.parametrize("how", ["released", "lost", "expired"])
def test_fence_of_a_lease_that_ended(desk, how):
    """`Variables` refuse the token of a lease however it ended, and take the next one's."""
    token = desk.told(desk.ask(A, "acquire", "lock", number=1))
    following = desk.ask(B, "acquire", "lock", number=1)
    if how == "released":
        desk.told(desk.ask(A, "release", "lock", number=token))
    elif how == "lost":
        desk.tell(s.ClientLost(A))
    else:
        pass_time(desk, LEASE_S + 1)
    for client in (B, C):
        assert "is not held" in desk.error(desk.ask(client, "variable-set", number=token))
    desk.told(desk.ask(B, "variable-set", blob=b"new", number=desk.told(following)))
    assert desk.told(desk.ask(C, "variable-get")) == [b"new", [], []]


def test_variable_wakes_everybody(desk):
    """`Variables` answer all who wait, but not who was lost or waited too long."""
    waiting = [desk.ask(each, "variable-get") for each in (A, B, C)]
    late = desk.ask(A, "variable-get", timeout=1.0)
    desk.wait(2.0)
    desk.tell(s.ClientLost(C))
    desk.told(desk.ask(B, "variable-set", blob=b"v"))
    assert [desk.told(each)[0] for each in waiting[:2]] == [b"v", b"v"]
    assert waiting[2] not in desk.replies
    assert desk.told(late) is None
    desk.told(desk.ask(A, "variable-delete"))
    desk.told(desk.ask(A, "variable-delete"))  # of what is not there: fine
    again = desk.ask(A, "variable-get")
    assert again not in desk.replies


def test_variable_lets_go_of_the_value_before(desk):
    """`Variables` hold the futures of the last value only, not those of one it replaced."""
    old, new = submit(desk, A, 0), submit(desk, A, 1)
    for task_id in (old, new):
        desk.told(desk.ask(A, "variable-set", ids=[task_id]))
    desk.tell(s.KeysReleased(A, [old, new]))
    assert list(desk.core.state.tasks) == [new]


def test_futures_of_a_publisher_that_is_lost(desk):
    """`Parcels` hold futures although the client that made them has gone."""
    task_id = submit(desk, A, 0)
    desk.told(desk.ask(A, "variable-set", ids=[task_id]))
    desk.told(desk.ask(A, "queue-put", ids=[task_id]))
    desk.tell(s.ClientLost(A))
    _, (own,), _ = desk.told(desk.ask(B, "variable-get"))
    number, _, (other,), _ = desk.told(desk.ask(B, "queue-get"))
    assert len({own, other, task_id}) == 3
    desk.told(desk.ask(B, "queue-got", number=number))
    desk.told(desk.ask(B, "variable-delete"))
    desk.tell(s.KeysReleased(B, [own]))
    assert task_id in desk.core.state.tasks
    desk.tell(s.KeysReleased(B, [other]))
    assert not desk.core.state.tasks


def test_future_twice_in_a_parcel(desk):
    """`Parcels.lend` gives a future that is twice in a value two ids."""
    task_id = submit(desk, A, 0)
    desk.told(desk.ask(A, "queue-put", ids=[task_id, task_id]))
    desk.tell(s.KeysReleased(A, [task_id]))
    number, _, ids, _ = desk.told(desk.ask(A, "queue-get"))
    assert len(set(ids)) == 2
    desk.told(desk.ask(A, "queue-got", number=number))
    for each in ids:
        assert task_id in desk.core.state.tasks
        desk.tell(s.KeysReleased(A, [each]))
    assert not desk.core.state.tasks


def test_queue_takers_are_served_in_order(desk):
    """`Queues` hand items to who waits longest; who waited too long gets none."""
    late, first = desk.ask(A, "queue-get", timeout=1.0), desk.ask(B, "queue-get", timeout=9.0)
    second = desk.ask(C, "queue-get")
    desk.wait(2.0)
    for blob in (b"1", b"2"):
        desk.told(desk.ask(A, "queue-put", blob=blob))
    assert desk.told(late) is None
    assert (desk.told(first)[1], desk.told(second)[1]) == (b"1", b"2")


def test_queue_putter_that_waits_too_long(desk):
    """`Queues` answer False to a put without room in time, and never hand out its item."""
    desk.told(desk.ask(A, "queue-put", number=1, blob=b"1"))
    late = desk.ask(A, "queue-put", number=1, blob=b"2", timeout=1.0)
    gone = desk.ask(B, "queue-put", number=1, blob=b"3")
    patient = desk.ask(C, "queue-put", number=1, blob=b"4")
    desk.wait(2.0)
    desk.tell(s.ClientLost(B))
    assert desk.told(late) is False
    assert [desk.told(desk.ask(A, "queue-get"))[1] for _ in range(2)] == [b"1", b"4"]
    assert desk.told(patient) is True
    assert gone not in desk.replies


def test_items_of_a_lost_taker_keep_their_order(desk):
    """`Queues` put what a taker lost back to the front, in the order it was."""
    for n in range(4):
        desk.told(desk.ask(A, "queue-put", blob=b"%d" % n))
    got = [desk.told(desk.ask(B, "queue-get")) for _ in range(3)]
    desk.told(desk.ask(B, "queue-got", number=got[1][0]))
    desk.told(desk.ask(C, "queue-got", number=got[0][0]))  # not C's: it changes nothing
    desk.tell(s.ClientLost(B))
    assert desk.told(desk.ask(A, "queue-size")) == 3
    left = [desk.told(desk.ask(C, "queue-get"))[1] for _ in range(3)]
    assert left == [b"0", b"2", b"3"]


def test_queue_maxsize_is_agreed_on(desk):
    """`Queues` refuse a maxsize that is not the others', or none at all."""
    desk.told(desk.ask(A, "queue-put", number=2, blob=b"1"))
    desk.told(desk.ask(B, "queue-put", blob=b"2"))  # 0 is whatever others said
    assert desk.told(desk.ask(B, "queue-put", blob=b"3", timeout=0.0)) is False
    assert "has maxsize 2 for others, not 3" in desk.error(desk.ask(C, "queue-get", number=3))
    assert "is below 0" in desk.error(desk.ask(C, "queue-put", "y", number=-1))


def test_restart_tells_all_who_wait(desk):
    """`Coordination.clear` answers every waiter once, and nothing is held afterwards."""
    task_id = submit(desk, A, 0)
    token = desk.told(desk.ask(A, "acquire", "lock", number=1))
    desk.told(desk.ask(A, "queue-put", "full", number=1, ids=[task_id]))
    desk.told(desk.ask(A, "variable-set", "v", ids=[task_id]))
    desk.told(desk.ask(A, "event-set", "e"))
    waiting = [
        desk.ask(B, "acquire", "lock", number=1, timeout=99.0),
        desk.ask(B, "event-wait", "never"),
        desk.ask(B, "variable-get", "never"),
        desk.ask(B, "queue-get", "empty", timeout=99.0),
        desk.ask(B, "queue-put", "full", ids=[], blob=b"more"),
    ]
    desk.told(desk.ask(A, "restart"))
    assert all("the network was restarted" in desk.error(each) for each in waiting)
    assert "network was restarted" in desk.error(desk.ask(A, "release", "lock", number=token))
    assert desk.told(desk.ask(A, "renew")) == []
    assert desk.told(desk.ask(A, "event-is-set", "e")) is False
    assert desk.told(desk.ask(A, "variable-get", "v", timeout=0.0)) is None
    assert desk.told(desk.ask(A, "queue-size", "full")) == 0
    assert desk.told(desk.ask(B, "acquire", "lock", number=1)) > token
    desk.wait(200.0)  # nobody is answered twice
    desk.tell(s.KeysReleased(A, [task_id]))
    assert not desk.core.state.tasks


def test_client_that_is_not_there(desk):
    """`Requests` ignore who is gone."""
    desk.tell(s.ClientLost(A))
    assert desk.ask(A, "acquire", number=1) not in desk.replies
    assert desk.told(desk.ask(B, "acquire", number=1, timeout=0.0))
    assert (A << CLIENT_SHIFT) not in desk.core.state.tasks


def test_silent_client_is_given_nothing_for_ever(desk):
    """`Semaphores` watch a lease that is granted while its client loses others."""
    for name in "xy":
        desk.told(desk.ask(A, "acquire", name, number=1))
    again = desk.ask(A, "acquire", "x", number=1)
    other = desk.ask(C, "acquire", "x", number=1)
    pass_time(desk, 3 * LEASE_S)
    assert desk.told(other) > desk.told(again)


def test_one_alarm_for_each_holder(desk):
    """`Semaphores` set no alarm for each lease, however many come and go."""
    for _ in range(1000):
        desk.told(desk.ask(A, "release", number=desk.told(desk.ask(A, "acquire", number=1))))
    assert len(desk.core.state.alarms._heap) < 100
    (worker,) = desk.core.state.workers.values()  # its lease is all that is left
    assert [each for *_, each in desk.core.state.alarms._heap if each.function is not None] == [
        worker.lease_alarm
    ]


def test_put_that_was_too_late_holds_nothing(desk):
    """`Queues` let go of the futures in what was not let in, at once."""
    task_id = submit(desk, A, 0)
    desk.told(desk.ask(A, "queue-put", number=1, blob=b"1"))
    late = desk.ask(A, "queue-put", number=1, blob=b"2", ids=[task_id], timeout=1.0)
    desk.tell(s.KeysReleased(A, [task_id]))
    assert desk.core.state.tasks
    desk.wait(2.0)
    assert desk.told(late) is False
    assert not desk.core.state.tasks


@pytest.mark.parametrize("end", ["late", "lost", "refused"])
def test_queue_that_nobody_uses_is_forgotten(desk, end):
    """`Queues` keep no maxsize of those who have waited in vain, have gone, or were refused."""
    if end == "refused":
        assert "scatter" in desk.error(desk.ask(A, "queue-put", number=2, blob=b"x" * (2**20 + 1)))
    else:
        desk.ask(A, "queue-get", number=2, timeout=1.0 if end == "late" else -1.0)
    if end == "late":
        desk.wait(2.0)
    elif end == "lost":
        desk.tell(s.ClientLost(A))
    assert desk.told(desk.ask(B, "queue-put", number=3, blob=b"")) is True


def test_lines_that_nobody_stands_in_are_forgotten(desk):
    """`Lines` keep no name that has been waited for in vain."""
    for n in range(100):
        for what in ("event-wait", "variable-get", "queue-get"):
            desk.ask(A, what, f"e{n}", timeout=0.5)
    shared = desk.core.coordination
    assert len([*shared.events._lines, *shared.variables._lines]) == 200
    desk.wait(1.0)
    assert not [*shared.events._lines, *shared.variables._lines, *shared.queues._by_name]
