"""`Pressure`: what numbers say is to be done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.services.pressure import Pressure


def of(limit=1000, own=0, child=0, held=0):
    """A pressure."""
    return Pressure(limit, own, child, held)


def test_room_for_values():
    """`room_for_values` is what processes leave of 60% of the limit; never less than nothing."""
    assert of().room_for_values == 600
    assert of(own=100, child=200, held=900).room_for_values == 300
    assert of(own=100, child=700).room_for_values == 0


@pytest.mark.parametrize(
    ("used", "before", "paused"),
    [(800, False, False), (801, False, True), (801, True, True), (701, True, True)]
    + [(700, True, False), (701, False, False)],
)
@pytest.mark.parametrize("whose", ["own", "child", "held"])
def test_pause(used, before, paused, whose):
    """`is_paused` begins above 80% and ends at 70%, whoever uses it."""
    assert of(**{whose: used}).is_paused(before) is paused


def test_refusal():
    """`refuses` what does not fit below 95%."""
    pressure = of(own=100, child=200, held=300)
    assert pressure.used == 600
    assert not pressure.refuses(350)
    assert pressure.refuses(351)


def test_bloated():
    """`is_bloated` where the child alone is above what tasks begin below."""
    assert of(child=701).is_bloated
    assert not of(child=700, own=300, held=1000).is_bloated


@given(st.tuples(*[st.integers(0, 2**50)] * 3), st.integers(0, 2**50), st.booleans())
def test_no_limit(used, nbytes, before):
    """Without a limit nothing is ever to be done."""
    pressure = Pressure(0, *used)
    assert not pressure.is_paused(before)
    assert not pressure.refuses(nbytes)
    assert not pressure.is_bloated


@given(st.tuples(*[st.integers(0, 2000)] * 3))
def test_pauses_do_not_flap(used):
    """What would begin a pause never ends one."""
    pressure = Pressure(1000, *used)
    assert pressure.is_paused(True) >= pressure.is_paused(False)
    # a child that keeps tasks waiting for ever is one that is replaced
    if pressure.is_paused(True) and not pressure.held and not pressure.own:
        assert pressure.is_bloated
