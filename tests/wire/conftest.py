"""What tests of several files are about."""

from __future__ import annotations

import pytest

from tests.support.linksite import LinkSite


@pytest.fixture
def site(monkeypatch):
    """A `LinkSite` that leaves no call behind."""
    site = LinkSite(monkeypatch)
    yield site
    site.link.close("the test is over")
    if site.link.session is not None:  # it is said good-bye on a connection
        site.link.session.stream.connectionLost()
    assert not site.clock.getDelayedCalls()
