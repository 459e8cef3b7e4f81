"""`Patience`: a limit of time that does not run while a person is asked."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_dist.launchers.ssh.patience import Patience


def limited(seconds=10.0):
    """A limited Deferred, with its clock, its `Patience` and what comes of it."""
    clock = Clock()
    patience, waiting, found = Patience(clock, seconds), Deferred(), []
    patience.limit(waiting).addBoth(found.append)
    return clock, patience, waiting, found


def test_in_time():
    """`Patience.limit` passes results on, and leaves no timer."""
    clock, patience, waiting, found = limited()
    clock.advance(9.9)
    waiting.callback("x")
    assert (found, patience.is_over, clock.getDelayedCalls()) == (["x"], False, [])


def test_out_of_time():
    """`Patience.limit` cancels what takes longer, and says that it was it."""
    clock, patience, _, found = limited()
    clock.advance(10.0)
    assert found[0].check(CancelledError)
    assert (patience.is_over, clock.getDelayedCalls()) == (True, [])


def test_paused():
    """In `Patience.paused` no time passes, also where pauses overlap."""
    clock, patience, _, found = limited()
    clock.advance(4.0)
    with patience.paused():
        clock.advance(100.0)
        with patience.paused():
            clock.advance(100.0)
        clock.advance(100.0)
    clock.advance(5.9)
    assert found == []
    clock.advance(0.2)
    assert patience.is_over


def test_ends_in_a_pause():
    """What ends while a person is asked leaves no timer behind."""
    clock, patience, waiting, found = limited()
    with patience.paused():
        waiting.callback("x")
    assert (found, clock.getDelayedCalls()) == (["x"], [])


def test_cancelled_by_others():
    """A cancel by somebody else is not taken for the end of the time."""
    clock, patience, waiting, found = limited()
    waiting.cancel()
    assert found[0].check(CancelledError)
    assert (patience.is_over, clock.getDelayedCalls()) == (False, [])
