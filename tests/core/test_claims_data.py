"""`core.claims`: scattered data, whose client and whose worker both come back."""

from __future__ import annotations

import pytest

from tests.core.test_claims import Anew, W, X, done, forgotten
from tests.core.test_coordination import A
from tests.core.test_policies import FIRST, given, kinds
from tests.support.stimuli import submitted
from twisted_dist.core import stimuli as s
from twisted_dist.core.claims import GRACE_S


@pytest.fixture
def desk():
    """A scheduler that was started again."""
    return Anew()


def test_scattered_data(desk):
    """Data that a worker claims is its client's again, who need not know where it is."""
    desk.come(W, [FIRST], attempt=0)
    desk.return_client()
    assert done(desk.tell(s.DataScattered(A, [FIRST], [8], 0))) == [FIRST]
    assert desk.state == {0: "memory"}


def test_scattered_data_told_of_first(desk):
    """Data that a client tells of first waits for who holds it."""
    desk.return_client()
    desk.tell(s.DataScattered(A, [FIRST], [8], 0))
    desk.tell(submitted(A, FIRST + 1, deps=[[FIRST]]))
    out = desk.come(W, [FIRST], attempt=0) + desk.come(X)
    assert FIRST in done(out)
    assert given(out) == [(W, FIRST + 1)]
    assert not kinds(desk.live(GRACE_S + 2))


def test_scattered_data_that_is_lost(desk):
    """Data that nobody comes with is lost when the grace is over, with what needs it."""
    desk.return_client()
    desk.tell(s.DataScattered(A, [FIRST], [8], 0))
    desk.tell(submitted(A, FIRST + 1, deps=[[FIRST]]))
    out = desk.come(W)
    assert not kinds(out)
    assert set(kinds(desk.live(GRACE_S + 2))) == {"data-lost"}


def test_scattered_data_that_was_put_just_before(desk):
    """Data that a worker says was put there, after its client has told of it, is kept."""
    desk.come(W)
    desk.return_client()
    desk.tell(s.DataScattered(A, [FIRST], [8], 0))
    out = desk.tell(s.DataPut(W, [FIRST]))
    assert done(out) == [FIRST]
    assert not forgotten(out)
    assert desk.state == {0: "memory"}
    (worker,) = desk.core.state.workers.values()
    assert worker.nbytes == 8
    out = desk.tell(s.DataScattered(A, [FIRST], [8], W))
    assert worker.nbytes == 8
    assert not forgotten(out)
