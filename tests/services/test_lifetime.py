"""Durations, and lifetimes by a clock of the test's own."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.task import Clock

from twisted_dist.errors import UsageProblem
from twisted_dist.services.lifetime import GRACE_S, HASTE_S, Lifespan, Lifetime, as_seconds
from twisted_dist.services.solitude import Solitude
from twisted_dist.wire import schema


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600),
        (90, 90),
        (0.5, 0.5),
        (1e-5, 1e-5),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43200),
        ("1 day", 86400),
        ("2 Days", 172800),
        ("1.5 hours", 5400),
        (".5 min", 30),
        ("1 week", 604800),
        ("250ms", 0.25),
        (" 7 ", 7),
    ],
)
def test_durations(text, seconds):
    """`as_seconds` reads what dask's users write."""
    assert as_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "5 fortnights", "1e3", "h", "1h30m", "nan", "inf", "9" * 20 + "w"]
)
def test_no_durations(text):
    """`as_seconds` refuses the rest in one line that says what can be meant."""
    with pytest.raises(UsageProblem, match="is no duration: 3600, 90s, 15m, 12h or 1 day"):
        as_seconds(text)


class Stream:
    """What a worker's stream would send."""

    def __init__(self):
        self.sent = []

    def send(self, payload):
        self.sent.append(payload)

    def flush(self):
        """At once."""


class Life:
    """A lifetime, and what becomes of it."""

    def __init__(self, *span, number=1):
        self.clock = Clock()
        self.events = []
        self.stream = Stream()
        self.lifetime = Lifetime(
            self.clock,
            Lifespan.of(*span),
            lambda: self.events.append("ends"),
            lambda: self.events.append("begins anew"),
            Random(number),
        )
        self.lifetime.stream = self.stream
        self.lifetime.begin()

    def lasts(self):
        """When its time comes."""
        (call,) = self.clock.getDelayedCalls()
        return call.getTime()


def test_stagger():
    """`Lifespan.drawn` is up to the stagger more or less, as the given randomness says."""
    lasts = [Life("100s", "20s", False, number=n).lasts() for n in range(200)]
    assert 80 <= min(lasts) < 85
    assert 115 < max(lasts) <= 120
    assert Life("100s", "20s", False, number=3).lasts() == lasts[3]
    assert Life(100, 0, False).lasts() == 100


def test_never():
    """A worker without a lifetime has no timer."""
    assert not Life(0, 0, False).clock.getDelayedCalls()


def test_end():
    """`Lifetime` asks the scheduler when its time has come, and ends when that says so."""
    life = Life(10, 0, False)
    life.clock.advance(10)
    assert life.lifetime.is_over
    assert life.stream.sent == [schema.RETIRE.pack(300.0, True)]
    life.clock.advance(200)
    assert not life.events
    life.lifetime.may_end()
    assert life.events == ["ends"]
    assert not life.clock.getDelayedCalls()


def test_restart():
    """With a restart the next life begins when the first has ended."""
    life = Life(10, 0, True)
    life.clock.advance(10)
    life.clock.advance(7)
    life.lifetime.may_end()
    assert life.events == ["begins anew"]
    assert not life.lifetime.is_over
    assert life.lasts() == 27


def test_told_to_leave_by_others():
    """Who is told to leave before its time ends, and does not begin anew."""
    life = Life(10, 0, True)
    life.lifetime.may_end()
    assert life.events == ["ends"]
    assert not life.clock.getDelayedCalls()


def test_no_answer():
    """`Lifetime` waits for the scheduler until the deadline and a little more."""
    life = Life(0, 0, False)
    life.lifetime.leave(5.0)
    life.lifetime.leave(5.0)
    assert len(life.stream.sent) == 1
    life.clock.advance(5.0 + GRACE_S - 0.1)
    assert not life.events
    life.clock.advance(0.2)
    assert life.events == ["ends"]


def test_no_scheduler():
    """`Lifetime` ends at once where there is nobody to hand anything over to."""
    life = Life(10, 0, False)
    life.lifetime.stream = None
    life.clock.advance(10)
    assert life.events == ["ends"]


