"""Data connections whose values stream: in order, no faster than taken, in any chunks."""

import gc
import itertools
import os

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import task
from twisted.internet.testing import StringTransport

from tests.support.datalink import LARGE, Link, Quick, Slow, content, segment
from tests.support.fuzzing import examples, lose
from tests.support.sharing import nothing_left_open
from twisted_dist.errors import ConnectionClosedError
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.pool import POOL
from twisted_dist.segments.segment import Segment
from twisted_dist.wire import inflow
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.data_messages import (
    GET,
    GOT,
    GOT_PLACED,
    GOT_STREAM,
    HOST,
    PUT,
    PUT_PLACED,
    PUT_STREAM,
    READS,
    STORED,
    TAKEN,
    header_sum,
)
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.outflow import SLICE_BYTES, Outflow

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")


@pytest.fixture
def link(monkeypatch):
    """Makes one."""
    return lambda **given: Link(monkeypatch, **given)


BOTH, NEITHER = (True, True), (False, False)
secured = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


# -- order


@secured
def test_streams_and_small_requests(link, tls):
    """Answers come whole and in order, however requests lie between the streams."""
    made = link(reads=NEITHER, tls=tls, v1=segment(), v2=segment(LARGE[::-1]), v3=b"small")
    order = []

    def note(name):
        return lambda result: order.append((name, result))

    requests = [
        ("one", made.client.get([1])),
        ("small", made.client.get([3])),
        ("put", made.client.put([7], [segment(LARGE[5:])])),
        ("put small", made.client.put([8], [b"eight"])),
        ("two", made.client.get([2, 3])),
    ]
    for name, request in requests:
        request.addCallback(note(name))
    made.flush()
    found = dict(order)
    gets = [name for name, _ in order if not name.startswith("put")]
    assert gets == ["one", "small", "two"]
    assert content(found["one"]) == {1: [LARGE]}
    assert content(found["two"]) == {2: [LARGE[::-1]], 3: [b"small"]}
    assert content({7: made.store[7]}) == {7: [LARGE[5:]]}
    assert made.store[8] == b"eight"
    assert made.is_at_rest()


