"""Values that are to be on all workers: in a tree, and what happens when one goes."""

import pytest

from tests.core.test_coordination import A, Desk, submit
from tests.core.test_policies import copies, finish
from twisted_dist.core import stimuli as s
from twisted_dist.core.broadcast import TRIES
from twisted_dist.core.replicas import FAN

#: beside worker 1, which has the value
OTHERS = range(2, 12)


@pytest.fixture
def desk():
    """Two clients and worker 1."""
    return Desk()


def held(desk):
    """A result on worker 1, and more workers; its id."""
    task_id = submit(desk, A, 1)
    finish(desk, 1, task_id, nbytes=8)
    for worker in OTHERS:
        desk.tell(s.WorkerJoined(worker, f"h:{worker}", f"w{worker}", 1))
    return task_id


def broadcast(desk, task_id, workers=(1, *OTHERS)):
    """Ask for it; the request, and what is to be done."""
    desk.last += 1
    names = "\n".join(f"w{each}" for each in workers)
    out = desk.tell(s.Asked(A, desk.last, "broadcast", names, b"", [task_id], 0, -1.0))
    return (A, desk.last), out


def test_in_a_tree(desk):
    """`Broadcast` has `FAN` copies made of each that is there, until all have one."""
    task_id = held(desk)
    asked, out = broadcast(desk, task_id)
    there, waves = {1}, []
    while coming := copies(out):
        waves.append(len(coming))
        sources = [source for _, source, _ in coming]
        assert all(sources.count(each) <= FAN for each in set(sources))
        arrived = {worker for worker, _, _ in coming}
        assert not arrived & there
        there |= arrived
        assert asked not in desk.replies
        for worker in arrived:
            desk.core.take(s.ReplicasAdded(worker, [task_id]), desk.now)
        out = desk.keep(desk.core.decide())
    assert there == {1, *OTHERS}
    assert waves[0] == FAN
    assert len(waves) <= 4
    assert desk.told(asked) is None


def test_who_cannot_fetch_is_named(desk):
    """`Broadcast` tells a worker to fetch `TRIES` times, and then says that it has none."""
    task_id = held(desk)
    asked, out = broadcast(desk, task_id, (1, 2))
    for _ in range(TRIES):
        assert [worker for worker, _, _ in copies(out)] == [2]
        assert asked not in desk.replies
        out = desk.tell(s.InputsMissing(2, [], [], [task_id], ["h:1"], True))
    assert not copies(out)
    assert "w2 (h:2) could not fetch" in desk.replies[asked].error


def test_the_lost_are_not_waited_for(desk):
    """`Broadcast` answers where a worker that was to have a copy is lost."""
    task_id = held(desk)
    asked, _ = broadcast(desk, task_id, (1, 2))
    desk.tell(s.WorkerLost(2, "gone"))
    assert desk.told(asked) is None


def test_the_holder_is_lost(desk):
    """`Broadcast` ends with the value, and nothing of it is left."""
    task_id = held(desk)
    asked, _ = broadcast(desk, task_id, (1, 2))
    desk.tell(s.KeysReleased(A, [task_id]))
    desk.tell(s.InputsMissing(2, [], [], [task_id], ["h:1"], False))
    assert asked in desk.replies
    assert task_id not in desk.core.state.tasks


def test_client_lost(desk):
    """`Broadcast` forgets whom nobody waits for."""
    task_id = held(desk)
    broadcast(desk, task_id, (1, 2))
    desk.tell(s.ClientLost(A))
    assert not desk.core._broadcast._asked
