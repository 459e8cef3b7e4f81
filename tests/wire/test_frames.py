"""Frames and messages, under any chunking and any bytes."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.errors import ProtocolError
from twisted_dist.wire import schema
from twisted_dist.wire.frames import TARGET_BYTES, FrameDecoder, frame


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_any_chunking_gives_the_same_payloads(payloads, step):
    """`FrameDecoder.feed` gives the payloads whatever the chunks."""
    stream = b"".join(map(frame, payloads))
    decoder = FrameDecoder()
    out = []
    for start in range(0, len(stream), step):
        out += decoder.feed(stream[start : start + step])
    assert out == payloads


def test_oversized_frame_is_refused_by_its_length():
    """`FrameDecoder.feed` refuses a frame before its bytes arrive."""
    with pytest.raises(ProtocolError, match="over the bound"):
        FrameDecoder(10).feed(b"\x00\x00\x00\x0b")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_understood(payload):
    """`schema.decode` raises nothing but ProtocolError."""
    try:
        schema.decode(payload, tuple(schema.BY_NUMBER))
    except ProtocolError:
        pass


def test_columns_of_different_lengths_are_refused():
    """`schema.decode` holds parallel columns to one length."""
    payload = schema.RETURNED.pack([1, 2], [1])
    with pytest.raises(ProtocolError, match="different lengths"):
        schema.decode(payload, (schema.RETURNED.number,))


def test_misplaced_message_is_refused():
    """`schema.decode` refuses what this peer may not send."""
    with pytest.raises(ProtocolError, match="may send"):
        schema.decode(schema.DROP.pack([1]), (schema.DONE.number,))


@given(st.lists(st.integers(0, 3 * TARGET_BYTES), max_size=30))
def test_pieces_cover_all_and_stay_near_the_target(sizes):
    """`schema.pieces` gives each row once, in order; no piece is large but by one row."""
    column = [range(size) for size in sizes]  # as long as bytes would be
    parts = list(schema.pieces(len(sizes), [column]))
    assert [each for part in parts for each in column[part]] == column
    for part in parts:
        inside = [len(each) for each in column[part]]
        assert len(inside) <= 1 or sum(inside) <= TARGET_BYTES


@pytest.mark.parametrize("count", [0, 1, 50_000, 2_500_000])
def test_many_ids_are_many_frames(count):
    """`Message.encode` cuts ids, and results without values, into frames of bounded size."""
    ids = range(1 << 40, (1 << 40) + count)
    for message, columns in (
        (schema.RELEASE, {"ids": list(ids)}),
        (schema.FINISHED, {"ids": list(ids), "nbytes": [9] * count, "values": [None] * count}),
    ):
        seen = []
        for payload in message.encode(SimpleNamespace(**columns)):
            assert len(payload) <= TARGET_BYTES
            seen += schema.decode(payload, (message.number,))[1]["ids"]
        assert seen == list(ids)
