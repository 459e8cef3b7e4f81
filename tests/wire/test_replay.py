"""`wire.replay`: what is kept of a stream until its peer has it, by positions."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from twisted_dist.errors import ProtocolError
from twisted_dist.wire.replay import Direct, Replay


@pytest.fixture
def replay():
    """Ten bytes, in three chunks."""
    replay = Replay()
    for each in (b"abc", b"defg", b"hij"):
        replay.add(each)
    return replay


@pytest.mark.parametrize(
    ("position", "kept"), [(0, 10), (1, 10), (3, 7), (6, 7), (7, 3), (9, 3), (10, 0)]
)
def test_arrived(replay, position, kept):
    """`Replay.arrived` lets go of whole chunks only, and of no byte that may not have arrived."""
    replay.arrived(position)
    assert replay.nbytes == kept
    assert replay.after(position) == b"abcdefghij"[position:]


def test_after_within_a_chunk(replay):
    """`Replay.after` begins at the byte that is asked for, and may be asked again."""
    assert replay.after(5) == b"fghij"
    assert replay.after(5) == b"fghij"
    replay.add(b"k")
    assert replay.after(8) == b"ijk"


def test_what_had_arrived(replay):
    """`Replay.arrived` minds no old position; `Replay.after` cannot give what was let go."""
    replay.arrived(8)
    replay.arrived(2)
    assert replay.after(8) == b"ij"
    with pytest.raises(ProtocolError, match="byte 6 is asked for; 7 had arrived"):
        replay.after(6)


@pytest.mark.parametrize("position", [11, 2**62])
def test_what_was_never_sent(replay, position):
    """`Replay` refuses positions beyond what was sent."""
    with pytest.raises(ProtocolError, match=f"byte {position} is said to have arrived; 10 were"):
        replay.arrived(position)
    with pytest.raises(ProtocolError):
        replay.after(position)


def test_below_the_beginning():
    """`Replay` has nothing before its first byte."""
    replay = Replay()
    assert replay.after(0) == b""
    with pytest.raises(ProtocolError):
        replay.after(-1)


def test_direct(replay):
    """`Replay.add_direct` counts what another thread has written, and nothing that it has not."""
    written = []
    replay.add_direct(Direct(b"klm", written))
    assert replay.after(0) == b"abcdefghij"
    with pytest.raises(ProtocolError):
        replay.arrived(11)
    written.append(b"encrypted, maybe")
    replay = Replay()
    replay.add_direct(Direct(b"klm", written))
    replay.add_direct(Direct(b"never", []))
    replay.add(b"n")
    assert replay.after(0) == b"klmn"
    replay.arrived(3)
    assert replay.after(3) == b"n"
    replay.arrived(4)
    assert replay.nbytes == 0


def test_interrupted_count(replay):
    """`Replay.nbytes` is right again when all has arrived, though Ctrl-C fell between two steps."""
    direct = Direct(b"klm", [b"klm"])
    replay._chunks.append(direct)  # as far as `add_direct` came
    replay.arrived(13)
    assert replay.nbytes == 0


@st.composite
def stories(draw):
    """What happens: chunks, direct ones that were written or not, and acknowledgements."""
    chunk = st.binary(min_size=1, max_size=20)
    step = st.one_of(
        st.tuples(st.just("add"), chunk),
        st.tuples(st.just("written"), chunk),
        st.tuples(st.just("unwritten"), chunk),
        st.tuples(st.just("arrived"), st.floats(0, 1)),
        st.tuples(st.just("after"), st.floats(0, 1)),
    )
    return draw(st.lists(step, max_size=60))


@given(stories())
def test_stories(steps):
    """`Replay` gives each byte that was sent from any position on, and counts what it keeps."""
    replay = Replay()
    sent = b""
    told = 0
    for what, given_ in steps:
        if what == "add":
            replay.add(given_)
            sent += given_
        elif what == "written":
            replay.add_direct(Direct(given_, [given_]))
            sent += given_
        elif what == "unwritten":
            replay.add_direct(Direct(given_, []))
        else:
            told += int(given_ * (len(sent) - told))
            if what == "arrived":
                replay.arrived(told)
            assert replay.after(told) == sent[told:]
        kept = sum(len(c.data) if type(c) is Direct else len(c) for c in replay._chunks)
        assert replay.nbytes == kept >= len(sent) - told
    replay.arrived(len(sent))
    assert (replay.nbytes, replay.after(len(sent))) == (0, b"")
    with pytest.raises(ProtocolError):
        replay.after(len(sent) + 1)
