"""`Channel`: the child's end of the socket to its nanny."""

import socket
import struct

import pytest

from twisted_dist.execution.channel import Channel


@pytest.mark.parametrize("begun", [b"", struct.pack(">I", 200_000) + b"\x91"], ids=["", "large"])
def test_closed_with_something_unread(begun):
    """`Channel.receive` ends when the nanny closes, whatever it has not read by then."""
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(theirs)
        channel.send(["nobody reads this"])
        ours.sendall(begun)
        ours.close()
        assert channel.receive() is None
