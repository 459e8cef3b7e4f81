"""Arbitrary bytes, in arbitrary chunks, into whatever listens: nothing raises, nothing is left.

Random bytes are seldom a message, so there are three kinds of input: any bytes; messages that
are well formed and make no sense; and valid ones with some bytes flipped, put in or taken out.
What is asserted is the same throughout (`holds`).

``TWISTED_DIST_FUZZ=100`` in the environment gives each test a hundred times its examples.
"""

import contextlib
import gc
import os
import ssl
import weakref
from itertools import cycle

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer, task
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols import amp
from twisted.python.failure import Failure

from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import MAY_LOOK, MAY_MOVE_DATA
from twisted_dist.core import invariants
from twisted_dist.errors import ConnectError, ProtocolError, TwistedDistError
from twisted_dist.services.scheduler import Scheduler
from twisted_dist.services.worker import Worker
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import MAX_EARLY_BYTES, ControlFactory, Responder
from twisted_dist.wire.data import GET, GOT, PUT, STORED, DataProtocol
from twisted_dist.wire.dial import Dialled
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.membership import Insecure
from twisted_dist.wire.tls import TLSProtocol, tls_context

TIMES = float(os.environ.get("TWISTED_DIST_FUZZ", "1"))


def examples(count):
    """Settings of a test with *count* examples."""
    return settings(max_examples=int(count * TIMES), deadline=None)


# -- inputs


def box(**strings):
    """One AMP box, as bytes."""
    return amp.Box({key.encode(): value for key, value in strings.items()}).serialize()


def ask(command, **strings):
    """A box that asks for *command*."""
    return box(_ask=b"1", _command=command.commandName, **strings)


HELLO = ask(commands.Hello, oldest=b"1", newest=b"1", role=b"fuzz", software=b"0")
NOTHING = msgpack.packb(None)
VALID = {
    "hello": HELLO,
    "ping": ask(commands.Ping),
    "identity": ask(commands.Identity),
    "query": ask(commands.Query, what=b"who_has", arguments=NOTHING),
    "terminate": ask(commands.Terminate),
    "client": ask(commands.RegisterClient, name=b"c"),
    "worker": ask(commands.RegisterWorker, name=b"w", address=b"h:1", nthreads=b"1"),
    "data": ask(commands.OpenData, name=b"d"),
}
DIGEST = b"d" * 16
FIRST = 1 << 40
FROM_CLIENT = b"".join(
    map(
        frame,
        [
            schema.FUNCTION.pack(DIGEST, "f", b"pickle"),
            schema.SUBMIT.pack(FIRST, DIGEST, [b"a", b"b"], [], [], False, "", 0, 0),
            schema.SUBMIT.pack(FIRST + 2, DIGEST, [b"c"], [[FIRST]], ["h:1"], True, "k", 1, 1),
            schema.SCATTERED.pack([FIRST + 9], [1], "h:1"),
            schema.LOCATE.pack(1, [FIRST, FIRST + 9]),
            schema.QUERY.pack(2, "info", None),
            schema.CANCEL.pack([FIRST + 1]),
            schema.RELEASE.pack([FIRST]),
        ],
    )
)
FROM_WORKER = b"".join(
    map(
        frame,
        [
            schema.HEARTBEAT.pack({"rss": 1, "held": 0}),
            schema.DONE.pack([FIRST], [1], [4], [10], [b"four"]),
            schema.FAILED.pack([FIRST], [1], [b"error"], ["text"]),
            schema.RETURNED.pack([FIRST], [1]),
            schema.KILLED.pack([FIRST], [1], ["text"]),
            schema.MISSING.pack([FIRST], [1], [FIRST], ["h:1"]),
            schema.COPIES.pack([FIRST]),
        ],
    )
)
DATA = b"".join(
    frame(msgpack.packb(each))
    for each in (
        [GET, 1, [1, 2, 3]],
        [PUT, 2, [7, 8], [b"seven", [b"eight", b"buffer"]]],
        [GOT, 1, [1], [b"one"], False],
        [GOT, 1, [2], [b"two"], True],
        [STORED, 2, 0],
    )
)

