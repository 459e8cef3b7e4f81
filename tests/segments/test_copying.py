"""Large values that are written into memory which was written before."""

import gc
import os
import threading

import pytest

from tests.support.sharing import copy
from twisted_dist.segments import copying
from twisted_dist.segments.copying import LEAST_BYTES, Room
from twisted_dist.segments.files import CAN_SHARE, in_memory
from twisted_dist.segments.pool import SegmentPool
from twisted_dist.segments.probe import tidy

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="values cannot be shared here")


def value(size, seed):
    """Bytes that differ everywhere, and may be changed."""
    part = bytes((seed + each * 7) % 251 for each in range(1009))
    return bytearray((part * (size // len(part) + 1))[:size])


def mappings():
    """How many files of ours this process has mapped."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        return sum("memfd:twisted_dist" in line for line in file)


@pytest.fixture
def mapped():
    """How many files this process has mapped since; what earlier tests have left is gone before."""
    gc.collect()
    tidy()
    before = mappings()
    return lambda: mappings() - before


@pytest.fixture
def pool(mapped):
    """One that maps."""
    made = SegmentPool()
    made.maps = True
    yield made
    made.tidy(everything=True)
    assert mapped() == 0


@pytest.fixture
def moved(monkeypatch):
    """Bytes of each half that was copied, and whether by a thread of its own."""
    seen = []
    move = Room._move

    def noted(self, source, start, to, size, owner):
        seen.append((size, threading.current_thread() is threading.main_thread()))
        move(self, source, start, to, size, owner)

    monkeypatch.setattr(Room, "_move", noted)
    return seen


@pytest.mark.parametrize("more", [0, 1, 4097])
def test_again(mapped, pool, moved, more):
    """What is written into used memory is right, whatever was there; two threads copy it."""
    size = LEAST_BYTES + more
    for seed in range(4):
        buffers = [b"a pickle", value(size, seed), value(100_000, seed + 1)]
        segment = pool.write(buffers)
        assert segment.buffers() == [bytes(each) for each in buffers]
        del segment
        if not seed:
            assert not moved  # new memory is written faster as it comes
    assert len(moved) == 6
    assert sum(part for part, _ in moved) == 3 * size
    assert sum(is_main for _, is_main in moved) == 3
    assert mapped() == 1


def test_several(pool, moved):
    """Several large buffers of one value."""
    for seed in range(2):
        buffers = [value(LEAST_BYTES + each, seed + each) for each in range(3)]
        segment = pool.write(buffers)
        assert segment.buffers() == [bytes(each) for each in buffers]
        del segment
    assert len(moved) == 6


@pytest.mark.parametrize("kind", ["small", "read-only"])
def test_by_the_kernel(pool, moved, kind):
    """Small values are written as they are in new memory, and those whose address is not told."""
    data = value(LEAST_BYTES - 1 if kind == "small" else LEAST_BYTES, 3)
    for _ in range(2):
        segment = pool.write([data if kind == "small" else bytes(data)])
        assert segment.buffers() == [data]
        del segment
    assert not moved


def test_not_asked_for(mapped, moved):
    """Unless a pool is to, it maps nothing: that would count as the process' memory."""
    pool, data = SegmentPool(), value(LEAST_BYTES, 5)
    for _ in range(2):
        assert pool.write([data]).buffers() == [data]
    assert mapped() == 0
    assert not moved
    pool.tidy(everything=True)


def test_no_room(pool, monkeypatch, moved):
    """Where nothing can be mapped, it is written all the same."""

    def refuse(fd, size):
        raise OSError("no room")

    monkeypatch.setattr(copying, "map_to_write", refuse)
    data = value(LEAST_BYTES, 6)
    for _ in range(2):
        segment = pool.write([data])
        assert segment.buffers() == [data]
        del segment
    assert not moved


def test_no_thread(pool, monkeypatch, moved):
    """Where there are too many threads, one copies both halves."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    data = value(LEAST_BYTES, 7)
    pool.write([data])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    segment = pool.write([data])
    assert segment.buffers() == [data]
    assert [is_main for _, is_main in moved] == [True, True]


def test_beyond_its_end(mapped, moved):
    """What has no room in the file is not copied at all."""
    fd = in_memory()
    try:
        os.ftruncate(fd, LEAST_BYTES)
        room = Room(fd, LEAST_BYTES)
        data = memoryview(value(LEAST_BYTES, 1))
        assert not room.copy(1, data, None)
        assert os.pread(fd, LEAST_BYTES, 0) == bytes(LEAST_BYTES)
        assert room.copy(0, data, None)
        assert os.pread(fd, LEAST_BYTES, 0) == data
        del room
    finally:
        os.close(fd)
    assert mapped() == 0


def test_who_gives_up(pool, moved):
    """A value that is given up midway leaves memory that can be used again."""
    data = value(LEAST_BYTES, 8)
    pool.write([data])
    writing = pool.begin([len(data)])
    del writing
    segment = pool.write([data])
    assert segment.buffers() == [data]
    assert len(moved) == 2


def test_interrupted(pool, monkeypatch):
    """After a Ctrl-C nobody writes where the other thread still does."""
    data, other = value(LEAST_BYTES, 10), value(LEAST_BYTES, 11)
    pool.write([data])
    going_on, move = threading.Event(), Room._move
    threads = []

    def interrupted(self, *how):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        threads.append(threading.current_thread())
        going_on.wait(10)
        move(self, *how)

    with monkeypatch.context() as patch:
        patch.setattr(Room, "_move", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.write([data])
    segment = pool.write([other])
    going_on.set()
    for each in threads:
        each.join()
    assert segment.buffers() == [other]
    assert len(threads) == 1
    del segment, threads[:], each
    assert pool.write([other]).buffers() == [other]


def test_in_a_copy(mapped, pool):
    """A forked copy lets go of what it would write into."""
    data = value(LEAST_BYTES, 9)
    for _ in range(2):
        pool.write([data])
    assert mapped() == 1
    with copy(mapped) as (_, there):
        assert there == 0
    assert mapped() == 1
