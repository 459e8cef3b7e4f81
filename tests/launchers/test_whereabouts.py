"""`launchers.cluster.whereabouts`: under which addresses hosts know each other."""

from __future__ import annotations

import pytest

from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.cluster.whereabouts import Whereabouts, checked_interface


def test_where_each_was_reached():
    """As itself sees it; not by IPv6, which daemons do not have."""
    whereabouts = Whereabouts()
    whereabouts.learn("one", ["2001:db8::1", "192.0.2.1", "10.0.0.1"])
    assert whereabouts.of("one") == "192.0.2.1"
    assert whereabouts.of("two") is None


def test_loopback_addresses():
    """They do where all have one, and where one has another, nobody is known by them."""
    whereabouts = Whereabouts()
    whereabouts.learn("one", ["127.0.0.1", "192.0.2.1"])
    assert whereabouts.of("one") == "127.0.0.1"
    whereabouts.learn("two", ["192.0.2.2"])
    assert whereabouts.of("one") == "192.0.2.1"
    whereabouts.learn("three", ["127.0.0.1"])
    assert whereabouts.of("three") is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [("ib0", "ib0"), ("10.1.0.0/16", "10.1.0.0/16"), ("10.1.2.3/16", "10.1.0.0/16")],
)
def test_interfaces(text, meant):
    """A name, or a subnet by any address in it."""
    assert checked_interface(text) == meant


@pytest.mark.parametrize(
    "text", ["", "two words", "sixteen-letters-", "10.1.0.0/33", "fe80::/10", "a/b", "tab\t"]
)
def test_no_interfaces(text):
    """What is neither is refused, by the option's name."""
    with pytest.raises(UsageProblem, match="--interface"):
        checked_interface(text)
