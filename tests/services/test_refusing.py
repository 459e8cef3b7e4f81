"""`Nanny`: results for which there is no room, tasks that wait for memory."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import task

from twisted_dist.core.worker_side import messages as m
from twisted_dist.core.worker_side.machine import INLINE_BYTES
from twisted_dist.errors import NoRoomError
from twisted_dist.services.nanny import Nanny
from twisted_dist.services.pressure import REFUSE

LIMIT = 1000 * INLINE_BYTES
#: what may be used before a result is refused
ROOM = int(REFUSE * LIMIT)
LARGE = 10 * INLINE_BYTES


class Children:
    """Instead of a `ChildExecutor`: notes what it is told."""

    rss = 0

    def __init__(self):
        self.caps = []
        self.renewed = 0

    def allow(self, cap):
        """Note."""
        self.caps.append(cap)

    def renew_idle(self):
        """Count."""
        self.renewed += 1

    def look(self):
        """Its memory is what it is."""


@pytest.fixture
def nanny():
    """One that was not started; what it tells the machine is in ``told``."""
    return make()


def make(limit=LIMIT):
    """A nanny that holds nothing."""
    made = Nanny(
        "127.0.0.1:1",
        reactor=task.Clock(),
        host="127.0.0.1",
        nthreads=1,
        insecure=True,
        memory_limit=10**12,
        name="n",
    )
    made._limit = limit
    made._own = 1
    made._children = Children()
    made.told = []
    made._stimulate = made.told.append
    return made


def finished(*sizes):
    """Of results of such sizes."""
    count = len(sizes)
    ids = list(range(1, count + 1))
    return m.ExecutionFinished(ids, [7] * count, [b""] * count, list(sizes), [5] * count)


def held(nanny, nbytes, stuck=True):
    """The store has so much."""
    nanny._store.memory = nbytes
    nanny._store.is_stuck = stuck


def outcome(nanny):
    """Ids that finished, ids that failed."""
    good = [
        each for fact in nanny.told if isinstance(fact, m.ExecutionFinished) for each in fact.ids
    ]
    bad = [each for fact in nanny.told if isinstance(fact, m.ExecutionErred) for each in fact.ids]
    return good, bad


def test_no_room(nanny):
    """A large result for which there is no room fails with NoRoomError; small ones pass."""
    held(nanny, ROOM)
    fact = finished(LARGE, 10, INLINE_BYTES, INLINE_BYTES + 1)
    nanny._told(fact)
    assert outcome(nanny) == ([2, 3], [1, 4])
    erred, passed = nanny.told
    assert erred.attempts == [7, 7]
    error = pickle.loads(erred.blobs[0])
    assert isinstance(error, NoRoomError)
    assert "no room for a result of 1 MiB on n" in str(error)
    assert "NoRoomError" in erred.texts[0]
    assert (passed.nbytes, passed.attempts) == ([10, INLINE_BYTES], [7, 7])
    assert passed.durations_us == [5, 5]


def test_what_fits(nanny):
    """Results that come together are counted together; a smaller one may fit after a larger."""
    held(nanny, ROOM - 3 * LARGE)
    nanny._told(finished(2 * LARGE, 2 * LARGE, LARGE // 2, LARGE))
    assert outcome(nanny) == ([1, 3], [2, 4])


@pytest.mark.parametrize("stuck", [True, False])
def test_only_where_nothing_can_be_moved(nanny, stuck):
    """Nothing is refused while the disk takes values."""
    held(nanny, 2 * LIMIT, stuck)
    nanny._told(finished(LARGE))
    assert outcome(nanny) == (([], [1]) if stuck else ([1], []))


def test_the_rest_is_told_as_it_is(nanny):
    """What is no result passes, and the same where all fits."""
    held(nanny, 0)
    fact = finished(LARGE, 10)
    nanny._told(fact)
    other = m.ExecutionReturned([1])
    nanny._told(other)
    assert nanny.told == [fact, other]


@given(st.lists(st.integers(0, 20 * INLINE_BYTES), max_size=8), st.integers(0, 2 * LIMIT))
def test_each_is_told_once(sizes, before):
    """Each result is told once, as finished or failed, and what is large stays within the limit."""
    nanny = make()
    held(nanny, before)
    nanny._told(finished(*sizes))
    good, bad = outcome(nanny)
    assert sorted(good + bad) == list(range(1, len(sizes) + 1))
    assert all(sizes[each - 1] > INLINE_BYTES for each in bad)
    large = [sizes[each - 1] for each in good if sizes[each - 1] > INLINE_BYTES]
    assert not large or 1 + before + sum(large) <= ROOM


def test_tasks_wait(nanny):
    """Above 80% no task begins while values move, one where none can be moved; below 70% any."""
    moving = []
    nanny._store.keep_below = moving.append
    for nbytes, is_moving, expected in (
        (0.79, False, []),
        (0.81, True, [0]),
        (0.81, False, [1]),
        (0.71, True, [0]),
        (0.69, True, [None]),
        (0.75, True, []),
    ):
        held(nanny, int(nbytes * LIMIT))
        nanny._store._moving = object() if is_moving else None
        nanny._children.caps.clear()
        nanny._note_held()
        assert nanny._children.caps == expected, nbytes
        assert nanny._is_paused is (expected in ([0], [1]))
    assert set(moving) == {int(0.6 * LIMIT) - 1}
    assert nanny._children.renewed == 0
    nanny._store._moving = None


def test_a_child_that_leaks(nanny):
    """A child that alone keeps tasks waiting gets none, and is replaced when it has ended all."""
    nanny._children.rss = int(0.81 * LIMIT)
    nanny._note_held()
    assert nanny._children.renewed == 1
    assert nanny._children.caps == [0]


def test_no_limit():
    """Without a limit nothing is moved, refused or held back."""
    nanny = make(limit=0)
    held(nanny, 2**60)
    nanny._note_held()
    nanny._told(finished(LARGE))
    assert outcome(nanny) == ([1], [])
    assert nanny._children.caps == []
