"""Memory that is used again comes to be in large pages, where the kernel can."""

import ctypes
import errno
import os
import re

import pytest

from twisted_dist.segments import large_pages as module
from twisted_dist.segments.files import CAN_SHARE, in_memory
from twisted_dist.segments.large_pages import LargePages
from twisted_dist.segments.memory import LARGE_PAGE, can_collapse, collapse, map_to_read, unmap
from twisted_dist.segments.pool import SegmentPool

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="values cannot be shared here")
PAGE = 4096


class Kernel:
    """Takes a while for each page, and refuses when it is told to."""

    def __init__(self):
        self.now = 0.0
        self.page_s = 0.0
        self.refuses = False
        self.asked = []

    def collapse(self, fd, start, size):
        self.asked.append((start, size))
        self.now += self.page_s * (size // LARGE_PAGE)
        if self.refuses:
            raise OSError(errno.ENOMEM, "no large page")


@pytest.fixture
def kernel(monkeypatch):
    """One that has large pages."""
    monkeypatch.setattr(module, "can_collapse", lambda: True)
    return Kernel()


@pytest.fixture
def pages(kernel):
    """Of that one."""
    return LargePages(kernel.collapse, lambda: kernel.now)


def test_all(kernel, pages):
    """A file is seen to from its beginning to its last whole page, once."""
    size = 5 * LARGE_PAGE + 1
    assert pages.improve(0, 0, size) == size
    starts = [start for start, _ in kernel.asked]
    assert starts == [0, 2 * LARGE_PAGE, 4 * LARGE_PAGE]
    assert sum(each for _, each in kernel.asked) == 5 * LARGE_PAGE
    assert pages.improve(0, size, size) == size
    assert len(kernel.asked) == len(starts)


@pytest.mark.parametrize("size", [1, LARGE_PAGE - 1])
def test_small(kernel, pages, size):
    """What is no large page is not seen to."""
    assert pages.improve(0, 0, size) == size
    assert not kernel.asked


def test_slow(kernel, pages):
    """It takes no longer than a millisecond a megabyte, and goes on where it stopped."""
    size = 100 * LARGE_PAGE
    kernel.page_s = 0.01
    done = pages.improve(0, 0, size)
    assert 0 < done < size
    assert kernel.now < 0.21 + 2 * kernel.page_s
    first = len(kernel.asked)
    assert done < pages.improve(0, done, size) < size
    assert kernel.asked[first][0] == done
    kernel.page_s = 0.0
    assert pages.improve(0, done, size) == size


def test_refused(kernel, pages):
    """After a refusal two files do without, after another four; a success puts that right."""
    size = 2 * LARGE_PAGE
    kernel.refuses = True
    tried = []
    for _ in range(1 + 2 + 1 + 4 + 1):
        before = len(kernel.asked)
        assert pages.improve(0, 0, size) == 0
        tried.append(len(kernel.asked) > before)
    assert tried == [True, False, False, True, False, False, False, False, True]
    kernel.refuses = False
    assert [pages.improve(0, 0, size) for _ in range(9)] == [0] * 8 + [size]
    kernel.refuses = True
    assert pages.improve(0, 0, size) == 0
    kernel.refuses = False
    assert [pages.improve(0, 0, size) for _ in range(3)] == [0, 0, size]


def test_no_large_pages(monkeypatch):
    """Where there are none, nothing is asked."""
    monkeypatch.setattr(module, "can_collapse", lambda: False)
    kernel = Kernel()
    size = 4 * LARGE_PAGE
    assert LargePages(kernel.collapse, lambda: 0.0).improve(0, 0, size) == size
    assert not kernel.asked


def test_second_time():
    """A pool has a file seen to when it is written again, not before, and once."""
    kernel, pool = Kernel(), SegmentPool()
    pool.pages = LargePages(kernel.collapse, lambda: kernel.now)
    data = b"x" * (3 * LARGE_PAGE)
    asked = []
    for _ in range(3):
        segment = pool.write([data])
        assert segment.buffers() == [data]
        asked.append(len(kernel.asked))
        del segment
    pool.tidy(everything=True)
    assert asked == ([0, 2, 2] if can_collapse() else [0, 0, 0])


def large_bytes(address):
    """How much of a mapping of this process is in large pages."""
    with open("/proc/self/smaps", encoding="ascii") as file:
        about = file.read().partition(f"{address:x}-")[2]
    return int(re.search(r"ShmemPmdMapped: +(\d+) kB", about)[1]) * 1024


@pytest.mark.parametrize("tail", [0, 1, PAGE])
def test_of_the_kernel(tail):
    """What a file holds stays the same; who maps it has large pages."""
    size = 3 * LARGE_PAGE + tail
    data = os.urandom(size // 2)  # and a half that was never written
    fd = in_memory()
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, data, 0)
        try:
            collapse(fd, 0, 3 * LARGE_PAGE)
        except OSError as problem:
            pytest.skip(f"this kernel has none: {problem}")
        assert os.pread(fd, size, 0) == data + bytes(size - size // 2)
        address = map_to_read(fd, 0, size)
        try:
            assert address % LARGE_PAGE == 0
            assert ctypes.string_at(address, size // 2) == data
            assert large_bytes(address) >= LARGE_PAGE
        finally:
            unmap(address, size)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [1, PAGE, LARGE_PAGE - 1, LARGE_PAGE, LARGE_PAGE + 1])
def test_nothing_stays_mapped(size):
    """A mapping takes its own room, and none once it is gone."""

    def maps():
        with open("/proc/self/maps", encoding="utf-8") as file:
            return sum(" (deleted)" in line and "twisted_dist" in line for line in file)

    fd = in_memory()
    try:
        os.ftruncate(fd, size)
        before = maps()
        address = map_to_read(fd, 0, size)
        assert maps() == before + 1
        unmap(address, size)
        assert maps() == before
    finally:
        os.close(fd)


def test_no_such_file():
    """What cannot be mapped is an OSError."""
    reading, writing = os.pipe()
    try:
        for size in (PAGE, LARGE_PAGE):
            with pytest.raises(OSError, match=f"cannot map {size} bytes"):
                map_to_read(reading, 0, size)
        with pytest.raises(OSError, match="descriptor"):
            collapse(reading, 0, LARGE_PAGE)
    finally:
        os.close(reading)
        os.close(writing)
