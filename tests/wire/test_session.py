"""`wire.session`: streams that outlive their connections, and those that do not."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet import task

from tests.support.pipes import WORD, Pair
from twisted_dist.errors import ProtocolError
from twisted_dist.wire import schema, session
from twisted_dist.wire.frames import frame
from twisted_dist.wire.session import BEAT_S, SILENT_BEATS

#: what is never acknowledged of a quiet stream: the last acknowledgements themselves
FEW = 64


@pytest.fixture
def pair():
    """Two ends, connected."""
    return Pair()


def beat(pair):
    """Both ends beat, and hear it."""
    for each in pair.ends:
        each.session.beat()
    pair.settle()


class Streams(RuleBasedStateMachine):
    """Two ends, a connection that is cut anywhere, and what each has said and heard."""

    @initialize()
    def begin(self):
        """Acknowledge often."""
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(session, "ACK_BYTES", 100)
        self.pair = Pair()
        self.asked = None

    def _end(self, is_dialling):
        return self.pair.dialling if is_dialling else self.pair.dialled

    @rule(which=st.booleans(), size=st.integers(0, 40), flush=st.booleans())
    def say(self, which, size, flush):
        """Something is sent, whether or not there is a connection."""
        self._end(which).say(size, flush)

    @rule(which=st.booleans(), writes=st.booleans())
    def say_directly(self, which, writes):
        """Another thread sends, or is ended just before."""
        self._end(which).say_directly(writes)

    @rule(which=st.booleans(), count=st.integers(1, 200))
    def deliver(self, which, count):
        """Some bytes get through."""
        self.pair.deliver(self._end(which), count)

    @rule(which=st.booleans())
    def beat(self, which):
        """One end says that it is there."""
        end = self._end(which)
        end.session._silent = 0  # silence is another test's
        end.session.beat()

    @rule(which=st.sampled_from(["both", "dialling", "dialled"]))
    def cut(self, which):
        """The connection is lost, and one end does not hear of it yet, maybe."""
        ends = () if which == "both" else (getattr(self.pair, which),)
        self.pair.cut(*ends)

    @precondition(lambda self: not self.pair.dialling.is_on)
    @rule()
    def dial(self):
        """It is dialled again."""
        self.pair.dial()

    @precondition(lambda self: not self.pair.dialling.is_on)
    @rule(half=st.booleans(), count=st.integers(0, 50))
    def dial_in_vain(self, half, count):
        """It is, and lost while it is made: the dialled end may have its connection by then."""
        _, there = self.pair.ask()
        if half:
            self.pair.dialled.plug(there)
            del self.pair.dialled.pipe.out[:count]
        self.pair.dialling.session.leave("the answer never came")

    @invariant()
    def in_order_and_once(self):
        """Each end has handled what the other has sent, as far as it has come."""
        for each in self.pair.ends:
            said = self.pair.other(each).sent
            assert each.received == said[: len(each.received)]
            assert not each.lost

    def teardown(self):
        """All arrives in the end, and nothing of it is kept."""
        pair = self.pair
        try:
            if not (pair.joined and all(each.is_on for each in pair.ends)):
                pair.cut()
                pair.dial()
            for each in pair.ends:
                each.session._silent = 0
                each.session.flush()
            pair.settle()
            for each in pair.ends:
                assert each.received == pair.other(each).sent
            beat(pair)
            beat(pair)
            assert all(each.session.kept <= FEW for each in pair.ends)
            pair.dialling.session.end("enough")
            pair.settle()
            assert [each.lost for each in pair.ends] == [["enough"], ["enough"]]
        finally:
            self.patch.undo()


TestStreams = Streams.TestCase
TestStreams.settings = settings(deadline=None, stateful_step_count=40)


@pytest.mark.parametrize("at", range(60))
def test_cut_at_any_byte(pair, at):
    """`StreamSession` goes on behind the last whole message, wherever the connection is cut."""
    for size in (1, 7, 3):
        pair.dialling.say(size)
        pair.dialled.say(size)
    pair.deliver(pair.dialling, at or None)
    pair.deliver(pair.dialled, 60 - at)
    pair.cut()
    for each in pair.ends:
        each.say()
    pair.dial()
    pair.settle()
    assert pair.dialling.received == pair.dialled.sent
    assert pair.dialled.received == pair.dialling.sent
    assert all(
        each.cuts == ["Connection to the other side was lost in a non-clean fashion: cut."]
        for each in pair.ends
    )


def test_acknowledged_now_and_then(pair):
    """`StreamSession` says what has come after so many bytes, without waiting for a beat."""
    for _ in range(6):
        pair.dialling.say(session.ACK_BYTES // 4)
        pair.settle()
    assert pair.dialling.session.kept < session.ACK_BYTES


@pytest.mark.parametrize("returns", [False, True])
def test_bye(pair, returns):
    """`StreamSession.end` ends both ends with one reason, told once, after all that was sent."""
    pair.dialled.say()
    pair.dialled.session.end("done", returns=returns)
    pair.dialled.session.end("done again")
    pair.settle()
    assert pair.dialling.received == pair.dialled.sent
    assert [each.lost for each in pair.ends] == [["done"], ["done"]]
    assert pair.dialling.session.may_return is returns
    pair.dialling.say()
    assert pair.dialling.session.is_over
    assert not pair.dialling.cuts


def test_bye_without_a_connection(pair):
    """`StreamSession.end` of one that is cut is told at once, and to nobody else."""
    pair.cut()
    pair.dialling.session.end("closed")
    assert pair.dialling.lost == ["closed"]
    assert not pair.dialled.lost


def test_bye_while_the_connection_is_promised(pair):
    """`StreamSession.end` between the switch and the connection is told once, here and there."""
    pair.cut()
    stream, there = pair.ask()
    pair.dialled.session.end("given up", returns=True)
    pair.dialled.plug(there)
    pair.dialling.plug(stream)
    pair._join()
    pair.settle()
    assert [each.lost for each in pair.ends] == [["given up"], ["given up"]]


def test_closed_while_it_is_dialled(pair):
    """`StreamSession` that is over leaves no connection open that comes afterwards."""
    pair.cut()
    stream, there = pair.ask()
    pair.dialling.session.end("closed")
    pair.dialled.plug(there)
    pair.dialling.plug(stream)
    pair._join()
    pair.settle()
    assert pair.dialling.lost == ["closed"]
    assert pair.dialling.pipe.protocol is None
    assert pair.dialled.cuts


@pytest.mark.parametrize(
    "garbage",
    [
        frame(b"\xc1"),
        frame(schema.HEARTBEAT.pack({})),
        b"\xff\xff\xff\xff",
        frame(schema.ARRIVED.pack(10**9)),
        frame(schema.RESUMED.pack(0)),
    ],
    ids=["no message", "not allowed", "too long", "arrived beyond", "resumed twice"],
)
def test_garbage(pair, garbage):
    """`StreamSession` is over at once where its peer says what nobody may; it cannot go on."""
    pair.dialling.pipe.write(garbage)
    pair.dialling.say()
    pair.settle()
    assert len(pair.dialled.lost) == 1
    assert pair.dialled.session.is_over
    assert not pair.dialled.session.may_return
    assert not pair.dialled.received
    assert not pair.dialled.cuts
    assert len(pair.dialling.lost) == 1  # it is told, and does not come back to say it again
    assert not pair.dialling.session.may_return


def test_positions_that_cannot_be(pair):
    """`StreamSession.resumed` refuses a position beyond what was sent, or that it has no more."""
    pair.dialled.say()
    pair.settle()
    beat(pair)
    beat(pair)
    stream = pair.dialled.session.stream
    for position in (0, 10**9, -1):
        with pytest.raises(ProtocolError):
            pair.dialled.session.resumed(position)
    assert pair.dialled.session.stream is stream  # which was somebody else's wish, maybe
    pair.dialled.say()
    pair.settle()
    assert pair.dialling.received == pair.dialled.sent


def test_dialled_end_knows_nothing_of_the_cut(pair):
    """`StreamSession.resumed` leaves a connection that it still believes in, and tells nobody."""
    pair.cut(pair.dialling)
    old = pair.dialled.pipe
    pair.dialled.say()
    pair.dial()
    old.lose()
    pair.settle()
    assert old.aborted
    assert not pair.dialled.cuts
    assert pair.dialling.received == pair.dialled.sent


def test_silence(pair):
    """`StreamSession.beat` gives a connection up in which nothing came for so many beats."""
    for _ in range(SILENT_BEATS):
        pair.dialling.session.beat()
    assert not pair.dialling.pipe.aborted
    pair.dialling.session.beat()
    assert pair.dialling.pipe.aborted
    pair.cut()
    assert pair.dialling.cuts == [f"nothing came for {SILENT_BEATS * BEAT_S:g} s"]
    assert not pair.dialling.session.is_over


def test_any_word_breaks_the_silence(pair):
    """`StreamSession.beat` counts from the last word of whatever kind."""
    for _ in range(3 * SILENT_BEATS):
        pair.dialling.session.beat()
        pair.dialled.say()
        pair.deliver(pair.dialled)
    assert not pair.dialling.pipe.aborted


def test_own_stop(pair):
    """`StreamSession.beat` blames no peer for the time in which this process was stopped."""
    clock = task.Clock()
    beats = task.LoopingCall(pair.dialling.session.beat)
    beats.clock = clock
    beats.start(BEAT_S, now=False)
    clock.advance(20 * SILENT_BEATS * BEAT_S)
    assert not pair.dialling.pipe.aborted
    pair.dialled.session.beat()
    pair.deliver(pair.dialled)
    clock.pump([BEAT_S] * SILENT_BEATS)
    assert not pair.dialling.pipe.aborted
    beats.stop()


def test_bye_that_is_not_taken(pair):
    """`StreamSession.beat` ends a connection whose peer does not even take the good-bye."""
    pair.dialled.session.end("given up")
    for _ in range(SILENT_BEATS + 1):
        assert not pair.dialled.pipe.aborted
        pair.dialled.session.beat()
    assert pair.dialled.pipe.aborted
    pair.cut()
    assert pair.dialled.lost == ["given up"]


@pytest.mark.parametrize("is_cut", [False, True])
def test_most_kept(pair, monkeypatch, is_cut):
    """`StreamSession` gives a peer up that takes nothing, and lets go of what it had for it."""
    monkeypatch.setattr(session, "MOST_KEPT", 10_000)
    if is_cut:
        pair.cut()
    for _ in range(11):
        pair.dialled.say(1000)
    if not is_cut:
        assert pair.dialled.pipe.aborted
        pair.cut()
    assert pair.dialled.lost == ["more than 0 MiB wait for it"]
    pair.dialled.say(1000)
    assert pair.dialled.session.kept < 12_000


def test_without_cut():
    """`StreamSession` that may not go on is over with its connection."""
    from tests.support.pipes import End

    end = End(cuts=False)
    end.plug(end.session.first_stream())
    end.pipe.lose()
    assert len(end.lost) == 1


def test_first_words_before_the_connection():
    """`StreamSession` sends on its first connection what was sent before that, and no hello."""
    from tests.support.pipes import End

    end = End()
    stream = end.session.first_stream()
    end.say()
    end.plug(stream)
    assert bytes(end.pipe.out) == frame(WORD.pack(b"", "", end.sent[0]))
