"""`SegmentPool`: files are used again, never while anybody reads, and nothing is left of them."""

import gc
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sharing import copy, descriptors, nothing_left_open
from twisted_dist.segments import pool as pools
from twisted_dist.segments.files import CAN_SHARE, File, reopen
from twisted_dist.segments.mapping import COPIED_BYTES, Mappings
from twisted_dist.segments.pool import KEPT_FILES, SegmentPool
from twisted_dist.segments.segment import ALIGNMENT, StaleError, open_place, span

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
LARGE = b"x" * (COPIED_BYTES + 1)


@pytest.fixture
def pool():
    """An empty one; in the end it has let go of all that it had."""
    with nothing_left_open():
        made = SegmentPool()
        yield made
        gc.collect()
        made.tidy(everything=True)


def inode(segment):
    """Which file it is in."""
    return os.fstat(segment.file.fd).st_ino


def test_the_same_file_again(pool):
    """`SegmentPool.write` takes the file of a value that nobody has any more."""
    first = pool.write([b"a" * 1000])
    which = inode(first)
    second = pool.write([b"b" * 1000])
    assert inode(second) != which
    del first
    third = pool.write([b"c" * 1000])
    assert inode(third) == which
    assert third.buffers() == [b"c" * 1000]
    assert second.buffers() == [b"b" * 1000]


@pytest.mark.parametrize(("before", "after", "same"), [(4000, 2000, True), (4000, 1900, False)])
def test_not_one_that_is_much_too_large(pool, before, after, same):
    """`SegmentPool` takes a file for a value down to half its size, and none that is too small."""
    which = inode(pool.write([b"a" * before]))
    smaller = pool.write([b"b" * after])
    assert (inode(smaller) == which) is same
    larger = pool.write([b"c" * (before + ALIGNMENT)])
    assert inode(larger) != which
    assert larger.buffers() == [b"c" * (before + ALIGNMENT)]


def test_the_smallest_that_will_do(pool):
    """`SegmentPool` takes the smallest file that a value fits into."""
    sizes = [3000, 2000, 2500]
    held = [pool.write([b"a" * size]) for size in sizes]
    which = [inode(each) for each in held]
    held.clear()
    assert inode(pool.write([b"b" * 1900])) == which[1]


def reading(segment):
    """Another description, as another process has; the file is in use until it is gone."""
    return open_place(os.getpid(), segment.place())


def mapped(segment):
    """A mapped value."""
    return Mappings().load(os.getpid(), segment.place())


@pytest.mark.parametrize("use", [reading, mapped])
def test_not_while_somebody_reads(pool, use):
    """`SegmentPool` writes no file anew that is open or mapped elsewhere, and does after."""
    first = pool.write([LARGE])
    which = inode(first)
    reader = use(first)
    del first
    second = pool.write([LARGE])
    assert inode(second) != which
    buffers = reader if isinstance(reader, list) else reader.buffers()
    assert bytes(buffers[0]) == LARGE
    del reader, buffers
    gc.collect()
    assert inode(pool.write([LARGE])) == which


def test_not_while_a_copy_reads(pool):
    """`SegmentPool` writes no file anew while a copy of this process may read its value."""
    mappings = Mappings()
    first = pool.write([LARGE])
    which = inode(first)
    held = [mappings.load(os.getpid(), first.place())]
    with copy(lambda: bytes(held[0][0][:3])) as (_, seen):
        assert seen == b"xxx"
        held.clear()
        del first
        gc.collect()
        second = pool.write([LARGE])
        assert inode(second) != which
        third = pool.write([LARGE])
        assert inode(third) != which
        del second, third
    held = [pool.write([LARGE]) for _ in range(3)]
    assert which in map(inode, held)


def test_a_copy_does_not_write_in_it(pool):
    """A copy of this process never writes into files that this process has kept or uses."""
    kept = pool.write([b"a" * 1000])
    used = pool.write([b"b" * 1000])
    which = {inode(kept), inode(used)}
    del kept

    def write():
        nonlocal used
        del used
        new = [pool.write([b"c" * 1000]) for _ in range(3)]
        return {inode(each) for each in new}

    with copy(write) as (_, theirs):
        assert which.isdisjoint(theirs)
        assert used.buffers() == [b"b" * 1000]
        assert inode(pool.write([b"d" * 1000])) in which


def test_a_copy_of_many_threads(pool):
    """A copy can write although a thread that is not in it was in the pool."""
    with pool._lock, copy(lambda: pool.write([b"there"]).buffers()) as (_, theirs):
        assert theirs == [b"there"]


def test_tag_lies_about_nothing(pool):
    """`SegmentPool.begin` makes the old value's place stale before anything else is written."""
    old = pool.write([b"a" * 1000]).place()
    writing = pool.begin([1000])
    with pytest.raises(StaleError):
        open_place(os.getpid(), old)
    reader = File(reopen(os.getpid(), writing._file.fd))
    assert os.pread(reader.fd, 16, 0) == writing._tag
    assert os.pread(reader.fd, 1000, ALIGNMENT) == b"a" * 1000