COMMANDS = [amp.parseString(each)[0] for each in VALID.values()]
WORDS = [
    *(b"_ask", b"_command", b"_answer", b"_error", b"_error_code", b"_error_description"),
    *(b"oldest", b"newest", b"role", b"software", b"what", b"arguments", b"arguments.1"),
    *(b"name", b"address", b"nthreads", b"result"),
]
words = st.sampled_from(WORDS) | st.binary(min_size=1, max_size=255)
values = (
    st.sampled_from([b"", b"0", b"1", b"-1", b"2", b"9" * 5000, b"\xff", b"h:1", b"info"])
    | st.sampled_from([b"who_has", NOTHING, msgpack.packb([[1]]), msgpack.packb(5), b"\xc1"])
    | st.sampled_from([b"StartTLS", *(each[b"_command"] for each in COMMANDS), *WORDS])
    | st.sampled_from([b"x" * 65535, b"\xff" * 65535])
    | st.binary(max_size=20)
)


@st.composite
def boxes(draw):
    """A box: of one of our commands, with some of its strings changed, or of anything."""
    strings = dict(draw(st.sampled_from(COMMANDS)) if draw(st.integers(0, 3)) else {})
    for key in draw(st.lists(words, max_size=3)):
        if draw(st.booleans()):
            strings.pop(key, None)
        else:
            strings[key] = draw(values)
    return amp.Box(strings).serialize()


@st.composite
def mutated(draw, valid):
    """Valid bytes with some flipped, put in, taken out or sent twice."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([1, 1, 1, 2, 5, 50]))
        how = draw(st.integers(0, 3))
        if how == 0 and place < len(data):
            data[place] ^= draw(st.integers(1, 255))
        elif how == 1:
            data[place:place] = draw(st.binary(min_size=1, max_size=length))
        elif how == 2:
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length]
    return bytes(data)


@st.composite
def cut(draw, streams):
    """Chunks of a stream, none of them empty, as transports deliver."""
    data = draw(streams)
    least = 1 + len(data) // 300  # long values in single bytes take a second
    sizes = cycle(draw(st.lists(st.integers(least, least + 300), min_size=1, max_size=5)))
    if draw(st.booleans()):
        return [data] if data else []
    chunks = []
    while data:
        size = next(sizes)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


def joined(parts, most=6):
    """Several parts as one stream."""
    return st.lists(parts, max_size=most).map(b"".join)


some = st.sampled_from(list(VALID.values()))
control = cut(
    st.binary(max_size=400) | joined(boxes()) | mutated(some) | joined(boxes() | mutated(some))
)


# -- what holds whatever comes


@contextlib.contextmanager
def nothing_fails():
    """Fails where a failure is logged.

    trial's ``flushLoggedErrors`` belongs to its own TestCase, and Hypothesis runs a function
    many times: so an observer of our own, for each run.
    """
    logged = []

    def observe(event):
        if event.get("log_failure") is not None:
            logged.append(event["log_failure"].getTraceback())

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not logged, logged[0]


def feed(protocol, transport, chunks):
    """Deliver as a transport does, which reads nothing more once it is to close."""
    for chunk in chunks:
        if transport.disconnecting:
            return
        protocol.dataReceived(chunk)


def lose(protocol):
    """The connection ends."""
    protocol.connectionLost(Failure(ConnectionDone()))


def holds(factory, chunks, before=()):
    """Bytes to an accepted connection: nothing raises or is logged, and nothing is left of it.

    Args:
        factory: accepts the connection.
        chunks: the bytes.
        before: chunks that go before them, and are understood.

    Returns:
        The connection's transport.
    """
    with nothing_fails():
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        feed(protocol, transport, before)
        assert not transport.disconnecting
        feed(protocol, transport, chunks)
        lose(protocol)
    assert not factory.connections
    return transport


def plain_factory(clock):
    """A daemon's factory with little behind it."""
    responders = {
        commands.Ping: Responder(lambda proto: {"result": "pong"}, MAY_LOOK),
        commands.Query: Responder(
            lambda proto, what, arguments: {"result": [what, arguments]}, MAY_LOOK
        ),
        commands.OpenData: Responder(
            lambda proto, name: DataProtocol(None, {}.get, lambda ids, values: None),
            MAY_MOVE_DATA,
        ),
    }
    return ControlFactory("worker", responders, clock, Insecure())


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
    scheduler = Scheduler(reactor=clock, host="127.0.0.1", insecure=True)
    holds(scheduler._factory, chunks, [HELLO])
    invariants.check(scheduler.core.state)
    assert not scheduler._clients
    assert not scheduler._workers
    assert not scheduler.core.state.clients
    assert not scheduler.core.state.workers
    _stop(scheduler, clock)