def test_drain():
    """`Lifetime.leave` that does not wait says so, and has little patience beyond the deadline."""
    life = Life(10, 0, True)
    life.lifetime.leave(5.0, waits=False)
    assert life.stream.sent == [schema.RETIRE.pack(5.0, False)]
    life.clock.advance(5.0 + HASTE_S - 0.1)
    assert not life.events
    life.clock.advance(0.2)
    assert life.events == ["ends"]


def test_drain_while_it_leaves():
    """Who leaves in its own time and is told to end leaves by the new deadline, for good."""
    life = Life(10, 0, True)
    life.clock.advance(10)
    life.lifetime.leave(5.0, waits=False)
    life.lifetime.leave(7.0, waits=False)
    assert life.stream.sent[1:] == [schema.RETIRE.pack(5.0, False)]
    life.lifetime.may_end()
    assert life.events == ["ends"]
    assert not life.clock.getDelayedCalls()


class Lonely:
    """A lifetime that counts how long it is without a scheduler."""

    def __init__(self, limit):
        self.clock = Clock()
        self.said = []
        alone = Solitude(self.clock, limit, "h:1", self.said.append)
        self.lifetime = Lifetime(
            self.clock, Lifespan(), lambda: None, lambda: None, Random(1), alone
        )
        self.lifetime.begin()


def test_death():
    """`Solitude` counts from the start, and from when there was a scheduler last."""
    life = Lonely(300)
    life.clock.advance(299)
    life.lifetime.stream = Stream()
    life.clock.advance(1000)
    life.lifetime.stream = None
    life.clock.advance(299)
    life.lifetime.stream = None  # tried again, in vain
    assert not life.said
    life.clock.advance(1)
    assert life.said == ["no scheduler at h:1 for 300 s (its death timeout)"]
    life.lifetime.close()
    life.lifetime.stream = None
    assert not life.clock.getDelayedCalls()


def test_death_never_reached():
    """`Solitude` counts where there never was a scheduler, and not at all where it is 0."""
    life = Lonely(300)
    life.clock.advance(300)
    assert life.said
    assert not Lonely(0).clock.getDelayedCalls()


def test_drain_when_cut():
    """Who is to end waits for no way to a scheduler that is cut already, and ends at once."""
    life = Life(0, 0, False)
    life.lifetime.cut(True)
    life.lifetime.leave(25.0, waits=False)
    assert life.events == ["ends"]
    assert not life.clock.getDelayedCalls()


def test_cut_while_it_drains():
    """Who is to end gives a way that is cut a moment, and has the old deadline when it is back."""
    life = Life(0, 0, False)
    life.lifetime.leave(25.0, waits=False)
    life.clock.advance(10.0)
    life.lifetime.cut(True)
    life.clock.advance(HASTE_S - 0.1)
    life.lifetime.cut(False)
    life.clock.advance(14.0)
    assert not life.events
    life.lifetime.cut(True)
    assert life.clock.getDelayedCalls()[0].getTime() == pytest.approx(25.0 + HASTE_S)
    life.clock.advance(HASTE_S)
    assert life.events == ["ends"]


def test_cut_while_it_leaves_in_its_own_time():
    """Who has time waits for a way that is cut."""
    life = Life(10, 0, False)
    life.clock.advance(10)
    life.lifetime.cut(True)
    life.clock.advance(100.0)
    assert not life.events


def test_death_by_cut():
    """`Solitude` counts while the way to the scheduler is cut."""
    life = Lonely(300)
    life.lifetime.stream = Stream()
    life.lifetime.cut(True)
    life.clock.advance(200)
    life.lifetime.cut(False)
    life.clock.advance(200)
    life.lifetime.cut(True)
    life.clock.advance(299)
    assert not life.said
    life.clock.advance(1)
    assert life.said


def test_told_to_end_while_it_ends():
    """Who has been told to end again, when it ends already, has nothing more to do."""
    life = Life(10, 0, True)
    life.lifetime.close()
    life.lifetime.leave(25.0, waits=False)
    assert not life.stream.sent
    assert not life.clock.getDelayedCalls()
