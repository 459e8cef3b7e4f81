"""Data connections whose ends share memory, and those that stream what the other cannot read."""

import gc
import itertools
import os
import random

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.test.iosim import connect, connectedServerAndClient, makeFakeClient, makeFakeServer

from tests.support.fuzzing import examples, lose
from tests.support.sharing import nothing_left_open
from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import WORKER
from twisted_dist.errors import ConnectionClosedError, NoRoomError
from twisted_dist.execution.payloads import in_band, value_nbytes
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.pool import POOL
from twisted_dist.segments.probe import lend_probe
from twisted_dist.segments.segment import Segment, new_tag
from twisted_dist.wire import data as data_module
from twisted_dist.wire import inflow
from twisted_dist.wire.data import FRAMED_BYTES, DataProtocol
from twisted_dist.wire.data_messages import (
    GET,
    GOT,
    GOT_PLACED,
    GOT_STREAM,
    HOST,
    NOT_READ,
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
from twisted_dist.wire.tls import TLSProtocol, tls_context

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
LARGE = random.Random(1).randbytes(FRAMED_BYTES + 12345)


def segment(data=LARGE, *more):
    """A value in shared memory."""
    return POOL.write([data, *more])


def content(values):
    """Values as lists of buffers."""
    found = {each: in_band(value) for each, value in values.items()}
    return {each: v if isinstance(v, list) else [v] for each, v in found.items()}


class Link:
    """A serving and an asking end, introduced; *reads* says whether (asking, serving) can."""

    def __init__(self, monkeypatch, reads=(True, True), tls=False, **store):
        turns = iter(
            [reads[1], reads[0]]
        )  # the asking end speaks first, so the serving tries first
        real = data_module.can_read
        monkeypatch.setattr(
            data_module, "can_read", lambda pid, probe: next(turns) and real(pid, probe)
        )
        self.store = {int(key[1:]): value for key, value in store.items()}
        self.puts = []
        self.server = DataProtocol(None, self.store.get, self._put)
        self.clock = task.Clock()
        self.client = DataProtocol(self.clock)
        ends = [self.server, self.client]
        if tls:
            ends = self._secured(*ends)
        self._pump = connect(ends[0], makeFakeServer(ends[0]), ends[1], makeFakeClient(ends[1]))
        self.flush()
        self.heard = {}
        for end in (self.server, self.client):
            self.heard[end] = []
            self._watch(end)

    @staticmethod
    def _secured(server, client):
        credentials = Credential.make(WORKER), Credential.make(WORKER)
        contexts = [
            tls_context(own, [other.certificate], answers=answers)
            for own, other, answers in (
                (*credentials, True),
                (*credentials[::-1], False),
            )
        ]
        return (
            TLSProtocol(contexts[0], server, answers=True),
            TLSProtocol(contexts[1], client, answers=False),
        )

    def _watch(self, end):
        """Note the numbers of the messages that come."""
        real = end._inflow._received

        def received(payload):
            self.heard[end].append(msgpack.unpackb(payload)[0])
            real(payload)

        end._inflow._received = received

    def _put(self, ids, values):
        self.puts.append(ids)
        self.store.update(zip(ids, values))
        return 5

    def flush(self):
        """Move all bytes."""
        self._pump.flush()

    def get(self, *ids):
        """Fetch, to the end."""
        results = []
        self.client.get(ids).addBoth(results.append)
        self.flush()
        return results[0]

    def put(self, values):
        """Store, to the end."""
        results = []
        self.client.put(list(values), list(values.values())).addBoth(results.append)
        self.flush()
        return results[0]

    def is_at_rest(self):
        """Whether neither end owes, lends or awaits anything."""
        return (
            not any(
                end._requests
                or end._lent
                or end._coming
                or end._inflow._sink
                or end._outflow._queue
                for end in (self.server, self.client)
            )
            and not self.clock.getDelayedCalls()
        )


@pytest.fixture
def link(monkeypatch):
    """Makes one."""
    return lambda **given: Link(monkeypatch, **given)


BOTH, NEITHER = (True, True), (False, False)
secured = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@pytest.mark.parametrize("reads", [BOTH, NEITHER, (True, False), (False, True)])
def test_introduction(link, reads):
    """Both ends know who reads what before `DataProtocol.ready` fires."""
    made = link(reads=reads)
    assert made.client.ready.called
    assert (made.client._reads, made.server._reads) == reads
    assert made.client._is_read == made.server._reads
    assert made.server._is_read == made.client._reads
    assert made.client._peer == made.server._peer == os.getpid()


def test_where_nothing_can_be_shared(monkeypatch):
    """Ends that have no probe say so, and send everything."""
    monkeypatch.setattr(data_module, "lend_probe", lambda: None)
    made = Link(monkeypatch, v1=segment())
    assert made.client.ready.called
    assert content(made.get(1)) == {1: [LARGE]}
    assert made.heard[made.client] == [GOT_STREAM, GOT]


def test_lost_before_it_is_ready(monkeypatch):
    """`DataProtocol.ready` fails with the connection, and that is not logged if nobody asks."""
    client = DataProtocol(task.Clock())
    client.makeConnection(StringTransport())
    failures = []
    client.ready.addErrback(failures.append)
    lose(client)
    assert failures[0].check(ConnectionClosedError)


#: by who reads: what an answer and a put are
KINDS = {True: (GOT_PLACED, PUT_PLACED), False: (GOT_STREAM, PUT_STREAM)}


@secured
@pytest.mark.parametrize("can", [True, False], ids=["placed", "streamed"])
def test_get(link, can, tls):
    """`DataProtocol.get` brings what is shared, by its place or in full, and all else with it."""
    values = {
        "v1": segment(),
        "v2": b"small",
        "v3": segment(LARGE[:5], b"", LARGE[::-1], b"x"),
        "v4": [b"a pickle", b"buffer"],
        "v5": segment(b"s" * 100),
    }
    made = link(reads=(can, not can), tls=tls, **values)
    result = made.get(1, 2, 3, 4, 5, 6)
    assert content(result) == content(made.store)
    assert isinstance(result[1], Segment)
    kind = KINDS[can][0]
    assert set(made.heard[made.client]) == {kind, GOT}
    is_same = os.fstat(result[1].file.fd).st_ino == os.fstat(made.store[1].file.fd).st_ino
    assert is_same is can
    assert made.is_at_rest()


@secured
@pytest.mark.parametrize("can", [True, False], ids=["placed", "streamed"])
def test_put(link, can, tls):
    """`DataProtocol.put` stores what is shared, by its place or in full, all or nothing."""
    values = {1: segment(), 2: b"small", 3: segment(b"", LARGE[::-1]), 4: [b"a", b"b"]}
    made = link(reads=(not can, can), tls=tls)
    assert made.put(values) == 5
    assert [sorted(each) for each in made.puts] == [[1, 2, 3, 4]]
    assert content(made.store) == content(values)
    assert set(made.heard[made.server]) == {KINDS[can][1], PUT}
    assert made.is_at_rest()


def test_lent_until_it_is_taken(link):
    """What an end has placed stays open there until the other end has it open."""
    made = link(v1=segment())
    made.client.get([1])
    made.server.dataReceived(made.client.transport.getOutBuffer())
    made.store.clear()
    gc.collect()
    assert made.server._lent
    made.flush()
    assert not made.server._lent
    assert made.heard[made.server] == [GET, TAKEN]


def test_a_get_that_cannot_be_read(link, monkeypatch):
    """`DataProtocol.get` asks again for what it could not open; then all is sent."""
    made = link(v1=segment(), v2=segment(LARGE[::-1]), v3=b"small")
    real = data_module.opened

    def opened(pid, place):
        if place == made.store[2].place():
            raise OSError("too many open files")
        return real(pid, place)

    monkeypatch.setattr(data_module, "opened", opened)
    assert content(made.get(1, 2, 3)) == content(made.store)
    assert made.heard[made.client] == [GOT_PLACED, GOT, GOT_STREAM, GOT]
    assert content(made.get(1)) == {1: [LARGE]}
    assert made.is_at_rest()


def test_a_put_that_cannot_be_read(link, monkeypatch):
    """`DataProtocol.put` sends all where the other end could not open something."""
    made = link()

    def opened(pid, place):
        raise OSError("too many open files")

    monkeypatch.setattr(data_module, "opened", opened)
    values = {1: segment(), 2: b"small"}
    assert made.put(values) == 5
    assert made.heard[made.server] == [PUT_PLACED, PUT, PUT_STREAM, PUT]
    assert made.heard[made.client] == [STORED, STORED]
    assert content(made.store) == content(values)
    assert len(made.puts) == 1
    assert made.is_at_rest()


@pytest.mark.parametrize("lie", ["tag", "descriptor", "lengths"])
def test_a_peer_that_lies(link, monkeypatch, lie):
    """Whoever says that a value is where it is not has to send it."""
    made = link(v1=segment())
    fd, start, tag, lengths = made.store[1].place()
    lies = {
        "tag": [fd, start, new_tag(), lengths],
        "descriptor": [0, start, tag, lengths],
        "lengths": [fd, start, tag, [2**61]],
    }
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "place", lambda self: lies[lie])
        assert content(made.get(1)) == {1: [LARGE]}
    assert made.heard[made.client] == [GOT_PLACED, GOT, GOT_STREAM, GOT]


