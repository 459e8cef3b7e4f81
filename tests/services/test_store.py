"""`Store`: what is held, what it takes, and what moves to disk."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer, task
from twisted.logger import globalLogPublisher

from tests.support.sharing import nothing_left_open
from twisted_dist.execution.payloads import in_band, opened, value_nbytes
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.pool import POOL
from twisted_dist.segments.segment import Segment
from twisted_dist.services import store as stores
from twisted_dist.services.store import LEAST_SPILLED, RETRY_S, Store

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
SIZE = 10_000


class Disk:
    """Instead of threads: does what was given when it is told to."""

    def __init__(self):
        self.waiting = []
        self.at_once = True

    def __call__(self, function, *args):
        done = defer.Deferred()
        self.waiting.append((done, function, args))
        if self.at_once:
            self.write()
        return done

    def write(self):
        """Do the oldest."""
        done, function, args = self.waiting.pop(0)
        defer.maybeDeferred(function, *args).chainDeferred(done)


@pytest.fixture
def disk():
    """Which works at once, unless told otherwise."""
    return Disk()


@pytest.fixture
def clock():
    """Time."""
    return task.Clock()


@pytest.fixture
def store(disk, clock, tmp_path):
    """An empty one; in the end it lets go of all."""
    with nothing_left_open():
        made = Store(clock, str(tmp_path), disk)
        yield made
        made.close()
        assert (made.memory, made.disk, len(made)) == (0, 0, 0)
    assert os.listdir(tmp_path) == []
    assert not clock.getDelayedCalls()


def shared(byte, size=SIZE):
    """A segment."""
    return POOL.write([bytes([byte]) * size])


def plain(byte, size=SIZE):
    """A value in this process."""
    return bytes([byte]) * size


def hold(store, values):
    """Put values in, by id."""
    store.update(list(values), list(values.values()), list(map(value_nbytes, values.values())))


def where(store):
    """Ids of what is on disk."""
    return [
        each
        for each in store
        if isinstance(store._values[each], Segment) and not store._values[each].in_memory
    ]


def check(store):
    """What is said of memory and disk is what there is."""
    on_disk = where(store)
    sizes = {each: value_nbytes(store._values[each]) for each in store}
    assert store.disk == sum(sizes[each] for each in on_disk)
    assert store.memory == sum(sizes.values()) - store.disk
    assert set(store._movable) == {
        each for each in store if each not in on_disk and sizes[each] >= LEAST_SPILLED
    }


def test_what_it_takes(store):
    """`Store` counts what comes, goes and is replaced; also where that is small."""
    hold(store, {1: b"one", 2: [b"two", b"buffer"], 3: plain(3), 4: shared(4)})
    assert store.memory == 3 + 9 + 2 * SIZE
    hold(store, {1: b"another", 3: shared(3, 100_000)})
    assert store.memory == 7 + 9 + 100_000 + SIZE
    hold(store, {3: b"small"})
    assert store.memory == 7 + 9 + 5 + SIZE
    check(store)
    store.discard([2, 3, 99])
    assert store.memory == 7 + SIZE
    assert set(store) == {1, 4}
    assert 2 not in store
    assert store.get(2) is None
    with pytest.raises(KeyError):
        store[2]
    store.clear()
    assert (store.memory, len(store)) == (0, 0)
    hold(store, {})


def test_the_oldest_first(store):
    """`Store.keep_below` moves the oldest, and no more than is needed."""
    hold(store, {each: shared(each) for each in range(5)})
    store.keep_below(5 * SIZE)
    assert where(store) == []
    store.keep_below(3 * SIZE)
    assert where(store) == [0, 1]
    assert (store.memory, store.disk) == (3 * SIZE, 2 * SIZE)
    for each in range(5):
        assert in_band(store[each]) == [plain(each)]
    check(store)


@pytest.mark.parametrize("use", [Store.get, Store.__getitem__])
def test_what_was_used_stays(store, use):
    """`Store.keep_below` moves what was used last of all."""
    hold(store, {each: shared(each) for each in range(4)})
    use(store, 0)
    use(store, 1)
    store.keep_below(2 * SIZE)
    assert sorted(where(store)) == [2, 3]


def test_held_by_others(store):
    """A value on disk is found by its place, as one in memory is; both while they are used."""
    old = {0: shared(0), 1: plain(1)}
    hold(store, old)
    store.keep_below(0)
    assert sorted(where(store)) == [0, 1]
    read = [opened(os.getpid(), store[each].place()) for each in (0, 1)]
    store.clear()
    assert [each.buffers() for each in read] == [[plain(0)], [plain(1)]]


def test_small_ones_share_a_file(store):
    """`Store` writes values of this process' own to one file; the least stay in memory."""
    values = {1: plain(1), 2: [plain(2), b"", plain(22, 7)], 3: b"x" * (LEAST_SPILLED - 1)}
    hold(store, values)
    hold(store, {4: plain(4, LEAST_SPILLED)})
    store.keep_below(0)
    assert sorted(where(store)) == [1, 2, 4]
    assert len({store[each].file for each in (1, 2, 4)}) == 1
    assert store[1].buffers() == [values[1]]
    assert store[2].buffers() == values[2]
    assert store[4].buffers() == [plain(4, LEAST_SPILLED)]
    assert store[3] == values[3]
    assert store.memory == LEAST_SPILLED - 1
    store.discard([1])
    assert store[2].buffers() == values[2]
    check(store)


