"""Fixtures of the simulation's tests."""

import gc

import pytest

from twisted_dist.segments.probe import KEEPING


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_kept():
    """Let go of what simulated processes that were killed have left in this one.

    How much memory is kept for later values is said by a process, and a real one takes that
    with it when it is killed; so it does with values, which are in cycles here. Without this,
    tests that follow in this process and look who has memory find that it has.
    """
    before = KEEPING._tidiers
    yield
    while KEEPING._tidiers > before:
        KEEPING.end()
    gc.collect()
