"""`execution.payloads`: values of every kind and size, shared and not."""

import gc
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sharing import nothing_left_open
from twisted_dist.core.worker_side.machine import INLINE_BYTES
from twisted_dist.execution import payloads
from twisted_dist.execution.payloads import (
    OUT_OF_BAND_BYTES,
    Placed,
    dump_value,
    in_band,
    load_value,
    opened,
    value_nbytes,
)
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.mapping import COPIED_BYTES
from twisted_dist.segments.segment import Segment

numpy = pytest.importorskip("numpy")
can_share = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
#: bytes that pickle puts around a small value of bytes
AROUND = len(pickle.dumps(b"x" * 60_000, protocol=5)) - 60_000

VALUES = {
    "nothing": None,
    "a dict": {"a": [1, 2.5, "three"]},
    "bytes": b"x" * (2 * INLINE_BYTES),
    "a bytearray": bytearray(b"y" * (2 * INLINE_BYTES)),
    "a small bytearray": bytearray(b"y" * 10),
    "a large one": b"z" * (COPIED_BYTES + 100),
    "an array": numpy.arange(200_000.0),
    "a small array": numpy.arange(3),
    "an empty array": numpy.empty((0, 3)),
    "an array of columns": numpy.asfortranarray(numpy.arange(40_000.0).reshape(200, 200)),
    "a part of an array": numpy.arange(200_000.0)[::2],
    "arrays": {"a": numpy.arange(20_000), "b": [numpy.ones(20_000), b"between"]},
}


def is_equal(one, other):
    """Also of arrays, within anything."""
    if isinstance(one, numpy.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("share", [False, pytest.param(True, marks=can_share)])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_there_and_back(value, share):
    """`load_value` gives what `dump_value` was given, however it travels."""
    dumped = dump_value(value, share)
    if not share:
        assert not isinstance(dumped, Segment)
    assert is_equal(value, load_value(dumped))
    assert is_equal(value, load_value(in_band(dumped)))
    assert value_nbytes(in_band(dumped)) == value_nbytes(dumped)
    if isinstance(dumped, Segment):
        assert is_equal(value, load_value(Placed(os.getpid(), dumped.place())))
        assert is_equal(value, load_value(opened(os.getpid(), dumped.place())))


@can_share
@pytest.mark.parametrize("more", [0, 1])
def test_what_is_large(more):
    """`dump_value` shares what takes more than `INLINE_BYTES`, and nothing else."""
    value = b"x" * (INLINE_BYTES - AROUND + more)
    dumped = dump_value(value, share=True)
    assert value_nbytes(dumped) == INLINE_BYTES + more
    assert isinstance(dumped, Segment) is bool(more)
    assert isinstance(dump_value(value, share=False), bytes)
    assert load_value(dumped) == value


@can_share
def test_small_buffers_together(monkeypatch):
    """`dump_value` counts a value's pickle and buffers together."""
    monkeypatch.setattr(payloads, "OUT_OF_BAND_BYTES", 1000)
    small = numpy.zeros(125)
    assert isinstance(dump_value([small] * 2, share=True), list)
    many = [numpy.full(125, each, dtype="f8") for each in range(70)]
    dumped = dump_value(many, share=True)
    assert isinstance(dumped, Segment)
    assert len(dumped.lengths) == 71
    assert is_equal(load_value(dumped), many)


def test_buffers_stay_out_of_the_pickle():
    """`dump_value` copies no buffer into a pickle from `OUT_OF_BAND_BYTES` on."""
    for size, apart in ((OUT_OF_BAND_BYTES - 1, False), (OUT_OF_BAND_BYTES, True)):
        dumped = dump_value(numpy.zeros(size, dtype="u1"))
        assert isinstance(dumped, list) is apart
    assert len(dumped[0]) < 1000
    assert len(dumped[1]) == OUT_OF_BAND_BYTES


@can_share
@pytest.mark.parametrize("size", [100_000, COPIED_BYTES])
def test_shared_arrays_are_read_only(size):
    """`load_value` of a shared array gives one that cannot be written, mapped or copied."""
    loaded = load_value(dump_value(numpy.zeros(size), share=True))
    with pytest.raises(ValueError, match="read-only"):
        loaded[0] = 1


@can_share
def test_shared_values_go_with_their_arrays():
    """A loaded array keeps what it needs, after all else of it is gone; then nothing is open."""
    with nothing_left_open():
        dumped = dump_value(numpy.arange(300_000.0), share=True)
        loaded = load_value(dumped)
        del dumped
        other = dump_value(numpy.zeros(300_000), share=True)
        assert loaded[12345] == 12345
        assert loaded.sum() == 299_999 * 150_000
        del loaded, other
        gc.collect()


@can_share
def test_no_room_for_more_descriptors(monkeypatch):
    """`opened` copies where too many are open already; the value is the same."""
    value = [b"x" * INLINE_BYTES, numpy.arange(100_000)]
    dumped = dump_value(value, share=True)
    assert isinstance(opened(os.getpid(), dumped.place()), Segment)
    monkeypatch.setattr(payloads, "has_room", lambda: False)
    with nothing_left_open():
        copied = opened(os.getpid(), dumped.place())
        assert isinstance(copied, list)
        assert set(map(type, copied)) == {bytes}
        assert is_equal(load_value(copied), value)


@can_share
def test_nothing_there():
    """`load_value` and `opened` raise OSError for a place where nothing is."""
    place = dump_value(b"x" * 2 * INLINE_BYTES, share=True).place()
    for broken in ([10**9, *place[1:]], [*place[:2], b"x" * 16, place[3]]):
        with pytest.raises(OSError, match=r"No such file|by now"):
            load_value(Placed(os.getpid(), broken))
        with pytest.raises(OSError, match=r"No such file|by now"):
            opened(os.getpid(), broken)


@can_share
@given(
    st.recursive(
        st.none() | st.integers() | st.binary(max_size=100) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    ),
    st.integers(0, 2 * INLINE_BYTES),
)
def test_any(value, size):
    """`load_value` gives what `dump_value` was given, of any shape and size."""
    whole = [value, b"x" * size]
    assert load_value(dump_value(whole, share=True)) == whole