def test_several_goes(store, disk, monkeypatch):
    """`Store` writes in goes, and looks between them whether more must."""
    monkeypatch.setattr(stores, "BATCH_BYTES", 2 * SIZE)
    disk.at_once = False
    hold(store, {each: shared(each) for each in range(6)})
    store.keep_below(1 * SIZE)
    assert store.is_moving
    store.keep_below(1 * SIZE)
    assert len(disk.waiting) == 1
    disk.write()
    assert len(where(store)) == 2
    store.discard([2, 3])
    disk.write()
    assert len(where(store)) == 2  # 2 and 3 were on their way, and are gone
    disk.write()
    assert not store.is_moving
    assert where(store) == [0, 1, 4]
    check(store)


def test_gone_or_replaced_meanwhile(store, disk):
    """A value that is discarded or replaced while it is moved stays so."""
    disk.at_once = False
    hold(store, {each: shared(each) for each in range(3)})
    store.keep_below(0)
    store.discard([0])
    new = shared(111)
    hold(store, {1: new})
    store.keep_below(10 * SIZE)
    disk.write()
    assert where(store) == [2]
    assert store[1] is new
    assert 0 not in store
    check(store)
    assert not disk.waiting


def full(monkeypatch, after=0):
    """The disk takes so many writes more."""
    real = os.pwrite
    left = [after]

    def pwrite(fd, data, at):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        return real(fd, data, at)

    monkeypatch.setattr(stores.os, "pwrite", pwrite)
    return left


@pytest.fixture
def errors():
    """What is logged as an error."""
    seen = []

    def observe(event):
        if event["log_level"].name == "error":
            seen.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("value", [shared, plain])
def test_full(store, disk, clock, monkeypatch, errors, value):
    """A full disk loses nothing, is said once, and tried again after `RETRY_S`."""
    values = {each: value(each) for each in range(3)}
    hold(store, values)
    with monkeypatch.context() as patch:
        full(patch)
        store.keep_below(0)
        assert store.is_stuck
        assert not store.is_moving
        assert all(store[each] is values[each] for each in values)
        check(store)
        disk.at_once = False
        store.keep_below(0)
        clock.advance(RETRY_S - 0.1)
        store.keep_below(0)
        assert not disk.waiting
        clock.advance(0.1)
        store.keep_below(0)
        disk.write()
        assert store.is_stuck
        assert len(errors) == 1
        assert "it is full" in errors[0]
    clock.advance(RETRY_S)
    store.keep_below(0)
    disk.write()
    assert not store.is_stuck
    assert sorted(where(store)) == [0, 1, 2]
    assert [store[each].buffers() for each in values] == [[plain(each)] for each in values]
    check(store)


