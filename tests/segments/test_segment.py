"""`Segment`: a value written, found by its place, and what is no longer there."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sharing import copy
from twisted_dist.segments.files import CAN_SHARE, File, in_memory, on_disk
from twisted_dist.segments.pool import SegmentPool
from twisted_dist.segments.probe import Keeping, can_read, lend_probe
from twisted_dist.segments.segment import (
    ALIGNMENT,
    TAG_BYTES,
    Segment,
    StaleError,
    is_place,
    new_tag,
    offsets,
    open_place,
    span,
)

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
HERE = os.getpid()
POOL = SegmentPool()


def opened(segment):
    """As another process opens it."""
    return open_place(os.getpid(), segment.place())


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_layout(lengths):
    """`offsets` begin on lines, leave each buffer its room, and `span` ends after the last."""
    starts = offsets(lengths)
    assert all(each % ALIGNMENT == 0 for each in starts)
    ends = [at + size for at, size in zip(starts, lengths)]
    assert starts[0] >= TAG_BYTES
    assert all(end <= at for end, at in zip(ends, starts[1:]))
    assert ends[-1] <= span(lengths)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_written_and_opened(buffers):
    """`Segment.buffers` of a segment opened by its place are those that were written."""
    segment = POOL.write(buffers)
    assert segment.buffers() == buffers
    assert opened(segment).buffers() == buffers
    assert segment.nbytes == sum(map(len, buffers))
    assert is_place(segment.place())


def test_from_another_process():
    """`open_place` finds a segment in another process, and what is open stays when that ends."""
    here = POOL.write([b"here"])
    kept = []

    def write():
        kept.append(SegmentPool().write([b"there", b"and more"]))
        return kept[0].place()

    with copy(write) as (pid, place):
        theirs = open_place(pid, place)
        assert open_place(pid, here.place()).buffers() == [b"here"]
    assert theirs.buffers() == [b"there", b"and more"]
    with pytest.raises(FileNotFoundError):
        open_place(pid, here.place())


def test_another_value_by_now():
    """`open_place` raises StaleError where the file holds another value than was meant."""
    pool = SegmentPool()
    old = pool.write([b"x" * 100]).place()
    new = pool.write([b"y" * 100])
    assert new.file.fd == old[0]
    with pytest.raises(StaleError, match="by now"):
        open_place(HERE, old)
    assert opened(new).buffers() == [b"y" * 100]


def test_while_it_is_written():
    """`open_place` raises StaleError for what is not finished."""
    writing = POOL.begin([100])
    place = [writing._file.fd, 0, writing._tag, [100]]
    with pytest.raises(StaleError):
        open_place(HERE, place)
    writing.write(ALIGNMENT, b"x" * 100)
    done = writing.finish()
    assert opened(done).buffers() == [b"x" * 100]


def test_too_short():
    """`open_place` refuses lengths beyond the file's end; `Segment.read` never returns less."""
    segment = SegmentPool().write([b"x" * 1000])
    fd, start, tag, lengths = segment.place()
    with pytest.raises(StaleError, match="shorter"):
        open_place(HERE, [fd, start, tag, [lengths[0] + ALIGNMENT]])
    with pytest.raises(StaleError, match="shorter"):
        open_place(HERE, [fd, start, tag, [*lengths, 2**61]])
    with pytest.raises(StaleError, match="end"):
        segment.read(0, segment.span + 4096)


def test_several_in_a_file(tmp_path):
    """`Segment`s of one file are each found where they begin."""
    file = File(on_disk(str(tmp_path)))
    segments = []
    for number in range(3):
        data = bytes([number]) * (number * 100)
        segment = Segment(file, number * 1024, new_tag(), [len(data)], in_memory=False)
        os.pwrite(file.fd, segment.tag, segment.start)
        os.pwrite(file.fd, data, segment.start + ALIGNMENT)
        segments.append(segment)
    os.ftruncate(file.fd, 3 * 1024)
    for number, each in enumerate(segments):
        assert opened(each).buffers() == [bytes([number]) * (number * 100)]
        assert each.read(ALIGNMENT, 0) == b""
    fd, _, tag, lengths = segments[2].place()
    with pytest.raises(StaleError):
        open_place(HERE, [fd, 0, tag, lengths])


TAG = b"t" * TAG_BYTES