def test_places_without_an_introduction():
    """A place from an end that has not proven to be here is not looked at."""
    store = {}
    server = DataProtocol(None, store.get, lambda ids, values: store.update(zip(ids, values)) or 5)
    transport = StringTransport()
    server.makeConnection(transport)
    value = segment()
    messages = [[PUT_PLACED, 1, [7], [value.place()]], [PUT, 1, [], [], True]]
    for each in (*messages, [HOST, os.getpid(), None, True], *messages):
        server.dataReceived(frame(msgpack.packb(each)))
    answers = [msgpack.unpackb(each) for each in FrameDecoder().feed(transport.value())]
    assert [each[0] for each in answers] == [STORED, HOST, STORED]
    assert answers[0] == answers[2] == [STORED, 1, NOT_READ]
    assert not store


def no_room(lengths):
    """Instead of `POOL.begin`."""
    raise OSError(28, "no room")


def test_no_room_for_what_is_fetched(link, monkeypatch):
    """`DataProtocol.get` leaves out what could not be kept here, and brings the rest."""
    made = link(reads=NEITHER, v1=segment(), v2=b"small")
    with monkeypatch.context() as patch:
        patch.setattr(inflow.POOL, "begin", no_room)
        assert content(made.get(1, 2)) == {2: [b"small"]}
    assert content(made.get(1)) == {1: [LARGE]}
    assert made.is_at_rest()


