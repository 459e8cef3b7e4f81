"""`Feed`: what a child is given, and what is held back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.core.worker_side import messages as m
from twisted_dist.services import feeding
from twisted_dist.services.feeding import Feed


def pairs(*ids):
    """Tasks with no inputs."""
    return [(m.WorkerTask(each, 1, b"", b"", (), False), {}) for each in ids]


def ids(some):
    """Of pairs."""
    return [task.id for task, _ in some]


def test_all_at_once():
    """`Feed` is open while there is a child, and nothing else matters."""
    feed = Feed()
    assert not feed.is_open
    assert ids(feed.offer(pairs(1, 2))) == []
    assert ids(feed.started()) == [1, 2]
    assert feed.is_open
    feed.note_given(3)
    assert feed.ended([1, 2, 3, 4, 5]) == []
    assert not feed.is_used_up


def test_so_many_for_a_child():
    """`Feed` gives a child no more than it is for, and says when it has run them."""
    feed = Feed(recycle_after=3)
    feed.started()
    assert ids(feed.offer(pairs(1, 2))) == [1, 2]
    assert ids(feed.offer(pairs(3, 4))) == [3]
    assert ids(feed.ended([1, 2])) == []
    assert not feed.is_used_up
    assert ids(feed.ended([3])) == []
    assert feed.is_used_up
    feed.child_died()
    assert ids(feed.offer(pairs(4))) == []
    assert ids(feed.started()) == [4]


def test_more_for_those_that_wait():
    """`Feed` lets others in for tasks that wait, which they may be waiting for."""
    feed = Feed(recycle_after=1)
    feed.started()
    assert ids(feed.offer(pairs(1, 2, 3))) == [1]
    assert ids(feed.waits([1])) == [2]
    assert ids(feed.ended([2])) == []
    assert not feed.is_used_up
    assert ids(feed.ended([1])) == []
    assert feed.is_used_up


def test_suspects_run_alone():
    """`Feed` gives a suspect the child to itself, and the others when it has ended."""
    feed = Feed()
    feed.started()
    feed.note_given(4)
    feed.child_died(suspects=[1, 2])
    feed.started()
    assert ids(feed.offer(pairs(5))) == [5]
    assert ids(feed.offer(pairs(1, 6, 2))) == []
    assert ids(feed.ended([5])) == [1]
    assert ids(feed.offer(pairs(7))) == []
    assert ids(feed.ended([1])) == [2]
    assert ids(feed.ended([2])) == [6, 7]
    feed.ended([6, 7])
    assert feed.is_open


def test_suspect_that_waits():
    """`Feed` lets others in when a suspect waits, maybe for them."""
    feed = Feed()
    feed.started()
    feed.child_died(suspects=[1])
    feed.started()
    assert ids(feed.offer(pairs(1, 2))) == [1]
    assert ids(feed.waits([1])) == [2]
    assert ids(feed.offer(pairs(3))) == [3]


def test_what_is_taken_back():
    """`Feed.take_back` gives back what is held, whose turn it was included."""
    feed = Feed()
    feed.started()
    feed.note_given(1)
    feed.child_died(suspects=[1])
    feed.started()
    feed.offer(pairs(9))
    assert ids(feed.offer(pairs(1, 2))) == []
    assert feed.take_back([1, 9]) == [1]
    assert ids(feed.ended([9])) == [2]


def test_last_words_of_a_child():
    """`Feed` counts anew for a new child, whatever the last one has said since it was given up."""
    feed = Feed()
    feed.started()
    feed.note_given(2)
    feed.child_died(suspects=[1])
    feed.ended([1, 2])
    feed.started()
    assert ids(feed.offer(pairs(1, 3))) == [1]
    assert ids(feed.ended([1])) == [3]


def test_suspects_are_bounded(monkeypatch):
    """`Feed` remembers the last suspects only."""
    monkeypatch.setattr(feeding, "MOST_SUSPECTS", 2)
    feed = Feed()
    feed.child_died(suspects=[1, 2, 3])
    feed.started()
    assert ids(feed.offer(pairs(1))) == [1]
    assert ids(feed.offer(pairs(2))) == []
    assert ids(feed.ended([1])) == [2]


def test_suspects_that_never_come(monkeypatch):
    """`Feed` forgets suspects that went elsewhere, and is open again."""
    monkeypatch.setattr(feeding, "FORGOTTEN_AFTER", 3)
    feed = Feed()
    feed.child_died(suspects=[1])
    feed.started()
    assert ids(feed.offer(pairs(5, 6, 7, 8))) == [5, 6, 7, 8]
    feed.ended([5, 6, 7])
    assert not feed.is_open
    feed.ended([8])
    assert feed.is_open


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(1, 4)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 5)),
        st.tuples(st.just("die"), st.booleans()),
        st.tuples(st.just("back"), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(steps=STEPS, recycle_after=st.sampled_from([0, 1, 3]))
def test_nothing_is_kept_for_ever(steps, recycle_after):
    """Whatever happens, each task goes to the child once, and suspects only alone."""
    feed = Feed(recycle_after)
    held, inside, suspects, waits = {}, {}, set(), False
    number = 0

    def take(some):
        for each in ids(some):
            assert held.pop(each)
            if suspects & {each}:
                assert not inside or waits
            inside[each] = True
            suspects.discard(each)

    take(feed.started())
    for step, value in [*steps, *[("end", 0)] * 1000]:
        if step == "offer":
            new = range(number, number + value)
            number += value
            held.update(dict.fromkeys(new, True))
            take(feed.offer(pairs(*new)))
        elif step == "end" and inside:
            each = list(inside)[value % len(inside)]
            del inside[each]
            waits = waits and bool(inside)
            take(feed.ended([each]))
        elif step == "wait" and inside:
            waits = True
            take(feed.waits([list(inside)[value % len(inside)]]))
        elif step == "back" and held:
            each = list(held)[value % len(held)]
            del held[each]
            assert feed.take_back([each]) == [each]
        elif step == "die":
            known = list(inside) if value else []
            again = [*inside, *held]
            feed.child_died(known)
            suspects.update(known)
            inside.clear()
            held.clear()
            waits = False
            held.update(dict.fromkeys(again, True))
            assert feed.offer(pairs(*again)) == []
            take(feed.started())
        if feed.is_used_up:
            feed.child_died()
            again = [*held]
            assert feed.offer(pairs(*again)) == []
            take(feed.started())
        if step == "end" and not inside and not held:
            return
    assert not held


def test_little_memory():
    """`Feed.allow` holds back what would be too many in the child, until it may go."""
    feed = Feed()
    feed.started()
    assert ids(feed.offer(pairs(1, 2, 3))) == [1, 2, 3]
    assert feed.allow(1) == []
    assert not feed.is_open
    assert feed.offer(pairs(4, 5, 6)) == []
    assert feed.ended([1, 2]) == []
    assert ids(feed.ended([3])) == [4]
    assert feed.allow(0) == []
    assert feed.ended([4]) == []
    assert feed.is_idle
    assert ids(feed.allow(1)) == [5]
    assert ids(feed.allow(None)) == [6]
    assert feed.is_open


def test_little_memory_and_those_that_wait():
    """`Feed.allow` lets others in for tasks that wait, which they may be waiting for."""
    feed = Feed()
    feed.started()
    feed.allow(1)
    assert ids(feed.offer(pairs(1, 2, 3))) == [1]
    assert ids(feed.waits([1])) == [2]
    assert ids(feed.ended([2])) == [3]


def test_little_memory_outlives_a_child():
    """`Feed.allow` is of the nanny's memory: it holds for the next child as well."""
    feed = Feed()
    feed.started()
    feed.allow(1)
    assert ids(feed.offer(pairs(1, 2))) == [1]
    feed.child_died()
    assert feed.offer(pairs(1, 2)) == []
    assert ids(feed.started()) == [1]
    assert ids(feed.allow(None)) == [2]


@given(
    st.integers(0, 4),
    st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.integers(1, 4)),
            st.tuples(st.just("end"), st.integers(0, 9)),
            st.tuples(st.just("allow"), st.none() | st.integers(0, 3)),
        ),
        max_size=40,
    ),
)
def test_any_allowance(recycle_after, steps):
    """`Feed` never lets more in than is allowed, keeps their order, and loses none."""
    feed = Feed(recycle_after)
    feed.started()
    cap = None
    number = 0
    inside, seen = [], []

    def take(given):
        inside.extend(ids(given))
        seen.extend(ids(given))
        if given and cap is not None:
            assert len(inside) <= cap

    def renew():
        if feed.is_used_up:
            back = feed.take_back(range(1000))
            feed.child_died()
            feed.offer(pairs(*back))
            take(feed.started())

    for step, value in steps:
        if step == "offer":
            new = list(range(number, number + value))
            number += value
            take(feed.offer(pairs(*new)))
        elif step == "allow":
            cap = value
            take(feed.allow(cap))
        elif inside:
            take(feed.ended([inside.pop(value % len(inside))]))
        renew()
    cap = None
    take(feed.allow(None))
    while inside:
        take(feed.ended([inside.pop()]))
        renew()
    assert seen == list(range(number))
