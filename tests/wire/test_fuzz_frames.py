"""Arbitrary bytes into frames, task streams and data connections: nothing raises."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.support.fuzzing import (
    FROM_CLIENT,
    FROM_WORKER,
    TO_A_STORE,
    TO_WHO_ASKED,
    cut,
    examples,
    feed,
    joined,
    lose,
    mutated,
    nothing_fails,
    stop,
)
from tests.support.registering import expire, register_client, register_worker, silent_scheduler
from twisted_dist.core import invariants
from twisted_dist.errors import ConnectionClosedError, ProtocolError
from twisted_dist.segments.pool import POOL
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.data_messages import GOT
from twisted_dist.wire.frames import FrameDecoder, frame

# -- frames


def frames_of(valid):
    """Streams of frames: any bytes, any payloads, and valid ones with changes."""
    return cut(
        st.binary(max_size=300)
        | joined(st.binary(max_size=60).map(frame))
        | mutated(st.just(valid))
    )


@examples(200)
@given(frames_of(FROM_CLIENT), st.sampled_from([10, 1000, 2**24]))
def test_bytes_to_a_decoder(chunks, bound):
    """`FrameDecoder.feed` gives what was framed, refuses what is too long, and keeps no more."""
    decoder = FrameDecoder(bound)
    seen = b""
    payloads = []
    try:
        for chunk in chunks:
            seen += chunk
            payloads += decoder.feed(chunk)
            assert len(decoder._buffer) < 4 + bound
    except ProtocolError:
        return
    whole = b"".join(map(frame, payloads))
    assert seen == whole + decoder._buffer


@examples(200)
@given(st.sampled_from(["client", "worker"]), st.data())
def test_bytes_to_a_stream(peer, data):
    """`StreamProtocol.dataReceived` takes any bytes, and `Scheduler` stays sound."""
    clock = task.Clock()
    scheduler = silent_scheduler(clock)
    with nothing_fails():
        streams = {
            "client": register_client(scheduler, "c"),
            "worker": register_worker(scheduler, "h:1"),
        }
        for each in streams.values():
            each.makeConnection(StringTransport())
        streams["client"].dataReceived(FROM_CLIENT[: len(FROM_CLIENT) // 2])
        stream = register_client(scheduler, "d") if peer == "client" else streams["worker"]
        transport = StringTransport()
        stream.makeConnection(transport)
        valid = FROM_CLIENT if peer == "client" else FROM_WORKER
        feed(stream, transport, data.draw(frames_of(valid)))
        invariants.check(scheduler.core.state)
        for each in {*streams.values(), stream}:
            lose(each)
    expire(clock)
    invariants.check(scheduler.core.state)
    assert not scheduler.core.state.clients
    assert not scheduler.core.state.tasks
    stop(scheduler, clock)


def data_of(parts):
    """As `frames_of`; also the parts in any order, and some of them changed."""
    part = st.sampled_from(parts)
    return frames_of(b"".join(parts)) | cut(joined(part | mutated(part), most=12))


@examples(300)
@given(st.data(), st.booleans())
def test_bytes_to_a_data_connection(data, serves):
    """`DataProtocol.dataReceived` takes any bytes; what it owes or is owed ends with it."""
    clock = task.Clock()
    store = {1: b"one", 2: [b"two", b"buffer"], 3: POOL.write([b"three", b"x" * 2000])}
    transport = StringTransport()
    outcomes = []
    with nothing_fails():
        if serves:
            protocol = DataProtocol(
                None, store.get, lambda ids, values: store.update(zip(ids, values)) or 0
            )
            protocol.makeConnection(transport)
        else:
            protocol = DataProtocol(clock)
            protocol.makeConnection(transport)
            protocol.get([1, 2]).addBoth(outcomes.append)
            protocol.put([7, 8], [b"seven", store[3]]).addBoth(outcomes.append)
            protocol.ready.addErrback(lambda failure: failure.trap(ConnectionClosedError))
        feed(protocol, transport, data.draw(data_of(TO_A_STORE if serves else TO_WHO_ASKED)))
        lose(protocol)
    assert len(outcomes) == (0 if serves else 2)
    assert all(isinstance(each, (dict, int, Failure)) for each in outcomes)
    assert not protocol._lent
    assert not protocol._coming
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("serves", [True, False])
def test_what_is_fuzzed_is_understood(serves):
    """The parts that the test above changes are valid as they are, and do something."""
    store = {1: b"one", 2: [b"two", b"buffer"]}
    transport = StringTransport()
    answers = []
    if serves:
        protocol = DataProtocol(
            None, store.get, lambda ids, values: store.update(zip(ids, values)) or 0
        )
        protocol.makeConnection(transport)
    else:
        protocol = DataProtocol(task.Clock())
        protocol.makeConnection(transport)
        protocol.get([1, 2, 3]).addCallback(answers.append)
        protocol.put([7], [b"seven"]).addCallback(answers.append)
    for each in TO_A_STORE if serves else TO_WHO_ASKED:
        protocol.dataReceived(each)
        assert not transport.disconnected, each
        if transport.producer is not None:
            transport.producer.resumeProducing()
    if serves:
        assert sorted(store) == [1, 2, 5, 7, 8]
        assert store[5].buffers() == [b"five" * 30, b"", b"buffer"]
        assert list(protocol._coming) == [4]
    else:
        assert answers == [0]  # of the other, a part is asked for again
        protocol.dataReceived(frame(msgpack.packb([GOT, 1, [3], [b"three"], True])))
        assert answers[1] == {1: b"one", 2: b"two", 3: b"three"}
    lose(protocol)
