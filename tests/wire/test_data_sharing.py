"""Data connections whose ends share memory, and those that stream what the other cannot read."""

import gc
import itertools
import os

import msgpack
import pytest
from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.test.iosim import connectedServerAndClient

from tests.support.datalink import LARGE, Link, content, segment
from tests.support.fuzzing import lose
from twisted_dist.errors import ConnectionClosedError, NoRoomError
from twisted_dist.execution.payloads import value_nbytes
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.probe import lend_probe
from twisted_dist.segments.segment import Segment, new_tag
from twisted_dist.wire import data as data_module
from twisted_dist.wire import inflow
from twisted_dist.wire.data import DataProtocol
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
    STORED,
    TAKEN,
)
from twisted_dist.wire.frames import FrameDecoder, frame

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")


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