def test_given_up(pool):
    """A `Writing` that is given up leaves a file that can be used again."""
    writing = pool.begin([1000])
    which = os.fstat(writing._file.fd).st_ino
    writing.write(ALIGNMENT, b"half")
    del writing
    whole = pool.write([b"whole" * 200])
    assert inode(whole) == which
    assert open_place(os.getpid(), whole.place()).buffers() == [b"whole" * 200]


def test_so_many_are_kept(pool):
    """`SegmentPool` keeps `KEPT_FILES`, and as many between two looks, without being asked."""
    before = len(descriptors())
    held = [pool.write([b"x"]) for _ in range(3 * KEPT_FILES)]
    assert len(descriptors()) == before + 3 * KEPT_FILES
    held.clear()
    assert len(descriptors()) <= before + 2 * KEPT_FILES
    pool.tidy()
    assert len(descriptors()) == before + KEPT_FILES
    pool.tidy(everything=True)
    assert len(descriptors()) == before


def test_so_much_is_kept(pool):
    """`SegmentPool` keeps `kept_bytes` at most; the oldest go first."""
    size = span([1000])
    pool.kept_bytes = 2 * size
    before = len(descriptors())
    held = [pool.write([b"x" * 1000]) for _ in range(4)]
    which = [inode(each) for each in held]
    while held:
        del held[0]
    pool.tidy()
    assert len(descriptors()) == before + 2
    held = [pool.write([b"x" * 1000]) for _ in range(2)]
    assert {inode(each) for each in held} == set(which[2:])


@pytest.mark.parametrize("then", ["write", "tidy"])
def test_descriptors_that_became_somebody_elses(pool, tmp_path, then):
    """`SegmentPool` neither writes into nor closes what user code has put in a file's place."""
    fd = pool.write([b"a" * 1000]).file.fd
    os.close(fd)
    path = tmp_path / "users"
    path.write_bytes(b"mine")
    users = os.open(path, os.O_RDWR)
    assert users == fd
    if then == "write":
        segment = pool.write([b"b" * 1000])
        assert segment.file.fd != fd
    pool.tidy(everything=True)
    assert os.pread(users, 100, 0) == b"mine"
    os.close(users)


def test_descriptors_that_were_closed(pool):
    """`SegmentPool` goes on where user code has closed its files."""
    segments = [pool.write([b"a" * 1000]) for _ in range(2)]
    for each in segments:
        os.close(each.file.fd)
    segments.clear()
    assert pool.write([b"b" * 1000]).buffers() == [b"b" * 1000]


def test_no_room(pool, monkeypatch):
    """`SegmentPool.write` raises OSError where there is no room, and keeps nothing of it."""

    def full(*args):
        raise OSError(28, "no room")

    before = len(descriptors())
    with monkeypatch.context() as patch:
        patch.setattr(pools.os, "ftruncate", full)
        with pytest.raises(OSError, match="no room"):
            pool.write([b"x" * 1000])
        patch.undo()
        assert len(descriptors()) == before
        patch.setattr(pools.os, "pwrite", full)
        with pytest.raises(OSError, match="no room"):
            pool.write([b"x" * 1000])
    segment = pool.write([b"x" * 1000])
    assert open_place(os.getpid(), segment.place()).buffers() == [b"x" * 1000]


def test_in_pieces(pool, monkeypatch):
    """`Writing.write` goes on where the kernel takes only a part."""
    real = os.pwrite
    monkeypatch.setattr(pools.os, "pwrite", lambda fd, data, at: real(fd, data[:70], at))
    data = os.urandom(1000)
    assert pool.write([data, data[::-1]]).buffers() == [data, data[::-1]]


buffers = st.lists(
    st.binary(max_size=200)
    | st.binary(max_size=200).map(bytearray)
    | st.binary(max_size=200).map(lambda data: memoryview(data)[::1])
    | st.integers(1, 50).map(lambda count: memoryview(bytearray(8 * count)).cast("d")),
    min_size=1,
    max_size=10,
)


@given(st.lists(buffers, min_size=1, max_size=5))
def test_any_values(values):
    """`SegmentPool` gives back what was written, one value after and beside the other."""
    pool = SegmentPool()
    held = []
    for value in values:
        held.append((pool.write(value), value))
        del held[:-2]  # so that files are used again
        for segment, written in held:
            assert segment.buffers() == [bytes(each) for each in written]
    held.clear()
    pool.tidy(everything=True)


def test_threads(pool):
    """`SegmentPool` gives no file to two threads at a time."""
    problems = []
    begin = threading.Barrier(6)

    def work(number):
        begin.wait()
        for turn in range(150):
            data = bytes([number]) * (500 + turn % 7 * 300)
            segment = pool.write([data])
            again = reading(segment) if turn % 3 else None
            if segment.buffers() != [data] or (again and again.buffers() != [data]):
                problems.append(number)
            if turn % 50 == 0:
                pool.tidy(everything=turn % 100 == 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not problems