def test_no_more_than_is_taken():
    """`Outflow` asks for the next part only when there is room, and no more than a slice."""
    transport = Slow()
    outflow = Outflow(transport)
    asked = []

    def parts(name, size, count):
        for each in range(count):
            asked.append((name, each))
            yield bytes([each]) * size

    outflow.add(parts("large", SLICE_BYTES, 3))
    assert asked == [("large", 0)]
    outflow.send(b"between")
    outflow.add(parts("small", SLICE_BYTES // 4, 6))
    assert asked == [("large", 0)]
    assert len(transport.value()) == SLICE_BYTES
    sizes = []
    while transport.producer is not None:
        transport.clear()
        outflow.resumeProducing()
        sizes.append(len(transport.value()))
        assert len(asked) <= 1 + 5 * len(sizes)
    assert sizes[:2] == [SLICE_BYTES, SLICE_BYTES]
    assert max(sizes) < 2 * SLICE_BYTES
    assert sum(sizes) == 2 * SLICE_BYTES + len(b"between") + 6 * (SLICE_BYTES // 4)
    transport.clear()
    outflow.send(b"at once")
    assert transport.value() == b"at once"


def test_streams_are_read_as_they_are_sent(monkeypatch):
    """A value that streams is never read ahead of what the transport has taken."""
    server = DataProtocol(None, {1: segment(LARGE * 3)}.get)
    transport = Slow()
    server.makeConnection(transport)
    read = []
    real = Segment.read
    monkeypatch.setattr(Segment, "read", lambda *args: read.append(args[2]) or real(*args))
    server.dataReceived(frame(msgpack.packb([GET, 1, [1]])))
    assert sum(read) <= SLICE_BYTES
    transport.clear()
    server._outflow.resumeProducing()
    assert sum(read) <= 2 * SLICE_BYTES
    lose(server)
    assert not server._outflow._queue


# -- what ends a connection


def test_lost_in_the_middle_of_a_stream(link):
    """A request fails with the connection, and nothing of its value is left open."""
    made = link(reads=NEITHER, v1=segment())
    with nothing_left_open():
        failures = []
        made.client.get([1]).addErrback(failures.append)
        for _ in range(3):
            made._pump.pump()
        assert made.client._inflow._sink is not None
        for end in (made.client, made.server):
            lose(end)
        assert failures[0].check(ConnectionClosedError)
        failures.clear()
        gc.collect()
    assert made.is_at_rest()


def test_lost_in_the_middle_of_a_put():
    """What a serving end has of a put goes with its connection."""
    with nothing_left_open():
        store = {}
        server = DataProtocol(None, store.get, lambda ids, values: store.update(zip(ids, values)))
        server.makeConnection(StringTransport())
        for task_id in (1, 2):
            sum_ = header_sum(task_id, [5000])
            server.dataReceived(frame(msgpack.packb([PUT_STREAM, 1, task_id, [5000], sum_])))
            server.dataReceived(b"x" * (5056 if task_id == 1 else 2000))
        assert server._coming
        lose(server)
        gc.collect()
        assert not server._coming
        assert not store
        del server


def wrong(message):
    """*message* to an end that has asked for something, and its transport."""
    clock = task.Clock()
    client = DataProtocol(clock, {}.get, lambda ids, values: 0)
    client.makeConnection(StringTransport())
    failures = []
    client.get([1]).addErrback(failures.append)
    client.dataReceived(frame(msgpack.packb(message)))
    gone = client.transport.disconnected
    lose(client)
    assert len(failures) == 1
    assert not clock.getDelayedCalls()
    return gone


PLACE = [3, 0, b"t" * 16, [100]]
BAD = [
    [HOST, 1],
    [HOST, 1, None],
    [HOST, 1, [], True],
    [HOST, 1, PLACE, 1],
    [HOST, 1, [*PLACE[:3], [-1]], True],
    [HOST, 1, [-1, *PLACE[1:]], True],
    [HOST, "1", PLACE, True],
    [READS, 0, 1],
    [READS, 0],
    [TAKEN, 1, 1],
    [GOT_PLACED, 1, [1], []],
    [GOT_PLACED, 1, ["1"], [PLACE]],
    [GOT_PLACED, 1, [1], [PLACE[:3]]],
    [GOT_PLACED, 1, [1], [[3, 2**63, *PLACE[2:]]]],
    [GOT_PLACED, 1, [1], [[*PLACE[:3], []]]],
    [GOT_PLACED, 99, [1], [PLACE]],
    [PUT_PLACED, 1, [1], [None]],
    [GOT_STREAM, 1, 1, [5], header_sum(1, [6])],
    [GOT_STREAM, 1, 2, [5], header_sum(1, [5])],
    [GOT_STREAM, 1, 1, [-5], header_sum(1, [-5])],
    [GOT_STREAM, 1, 1, [], header_sum(1, [])],
    [GOT_STREAM, 1, 1, ["5"], header_sum(1, ["5"])],
    [GOT_STREAM, 1, 1, [2**43], header_sum(1, [2**43])],
    [GOT_STREAM, 1, 1, [2**63, 2**63], header_sum(1, [2**63, 2**63])],
    [GOT_STREAM, 1, "1", [5], header_sum("1", [5])],
    [GOT_STREAM, 99, 1, [5], header_sum(1, [5])],
    [PUT_STREAM, 1, 1, [5], 0],
    [STORED, 1, 5],
]


@pytest.mark.parametrize("message", BAD, ids=repr)
def test_what_is_no_message(message):
    """`DataProtocol` ends a connection on which comes what is none, before it does anything."""
    assert wrong(message)


@pytest.mark.parametrize("shares", [True, False])
def test_a_length_costs_nothing(monkeypatch, shares):
    """The announcement of a value takes no memory: that is for what comes of it."""
    monkeypatch.setattr(inflow, "CAN_SHARE", shares)
    assert not wrong([GOT_STREAM, 1, 1, [2**42], header_sum(1, [2**42])])
    POOL.tidy(everything=True)


# -- chunks


class Peer:
    """One end, and what it makes of bytes."""

    def __init__(self, serves):
        self.store = {1: b"one"}
        self.results = []
        if serves:
            self.end = DataProtocol(None, self.store.get, self._put)
        else:
            self.end = DataProtocol(task.Clock())
        self.transport = Quick()
        self.end.makeConnection(self.transport)
        if not serves:
            for _ in range(2):
                self.end.get([1, 2, 3]).addBoth(self.results.append)

    def _put(self, ids, values):
        self.store.update(zip(ids, values))
        return 5

    def outcome(self):
        """All that can be seen."""
        lose(self.end)
        results = [content(each) for each in self.results if isinstance(each, dict)]
        # its probe differs from one end to the next
        sent = FrameDecoder().feed(self.transport.value())
        return content(self.store), results, [msgpack.unpackb(each)[:2] for each in sent]


def stream(kind, request, task_id, *buffers):
    """A value as it streams."""
    lengths = list(map(len, buffers))
    head = frame(msgpack.packb([kind, request, task_id, lengths, header_sum(task_id, lengths)]))
    return head + b"".join(each.ljust(-(-len(each) // 64) * 64, b"\0") for each in buffers)


def message(*fields):
    """Framed."""
    return frame(msgpack.packb(fields))


FLOWS = {
    True: message(HOST, os.getpid(), None, False)
    + stream(PUT_STREAM, 1, 7, b"seven" * 100, b"", b"x" * 64)
    + message(GET, 2, [1])
    + stream(PUT_STREAM, 1, 8, b"")
    + message(PUT, 1, [9], [b"nine"], True)
    + message(GET, 3, [7]),
    False: message(HOST, os.getpid(), None, False)
    + message(GOT, 1, [1], [b"one"], False)
    + stream(GOT_STREAM, 1, 2, b"two" * 30, b"")
    + message(GOT, 1, [3], [[b"three", b"buffer"]], True)
    + stream(GOT_STREAM, 2, 1, b"", b"")
    + message(GOT, 2, [], [], True),
}


def whole(serves):
    """What comes of all bytes at once."""
    peer = Peer(serves)
    peer.end.dataReceived(FLOWS[serves])
    return peer.outcome()


@examples(100)
@given(st.booleans(), st.lists(st.integers(1, 80), min_size=1, max_size=10))
def test_any_chunks(serves, sizes):
    """`DataProtocol` makes the same of a stream in any chunks."""
    peer = Peer(serves)
    rest = FLOWS[serves]
    for size in itertools.cycle(sizes):
        if not rest:
            break
        peer.end.dataReceived(rest[:size])
        rest = rest[size:]
    found = peer.outcome()
    assert found == whole(serves)
    values, results, sent = found
    if serves:
        assert values[7] == [b"seven" * 100, b"", b"x" * 64]
        assert values[8] == [b""]
        assert sent == [[HOST, os.getpid()], [GOT, 2], [STORED, 1], [GOT, 3]]
    else:
        assert results == [
            {1: [b"one"], 2: [b"two" * 30, b""], 3: [b"three", b"buffer"]},
            {1: [b"", b""]},
        ]


def test_without_shared_memory(monkeypatch):
    """Streams are kept in this process where nothing can be shared."""
    monkeypatch.setattr(inflow, "CAN_SHARE", False)
    peer = Peer(True)
    for start in range(0, len(FLOWS[True]), 50):
        peer.end.dataReceived(FLOWS[True][start : start + 50])
    assert not any(isinstance(each, Segment) for each in peer.store.values())
    assert peer.outcome()[0][7] == [b"seven" * 100, b"", b"x" * 64]