def test_no_room_in_the_middle(link, monkeypatch):
    """A value that cannot be written on is let go of; what follows it is understood."""
    made = link(reads=NEITHER, v1=segment(), v2=segment(LARGE[::-1]))
    turns = itertools.count()
    real = inflow.Writing.write

    def write(self, offset, data):
        if next(turns) == 1:
            raise OSError(28, "no room")
        real(self, offset, data)

    monkeypatch.setattr(inflow.Writing, "write", write)
    assert content(made.get(1, 2)) == {2: [LARGE[::-1]]}


@pytest.mark.parametrize("reads", [BOTH, NEITHER])
def test_no_room_for_what_is_put(link, monkeypatch, reads):
    """`DataProtocol.put` fails where the other end cannot keep it however it comes."""
    made = link(reads=reads)
    values = {1: segment(), 2: b"small"}
    monkeypatch.setattr(inflow.POOL, "begin", no_room)
    if reads is BOTH:
        monkeypatch.setattr(data_module, "opened", no_room_to_open)
    assert made.put(values).check(NoRoomError)
    assert not made.store
    assert made.put({2: b"small"}) == 5
    assert made.is_at_rest()


def no_room_to_open(pid, place):
    """Instead of `opened`."""
    raise OSError(24, "too many open files")


def test_a_value_that_cannot_be_read_here(link, monkeypatch):
    """A value whose disk fails before it is begun is left out; later, it ends the connection."""
    made = link(reads=NEITHER, v1=segment(b"s" * 100), v2=b"small")

    def broken(self, offset, size):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "read", broken)
        assert content(made.get(1, 2)) == {2: [b"small"]}


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


class Slow(StringTransport):
    """Takes what it is given, and asks for more when it is told to."""

    def registerProducer(self, producer, streaming):
        """As a connection does."""
        super().registerProducer(producer, streaming)
        producer.resumeProducing()


class Quick(Slow):
    """Takes everything."""

    def registerProducer(self, producer, streaming):
        """As a connection that is never full."""
        super().registerProducer(producer, streaming)
        while self.producer is not None:
            self.producer.resumeProducing()


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


def test_iosim_link_over_defaults():
    """Two ends in one process read each other's memory without anything patched."""
    value = segment()
    client, _server, pump = connectedServerAndClient(
        lambda: DataProtocol(None, {1: value}.get), lambda: DataProtocol(task.Clock())
    )
    pump.flush()
    assert lend_probe() is not None
    results = []
    client.get([1]).addCallback(results.append)
    pump.flush()
    assert os.fstat(results[0][1].file.fd).st_ino == os.fstat(value.file.fd).st_ino
    assert value_nbytes(results[0][1]) == len(LARGE)
