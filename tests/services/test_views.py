"""What the views make of names."""

import pytest

from twisted_dist.services.views import prefix_of


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("inc-3f00000001", "inc"),
        ("data-10000000000", "data"),
        ("hello-world-1", "hello-world"),
        ("<lambda>-16d7", "<lambda>"),
        ("('x-2', 0)", "x"),
        ("('sum', 3, 1)", "sum"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_prefix(key, prefix):
    """`prefix_of` leaves out what only numbers a key."""
    assert prefix_of(key) == prefix
