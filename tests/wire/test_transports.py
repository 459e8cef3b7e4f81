"""`wire.transports`: what is asked of real sockets."""

from __future__ import annotations

import socket

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

from twisted_dist.wire.transports import IDLE_S, SILENCE_S, notice_silence


@pytest.fixture
def pair():
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    with here, there:
        yield here, there


def test_silence_is_noticed(pair):
    """`notice_silence` has the kernel ask for a silent peer, for as long as a lease."""
    sock = pair[0]
    notice_silence(Connection(sock, Protocol(), None))
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_KEEPIDLE"):
        idle, every, most = (
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        )
        assert idle == IDLE_S
        assert idle + every * most == SILENCE_S


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_who_does_not_read_is_not_given_up(pair):
    """`notice_silence` sets no limit on what a peer that lives has not read yet."""
    notice_silence(Connection(pair[0], Protocol(), None))
    assert not pair[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_pairs_have_no_silence():
    """`notice_silence` asks nothing of what is no connection between machines."""
    here, there = socket.socketpair()
    with here, there:
        notice_silence(Connection(here, Protocol(), None))
    notice_silence(object())