@pytest.mark.parametrize(
    "place",
    [
        None,
        (0, 0, TAG, [1]),
        [],
        [0, 0, TAG],
        [-1, 0, TAG, [1]],
        [0, -1, TAG, [1]],
        [0, 2**63, TAG, [1]],
        [True, 0, TAG, [1]],
        ["0", 0, TAG, [1]],
        [0, 0, TAG[1:], [1]],
        [0, 0, "t" * TAG_BYTES, [1]],
        [0, 0, TAG, []],
        [0, 0, TAG, [-1]],
        [0, 0, TAG, [1, -1]],
        [0, 0, TAG, [True]],
        [0, 0, TAG, [1.0]],
        [0, 0, TAG, [2**62]],
        [0, 0, TAG, [2**61, 2**61]],
        [0, 0, TAG, (1,)],
        [0, 0, TAG, [1], 0],
    ],
    ids=repr,
)
def test_what_is_no_place(place):
    """`is_place` knows a place from what is none."""
    assert not is_place(place)
    assert is_place([0, 0, TAG, [0, 1]])


sizes = st.sampled_from([0, 1, ALIGNMENT, 2**31, 2**61, 2**62 - 1, 2**63, 2**64 - 1])


@given(sizes, st.lists(sizes, min_size=1, max_size=3))
def test_no_place_is_more_than_an_error(start, lengths):
    """`open_place` raises nothing but OSError for whatever `is_place`."""
    segment = POOL.write([b"x" * 1000])
    place = [segment.file.fd, start, segment.tag, lengths]
    if not is_place(place):
        return
    try:
        assert open_place(HERE, place).start == 0
    except OSError:
        assert start or span(lengths) > span([1000])


def test_probe():
    """`can_read` is proven by a probe: what is not there, or has another tag, proves nothing."""
    probe = lend_probe()
    assert probe is lend_probe()
    place = probe.place()
    assert can_read(HERE, place)
    assert not can_read(HERE, None)
    assert not can_read(HERE, [])
    assert not can_read(2**40, place)
    assert not can_read(HERE, [place[0], place[1], new_tag(), place[3]])
    with copy() as (pid, _):
        assert can_read(pid, place)


def test_nothing_is_shared_where_nothing_can_be(monkeypatch):
    """`can_read` and `lend_probe` say no where this system cannot, or has no room."""
    from twisted_dist.segments import probe

    def full(buffers):
        raise OSError("no room")

    place = lend_probe().place()
    monkeypatch.setattr(probe.POOL, "write", full)
    assert lend_probe.__wrapped__() is None
    monkeypatch.setattr(probe, "CAN_SHARE", False)
    assert lend_probe.__wrapped__() is None
    assert not can_read(HERE, place)


def test_keeping_less(monkeypatch):
    """`Keeping.limit` only ever lessens what is kept."""
    from twisted_dist.segments import probe

    monkeypatch.setattr(probe.POOL, "kept_bytes", 100)
    monkeypatch.setattr(probe.MAPPINGS, "kept_bytes", 10)
    monkeypatch.setattr(probe.POOL, "maps", False)
    keeping = Keeping()
    keeping.begin(maps=True)
    assert probe.POOL.maps
    keeping.end()
    keeping.begin()
    assert probe.POOL.maps
    keeping.most = 200
    probe.POOL.kept_bytes, probe.MAPPINGS.kept_bytes = 100, 10
    keeping.limit(50)
    assert (probe.POOL.kept_bytes, probe.MAPPINGS.kept_bytes) == (50, 10)
    keeping.begin(maps=True)  # where memory is limited, mapping counts
    assert not probe.POOL.maps


def test_any_process_memory_is_none_of_ours():
    """`open_place` refuses a nameless file in which there is no segment."""
    file = File(in_memory())
    os.ftruncate(file.fd, 4096)
    with pytest.raises(StaleError):
        open_place(HERE, [file.fd, 0, new_tag(), [1]])


def test_where_it_is(tmp_path):
    """`open_place` tells values in memory from those on a disk, whoever has made them."""
    value = POOL.write([b"in memory"])
    assert open_place(os.getpid(), value.place()).in_memory
    file = File(on_disk(str(tmp_path)))
    os.pwrite(file.fd, value.tag.ljust(ALIGNMENT, b"\0") + b"on a disk".ljust(ALIGNMENT), 0)
    there = Segment(file, 0, value.tag, [9])
    assert not open_place(os.getpid(), there.place()).in_memory
