"""Data connections in memory: values there and back, and what is not one."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.test.iosim import connectedServerAndClient

from twisted_dist.errors import ConnectionClosedError
from twisted_dist.wire.data import GET, GOT, PIECE_BYTES, PUT, SILENCE_S, STORED, DataProtocol
from twisted_dist.wire.frames import frame

VALUES = {1: b"one", 2: [b"two", b"and its buffer"], 3: b"x" * (PIECE_BYTES + 1), 4: b"four"}


def linked(clock=None):
    """A store, its serving end, the asking end and a pump."""
    store = dict(VALUES)

    def put(ids, values):
        store.update(zip(ids, values))
        return 5

    client, server, pump = connectedServerAndClient(
        lambda: DataProtocol(None, store.get, put), lambda: DataProtocol(clock)
    )
    return store, server, client, pump


def test_get_in_pieces():
    """`DataProtocol.get` gathers pieces, and leaves out what is not there."""
    _store, _server, client, pump = linked()
    results = []
    client.get([1, 2, 3, 4, 5]).addCallback(results.append)
    pump.flush()
    assert results == [VALUES]


def test_put():
    """`DataProtocol.put` fires when the other end holds the values."""
    store, _server, client, pump = linked()
    results = []
    client.put([7], [b"seven"]).addCallback(results.append)
    pump.flush()
    assert results == [5]
    assert store[7] == b"seven"


def test_lost_connection_fails_requests():
    """`DataProtocol.get` fails when the connection goes, and on one that has gone."""
    _store, server, client, pump = linked()
    failures = []
    client.get([1]).addErrback(failures.append)
    server.transport.abortConnection()
    pump.flush()
    client.get([1]).addErrback(failures.append)
    assert [each.type for each in failures] == [ConnectionClosedError] * 2


def test_silent_peer_is_given_up():
    """`DataProtocol.get` fails when nothing comes for `SILENCE_S`; each byte gives time anew."""
    clock = task.Clock()
    _store, _server, client, _pump = linked(clock)
    failures = []
    client.get([1]).addErrback(failures.append)
    clock.advance(SILENCE_S - 1)
    client.dataReceived(b"\0")
    clock.advance(SILENCE_S - 1)
    assert not failures
    clock.advance(2)
    _pump.flush()
    assert [each.type for each in failures] == [ConnectionClosedError]
    assert not clock.getDelayedCalls()


def test_answered_requests_leave_no_timer():
    """`DataProtocol` waits only while something is owed."""
    clock = task.Clock()
    _store, _server, client, pump = linked(clock)
    for ask in (lambda: client.get([1]), lambda: client.put([7], [b"seven"])):
        request = ask()
        assert clock.getDelayedCalls()
        pump.flush()
        assert request.called
    assert not clock.getDelayedCalls()


BAD = [
    b"\xc1",
    *map(
        msgpack.packb,
        [
            7,
            [],
            [GET],
            [GET, 1],
            [GET, 1, [[]]],
            [GET, 1, ["1"]],
            [GET, "1", [1]],
            [9, 1, [1]],
            [PUT, 1, [1], []],
            [PUT, 1, [1], [None]],
            [PUT, 1, [1], [[]]],
            [PUT, 1, [1], [["text"]]],
            [GOT, 1, [1], [b""], True],
            [STORED, 1, 0],
        ],
    ),
]


@pytest.mark.parametrize("payload", BAD, ids=repr)
def test_malformed_is_the_end_of_the_connection(payload):
    """`DataProtocol` ends a connection that breaks the protocol, and stores nothing."""
    store, server, _client, _pump = linked()
    server.makeConnection(StringTransport())
    server.dataReceived(frame(payload))
    assert server.transport.disconnected
    assert store == VALUES


json = st.recursive(
    st.none() | st.integers(-5, 2**40) | st.binary(max_size=4) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4),
)


@given(st.lists(json, max_size=5))
def test_anything_is_understood_or_refused(message):
    """`DataProtocol` raises nothing, whatever comes."""
    protocol = DataProtocol(None, {}.get, lambda ids, values: 0)
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(frame(msgpack.packb(message)))