@examples(100)
@given(control)
def test_bytes_to_a_worker(chunks):
    """`Worker` forgets the peer, whatever comes after a hello."""
    clock = task.Clock()
    worker = Worker("127.0.0.1:1", reactor=clock, host="127.0.0.1", nthreads=1, insecure=True)
    holds(worker._factory, chunks, [HELLO])
    _stop(worker, clock)


def _stop(service, clock):
    """A service ends, and leaves no timer."""
    stopped = service.stop()
    clock.advance(1)  # what `Terminate` has set
    assert stopped.called
    assert not clock.getDelayedCalls()


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
        commands.Hello, oldest=b"x", newest=b"1", role=b"x", software=b"0"
    ),
    "a hello of many digits": ask(
        commands.Hello, oldest=b"1", newest=b"9" * 2000, role=b"x", software=b"0"
    ),
    "a hello that is not text": ask(
        commands.Hello, oldest=b"1", newest=b"1", role=b"\xff", software=b"0"
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
    "a client that wants no answer": box(_command=b"RegisterClient", name=b"c"),
    "a worker that wants no answer": box(
        _command=b"RegisterWorker", name=b"w", address=b"h:1", nthreads=b"1"
    ),
    "a worker without threads that wants no answer": box(
        _command=b"RegisterWorker", name=b"w", address=b"h:1", nthreads=b"0"
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


# -- TLS

SERVER, MEMBER = Credential("scheduler", b"s" * 32), Credential("admin", b"m" * 32)
ANSWERING = tls_context(SERVER, [MEMBER.certificate], answers=True)
DIALLING = tls_context(MEMBER, [SERVER.certificate], answers=False)


class TLSFactoryOf:
    """As `tls.TLSFactory`, and shows the factory's connections."""

    def __init__(self, factory):
        self._factory = factory
        self.connections = factory.connections

    def buildProtocol(self, addr):
        """One more connection."""
        return TLSProtocol(ANSWERING, self._factory.buildProtocol(addr), answers=True)


def first_flight():
    """What whoever dials sends first: a ClientHello."""
    transport = StringTransport()
    TLSProtocol(DIALLING, amp.AMP(), answers=False).makeConnection(transport)
    return transport.value()


CLIENT_HELLO = first_flight()
tls_bytes = cut(
    st.binary(max_size=400)
    | st.binary(max_size=50).map(lambda rest: b"\x16\x03\x01" + rest)
    | mutated(st.just(CLIENT_HELLO))
)


@examples(150)
@given(tls_bytes)
def test_bytes_instead_of_a_handshake(chunks):
    """`TLSProtocol.dataReceived` takes any bytes, and the hello's timer goes with it."""
    clock = task.Clock()
    holds(TLSFactoryOf(plain_factory(clock)), chunks)
    assert not clock.getDelayedCalls()


def shaken():
    """A server's TLSProtocol, its transport and clock, and a member's TLS, hands shaken."""
    clock = task.Clock()
    factory = plain_factory(clock)
    server = TLSFactoryOf(factory).buildProtocol(None)
    client = TLSProtocol(DIALLING, amp.AMP(), answers=False)
    ends = StringTransport(), StringTransport()
    client.makeConnection(ends[1])
    server.makeConnection(ends[0])
    while ends[0].value() or ends[1].value():
        for protocol, _, there in ((server, *ends), (client, *reversed(ends))):
            data = there.value()
            there.clear()
            if data:
                protocol.dataReceived(data)
    return server, client, ends, factory, clock


@examples(80)
@given(control, st.booleans(), st.data())
def test_a_members_bytes(chunks, hello, data):
    """`TLSProtocol.dataReceived` takes what a member sends, and what is made of it on its way."""
    server, client, (here, there), factory, clock = shaken()
    with nothing_fails():
        if hello:
            chunks = [HELLO, *chunks]
        for chunk in chunks:
            client.write(chunk)
        if data.draw(st.booleans()):
            client.loseConnection()
        wire = there.value()
        if data.draw(st.booleans()):
            wire = data.draw(mutated(st.just(wire)))
        feed(server, here, data.draw(cut(st.just(wire))))
        lose(server)
    assert not factory.connections
    assert not clock.getDelayedCalls()


def test_members_farewell():
    """`TLSProtocol.dataReceived` ends the connection when the other side has said farewell."""
    server, client, (here, there), factory, clock = shaken()
    client.write(HELLO)
    with contextlib.suppress(ssl.SSLError):  # it would wait for the other side's
        client._tls.unwrap()
    wire = there.value() + client._outgoing.read()
    server.dataReceived(wire)
    assert here.disconnecting
    lose(server)
    assert not factory.connections
    assert not clock.getDelayedCalls()


# -- what a lost connection leaves behind

LOST = {
    "half a message": [HELLO, box(key=b"v" * 60_000)[:-2] + b"\0\1k\xff\xff" + b"v" * 60_000],
    "a refused message": [HELLO, b"\xff" * 1000],
    "half a frame": [HELLO, VALID["data"], frame(bytes(60_000))[:-1]],
}


@pytest.fixture
def _uncollected():
    """The collector runs late in daemons (`cli.daemon.tune_collector`); here, never."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("what", LOST)
@pytest.mark.parametrize("secure", [False, True])
def test_a_lost_connection_is_gone(what, secure):
    """`ControlProtocol` and its buffers are freed with their connection, not by the collector."""
    clock = task.Clock()
    if secure:
        server, client, (here, there), factory, _ = shaken()
        chunks = []
        for each in LOST[what]:
            there.clear()
            client.write(each)
            chunks.append(there.value())
    else:
        factory = plain_factory(clock)
        server, here = factory.buildProtocol(None), StringTransport()
        server.makeConnection(here)
        chunks = LOST[what]
    (control,) = factory.connections
    feed(server, here, chunks)
    assert control.greeted
    left = [weakref.ref(each) for each in (server, control, control.innerProtocol) if each]
    lose(server)
    del server, control
    assert [each() for each in left] == [None] * len(left)


@pytest.mark.usefixtures("_uncollected")
def test_a_lost_answer_is_gone():
    """`Dialled`, and what it has switched to, are freed with their connection."""
    protocol, transport = Dialled(task.Clock(), tls=False), StringTransport()
    protocol.makeConnection(transport)
    data = DataProtocol()
    defer.Deferred.fromCoroutine(protocol.switch(commands.OpenData, data, 5, name="d"))
    feed(protocol, transport, [box(_answer=b"1"), frame(bytes(60_000))[:-1]])
    assert protocol.innerProtocol is data
    left = [weakref.ref(protocol), weakref.ref(data)]
    lose(protocol)
    del protocol, data
    assert [each() for each in left] == [None, None]


@pytest.mark.usefixtures("_uncollected")
def test_a_failed_handshake_is_gone():
    """`TLSProtocol` is freed with its connection where the handshake failed."""
    server, here = TLSFactoryOf(plain_factory(task.Clock())).buildProtocol(None), StringTransport()
    server.makeConnection(here)
    server.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
    assert here.disconnecting
    left = weakref.ref(server)
    lose(server)
    del server
    assert left() is None


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
    scheduler = Scheduler(reactor=clock, host="127.0.0.1", insecure=True)
    with nothing_fails():
        streams = {
            "client": scheduler._register_client(None, "c"),
            "worker": scheduler._register_worker(None, "h:1", "", 1),
        }
        for each in streams.values():
            each.makeConnection(StringTransport())
        streams["client"].dataReceived(FROM_CLIENT[: len(FROM_CLIENT) // 2])
        stream = scheduler._register_client(None, "d") if peer == "client" else streams["worker"]
        transport = StringTransport()
        stream.makeConnection(transport)
        valid = FROM_CLIENT if peer == "client" else FROM_WORKER
        feed(stream, transport, data.draw(frames_of(valid)))
        invariants.check(scheduler.core.state)
        for each in {*streams.values(), stream}:
            lose(each)
    invariants.check(scheduler.core.state)
    assert not scheduler.core.state.clients
    assert not scheduler.core.state.tasks
    _stop(scheduler, clock)


@examples(200)
@given(frames_of(DATA), st.booleans())
def test_bytes_to_a_data_connection(chunks, serves):
    """`DataProtocol.dataReceived` takes any bytes; what it owes or is owed ends with it."""
    clock = task.Clock()
    store = {1: b"one", 2: [b"two", b"buffer"]}
    transport = StringTransport()
    outcomes = []
    with nothing_fails():
        if serves:
            protocol = DataProtocol(
                None, store.get, lambda ids, values: store.update(zip(ids, values))
            )
            protocol.makeConnection(transport)
        else:
            protocol = DataProtocol(clock)
            protocol.makeConnection(transport)
            protocol.get([1, 2]).addBoth(outcomes.append)
            protocol.put([7], [b"seven"]).addBoth(outcomes.append)
        feed(protocol, transport, chunks)
        lose(protocol)
    assert len(outcomes) == (0 if serves else 2)
    assert not clock.getDelayedCalls()
