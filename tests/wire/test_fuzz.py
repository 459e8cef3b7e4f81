"""Arbitrary bytes, in arbitrary chunks, into AMP's ends: nothing raises, nothing is left."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer, task
from twisted.internet.testing import StringTransport
from twisted.protocols import amp
from twisted.python.failure import Failure

from tests.support.fuzzing import (
    HELLO,
    NEVER,
    NOTHING,
    VALID,
    ask,
    box,
    control,
    cut,
    examples,
    feed,
    holds,
    lose,
    nothing_fails,
    plain_factory,
    stop,
    words,
)
from tests.support.registering import expire, silent_scheduler
from twisted_dist.core import invariants
from twisted_dist.errors import ConnectError, TwistedDistError
from twisted_dist.services.worker import Worker
from twisted_dist.wire import commands
from twisted_dist.wire.control import MAX_EARLY_BYTES
from twisted_dist.wire.dial import Dialled

# -- control


@examples(200)
@given(control)
def test_strangers_bytes(chunks):
    """`ControlProtocol.dataReceived` takes any bytes before a hello, and leaves no timer."""
    clock = task.Clock()
    holds(plain_factory(clock), chunks)
    assert not clock.getDelayedCalls()


@examples(200)
@given(control)
def test_bytes_after_hello(chunks):
    """`ControlProtocol.dataReceived` takes any bytes after a hello."""
    clock = task.Clock()
    holds(plain_factory(clock), chunks, [HELLO])
    assert not clock.getDelayedCalls()


@examples(100)
@given(control)
def test_bytes_to_a_scheduler(chunks):
    """`Scheduler` stays sound and forgets the peer, whatever comes after a hello."""
    scheduler_hears(chunks)


def scheduler_hears(chunks):
    """Bytes to a scheduler of its own, after a hello; what has to hold then."""
    clock = task.Clock()
    scheduler = silent_scheduler(clock)
    holds(scheduler._factory, chunks, [HELLO])
    invariants.check(scheduler.core.state)
    expire(clock)
    invariants.check(scheduler.core.state)
    assert not scheduler._members.clients
    assert not scheduler._members.workers
    assert not scheduler.core.state.clients
    assert not scheduler.core.state.workers
    stop(scheduler, clock)


@examples(100)
@given(control)
def test_bytes_to_a_worker(chunks):
    """`Worker` forgets the peer, whatever comes after a hello."""
    clock = task.Clock()
    worker = Worker("127.0.0.1:1", reactor=clock, host="127.0.0.1", nthreads=1, insecure=True)
    holds(worker._factory, chunks, [HELLO])
    stop(worker, clock)


#: what AMP itself raises or logs something for; each was found by the tests above
NO_QUESTION = {
    "an empty box": b"\0\0",
    "a box without a command": box(x=b"y"),
    "an answer": box(_answer=b"1"),
    "an error": box(_error=b"1"),
    "an error with its words": box(_error=b"1", _error_code=b"X", _error_description=b"x"),
    "an answer and a question": box(_answer=b"1", _ask=b"1", _command=b"Hello"),
}
BAD_QUESTION = {
    "a hello without arguments": ask(commands.Hello),
    "a hello without numbers": ask(
        commands.Hello, oldest=b"x", newest=b"2", role=b"x", software=b"0"
    ),
    "a hello of many digits": ask(
        commands.Hello, oldest=b"3", newest=b"9" * 2000, role=b"x", software=b"0"
    ),
    "a hello that is not text": ask(
        commands.Hello, oldest=b"3", newest=b"3", role=b"\xff", software=b"0"
    ),
    "a hello that wants no answer": HELLO.replace(b"\0\4_ask\0\x011", b""),
    "an unknown command": box(_ask=b"1", _command=b"StartTLS"),
    "an unknown command that wants no answer": box(_command=b"StartTLS"),
    "a command that wants no answer": box(_command=b"Identity"),
}
BAD_LATER = {
    "a long unknown command": box(_ask=b"1", _command=b"x" * 65535),
    "an argument left out": ask(commands.Query, what=b"info"),
    "an argument that is no msgpack": ask(commands.Query, what=b"info", arguments=b"\xc1"),
    "an argument of two values": ask(commands.Query, what=b"info", arguments=NOTHING * 2),
    "an empty argument": ask(commands.Query, what=b"info", arguments=b""),
    "an unknown view of a long name": ask(commands.Query, what=b"x" * 65535, arguments=NOTHING),
    "ids that are none": ask(commands.Query, what=b"who_has", arguments=msgpack.packb(5)),
    "ids that are lists": ask(commands.Query, what=b"who_has", arguments=msgpack.packb([[1]])),
    "a name that is not text": ask(commands.RegisterClient, name=b"\xff"),
    "a client that wants no answer": box(
        _command=b"RegisterClient", name=b"c", index=b"0", **NEVER
    ),
    "a worker that wants no answer": box(
        _command=b"RegisterWorker",
        name=b"w",
        address=b"h:1",
        nthreads=b"1",
        resources=b"\x80",
        **NEVER,
    ),
    "a worker without threads that wants no answer": box(
        _command=b"RegisterWorker",
        name=b"w",
        address=b"h:1",
        nthreads=b"0",
        resources=b"\x80",
        **NEVER,
    ),
}


@pytest.mark.parametrize("what", [*NO_QUESTION, *BAD_QUESTION])
def test_bad_first_box(what):
    """`ControlProtocol.dataReceived` refuses a bad first box, without an error in the log."""
    clock = task.Clock()
    holds(plain_factory(clock), [{**NO_QUESTION, **BAD_QUESTION}[what]])
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("what", [*NO_QUESTION, *BAD_QUESTION, *BAD_LATER])
def test_bad_later_box(what):
    """`Scheduler` refuses a bad box after a hello, and registers nobody for it."""
    data = {**NO_QUESTION, **BAD_QUESTION, **BAD_LATER}[what]
    scheduler_hears([data])


@pytest.mark.parametrize("what", NO_QUESTION)
def test_bad_answer(what):
    """`Dialled.dataReceived` ends a connection on which answers come that were not asked for."""
    dialled_hears([NO_QUESTION[what].replace(b"\x011", b"\x017")])


@given(st.lists(st.tuples(words, st.binary(min_size=1, max_size=900)), min_size=20), st.data())
def test_a_strangers_bytes_are_bounded(pairs, data):
    """`ControlProtocol` ends a connection whose first box does not end, by its bound."""
    clock = task.Clock()
    factory = plain_factory(clock)
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    endless = b"".join(amp.Box([pair]).serialize()[:-2] for pair in pairs)
    endless += VALID["query"][:-2] * (MAX_EARLY_BYTES // len(VALID["query"]) + 1)
    told = 0
    for chunk in data.draw(cut(st.just(endless))):
        assert transport.disconnected == (told > MAX_EARLY_BYTES)
        if transport.disconnected:
            break
        protocol.dataReceived(chunk)
        told += len(chunk)
    assert transport.disconnected
    assert len(protocol._unprocessed) <= MAX_EARLY_BYTES
    lose(protocol)
    assert not clock.getDelayedCalls()


@examples(100)
@given(control)
def test_bytes_to_who_dialled(chunks):
    """`Dialled` takes any bytes as an answer, and whoever waits is told."""
    dialled_hears(chunks)


def dialled_hears(chunks):
    """Bytes to who has asked; what has to hold then."""
    clock = task.Clock()
    protocol = Dialled(clock, tls=False)
    transport = StringTransport()
    with nothing_fails():
        protocol.makeConnection(transport)
        answer = defer.Deferred.fromCoroutine(protocol.ask(commands.Ping, 5))
        outcomes = []
        answer.addBoth(outcomes.append)
        feed(protocol, transport, chunks)
        lose(protocol)
    assert len(outcomes) == 1
    if isinstance(outcomes[0], Failure):
        assert outcomes[0].check(TwistedDistError)
    assert not clock.getDelayedCalls()


some_parts = st.dictionaries(
    st.sampled_from([b"result", b"result.1", b"result.2", b"result.01", b"result."]),
    st.binary(max_size=20) | st.sampled_from([b"x" * 65535, b"\xdf\xff\xff\xff\xff", NOTHING]),
)


@examples(100)
@given(some_parts)
def test_chunked_answers(strings):
    """`Chunked` parts of an answer, however many and of whatever, are a value or a ConnectError."""
    clock = task.Clock()
    protocol = Dialled(clock, tls=False)
    outcomes = []
    with nothing_fails():
        protocol.makeConnection(StringTransport())
        answer = defer.Deferred.fromCoroutine(protocol.ask(commands.Ping, 5))
        answer.addBoth(outcomes.append)
        protocol.dataReceived(amp.Box({b"_answer": b"1", **strings}).serialize())
        lose(protocol)
    assert len(outcomes) == 1
    if isinstance(outcomes[0], Failure):
        assert outcomes[0].check(ConnectError)
    assert not clock.getDelayedCalls()


@examples(100)
@given(some_parts)
def test_chunked_arguments(strings):
    """`Chunked` parts of a question, however many and of whatever, are answered or refused."""
    named = {key.replace(b"result", b"arguments"): value for key, value in strings.items()}
    query = dict(amp.parseString(VALID["query"])[0])
    asked = amp.Box({**query, b"arguments": b"", **named}).serialize()
    transport = holds(plain_factory(task.Clock()), [asked], [HELLO])
    assert transport.disconnecting or len(amp.parseString(transport.value())) == 2
