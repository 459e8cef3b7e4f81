"""Fixtures of the tests with real processes."""

import pytest

from tests.support.daemons import starting


@pytest.fixture
def start():
    """Starts daemons: ``start("dscheduler", "--port", "0")``."""
    with starting() as function:
        yield function
