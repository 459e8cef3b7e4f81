"""`dial_error` and `forward_error`: what is said of a host that cannot be connected to."""

import errno

import pytest
from twisted.conch.error import ConchError
from twisted.internet import error as net
from twisted.python.failure import Failure

from twisted_dist.launchers.ssh.failures import dial_error, forward_error
from twisted_dist.launchers.ssh.settings import HostSettings

WEB = HostSettings(alias="web", host="10.0.0.1", user="ann", port=2222)


@pytest.mark.parametrize(
    ("problem", "kind", "is_passing", "part"),
    [
        (net.DNSLookupError("x"), "name", False, "'10.0.0.1' does not resolve"),
        (ValueError("invalid hostname"), "name", False, "does not resolve"),
        (net.ConnectionRefusedError(), "refused", True, "nobody listens at 10.0.0.1 port 2222"),
        (net.TimeoutError(), "unreachable", True, "nothing answers"),
        (net.TCPTimedOutError(), "unreachable", True, "nothing answers"),
        (net.NoRouteError(errno.EHOSTUNREACH), "unreachable", True, "No route to host"),
        (net.ConnectError(errno.ENETUNREACH), "unreachable", True, "Network is unreachable"),
        (
            net.ConnectError(string=Failure(net.ConnectionDone())),
            "unreachable",
            True,
            "An error occurred while connecting",
        ),
    ],
)
def test_dial(problem, kind, is_passing, part):
    """`dial_error` tells kinds apart, in one line."""
    error = dial_error(WEB, problem)
    assert (error.kind, error.is_passing) == (kind, is_passing)
    assert part in str(error)
    assert "\n" not in str(error)
    assert "Failure" not in str(error)


@pytest.mark.parametrize(
    ("problem", "kind", "is_passing"),
    [
        (ConchError(b"open failed", 1), "settings", False),
        (ConchError(b"Connection refused", 2), "refused", True),
        (ConchError(b"Name or service not known", 2), "name", False),
        (ConchError(b"Connection timed out\x1b[1m", 2), "unreachable", True),
        (ConchError(b"", 4), "unreachable", True),
        (net.ConnectionLost(), "unreachable", True),
    ],
)
def test_forward(problem, kind, is_passing):
    """`forward_error` tells a bastion that will not from a host that is not there."""
    error = forward_error(WEB, "gate", problem)
    assert (error.kind, error.is_passing) == (kind, is_passing)
    assert str(error).startswith("web: gate ")
    assert "\x1b" not in str(error)