def test_full_in_the_middle(store, clock, monkeypatch, errors):
    """A disk that is full after some values has those, and is stuck until it takes all again."""
    hold(store, {**{each: shared(each) for each in range(3)}, 3: plain(3)})
    with monkeypatch.context() as patch:
        left = full(patch, after=2)  # a tag and its value
        store.keep_below(0)
        assert where(store) == [0]
        assert store.is_stuck
        left[0] = 2
        clock.advance(RETRY_S)
        store.keep_below(0)
        assert where(store) == [0, 1]
        assert store.is_stuck
        assert len(errors) == 1
    check(store)
    clock.advance(RETRY_S)
    store.keep_below(0)
    assert sorted(where(store)) == [0, 1, 2, 3]
    assert not store.is_stuck


def test_no_directory(disk, clock, tmp_path, errors):
    """`Store` holds what it has where there is no directory to move it to."""
    store = Store(clock, str(tmp_path / "none"), disk)
    hold(store, {1: plain(1)})
    store.keep_below(0)
    assert store.is_stuck
    assert store[1] == plain(1)
    assert "No such file" in errors[0]
    store.keep_below(SIZE)  # nothing has to move any more
    assert not store.is_stuck
    store.close()


def test_close_while_moving(store, disk):
    """`Store.close` lets go at once, and fires when nothing is being written any more."""
    disk.at_once = False
    hold(store, {each: shared(each) for each in range(3)})
    store.keep_below(0)
    closed = []
    store.close().addCallback(closed.append)
    assert len(store) == 0
    assert not closed
    hold(store, {9: plain(9)})  # that was under way
    disk.write()
    assert closed == [None]
    assert not disk.waiting
    assert list(store) == [9]


def test_close_while_the_disk_fills(store, disk, monkeypatch, errors):
    """`Store.close` fires also where the last write fails."""
    disk.at_once = False
    hold(store, {1: shared(1)})
    store.keep_below(0)
    closed = []
    store.close().addCallback(closed.append)
    full(monkeypatch)
    disk.write()
    assert closed == [None]


def test_close_at_rest(store):
    """`Store.close` has fired where nothing is being written."""
    hold(store, {1: plain(1)})
    assert store.close().called


kinds = st.sampled_from(["small", "plain", "shared"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.lists(st.tuples(st.integers(0, 5), kinds), max_size=4)),
        st.tuples(st.just("discard"), st.lists(st.integers(0, 6), max_size=3)),
        st.tuples(st.just("keep"), st.sampled_from([0, 1500, 3000, 10**6])),
        st.tuples(st.just("write"), st.none()),
        st.tuples(st.just("get"), st.integers(0, 5)),
    ),
    max_size=25,
)


@given(steps)
def test_whatever_is_done(steps):
    """`Store` has what was put there last, and counts it, whatever moves meanwhile."""
    disk = Disk()
    disk.at_once = False
    store = Store(task.Clock(), None, disk)
    expected = {}
    for number, (what, arg) in enumerate(steps):
        if what == "hold":
            made = {}
            for task_id, kind in arg:
                data = b"%d" % number if kind == "small" else bytes([number]) * 2000
                made[task_id] = POOL.write([data]) if kind == "shared" else data
                expected[task_id] = data
            hold(store, made)
        elif what == "discard":
            store.discard(arg)
            for each in arg:
                expected.pop(each, None)
        elif what == "keep":
            store.keep_below(arg)
        elif what == "get":
            assert (store.get(arg) is None) is (arg not in expected)
        elif disk.waiting:
            disk.write()
        check(store)
        found = {each: in_band(store._values[each]) for each in store}
        joined = {k: v if isinstance(v, bytes) else b"".join(v) for k, v in found.items()}
        assert joined == expected
    store.close()
    while disk.waiting:
        disk.write()
