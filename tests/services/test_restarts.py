"""`Restarts`: how soon after a death, and when there is no hope."""

import random
from itertools import pairwise

import pytest

from twisted_dist.services.restarts import (
    FIRST_RESTART_S,
    HEALTHY_S,
    MOST_RESTART_S,
    MOST_STILLBORN,
    Restarts,
)

GOOD = {"was_ready": True, "was_useful": True, "lived_s": 1.0}
IDLE = {"was_ready": True, "was_useful": False, "lived_s": 1.0}
STILLBORN = {"was_ready": False, "was_useful": False, "lived_s": 1.0}


@pytest.fixture
def restarts():
    """Of a chance that always gives the middle."""

    class Middle(random.Random):
        def uniform(self, least, most):
            return (least + most) / 2

    return Restarts(Middle())


def test_doubled(restarts):
    """Each death of one that did nothing doubles the wait, up to a bound."""
    waits = [restarts.next(**IDLE) for _ in range(12)]
    assert waits[0] == FIRST_RESTART_S
    assert all(later == min(2 * each, MOST_RESTART_S) for each, later in pairwise(waits))
    assert waits[-1] == MOST_RESTART_S


@pytest.mark.parametrize("good", [GOOD, {**IDLE, "lived_s": HEALTHY_S + 1}])
def test_quick_again(restarts, good):
    """After one that was useful or lived long the next start is quick."""
    for _ in range(5):
        restarts.next(**IDLE)
    assert restarts.next(**good) == FIRST_RESTART_S
    assert restarts.next(**IDLE) == 2 * FIRST_RESTART_S


def test_no_hope(restarts):
    """`MOST_STILLBORN` in a row are the end; one that was ready begins the count anew."""
    for _ in range(MOST_STILLBORN - 1):
        assert restarts.next(**STILLBORN) is not None
    assert restarts.next(**IDLE) is not None
    assert restarts.stillborn == 0
    for _ in range(MOST_STILLBORN - 1):
        assert restarts.next(**STILLBORN) is not None
    assert restarts.next(**STILLBORN) is None
    assert restarts.stillborn == MOST_STILLBORN


def test_not_together():
    """Waits of many nannies differ, by half at most."""
    waits = [Restarts(random.Random(seed)).next(**IDLE) for seed in range(100)]
    assert len(set(waits)) > 90
    assert all(0.5 * FIRST_RESTART_S <= each <= 1.5 * FIRST_RESTART_S for each in waits)
    assert max(waits) - min(waits) > 0.8 * FIRST_RESTART_S
