"""Inputs for fuzzing what listens, and what must hold whatever comes.

Random bytes are seldom a message, so there are three kinds of input: any bytes; messages that
are well formed and make no sense; and valid ones with some bytes flipped, put in or taken out.
What is asserted is the same throughout (`holds`).

``TWISTED_DIST_FUZZ=100`` in the environment gives each test a hundred times its examples.
"""

import contextlib
import os
from itertools import cycle

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols import amp
from twisted.python.failure import Failure

from twisted_dist.access.roles import MAY_LOOK, MAY_MOVE_DATA
from twisted_dist.wire import commands, schema
from twisted_dist.wire.control import ControlFactory, Responder
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
    READS,
    STORED,
    TAKEN,
    header_sum,
)
from twisted_dist.wire.frames import frame
from twisted_dist.wire.membership import Insecure

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


HELLO = ask(commands.Hello, oldest=b"3", newest=b"3", role=b"fuzz", software=b"0")
NOTHING = msgpack.packb(None)
#: what somebody says who was never welcome
NEVER = {"life": b"", "generation": b"0", "peers": b"0"}
VALID = {
    "hello": HELLO,
    "ping": ask(commands.Ping),
    "identity": ask(commands.Identity),
    "query": ask(commands.Query, what=b"who_has", arguments=NOTHING),
    "terminate": ask(commands.Terminate),
    "client": ask(commands.RegisterClient, name=b"c", index=b"0", **NEVER),
    "worker": ask(
        commands.RegisterWorker,
        name=b"w",
        address=b"h:1",
        nthreads=b"1",
        resources=msgpack.packb({}),
        **NEVER,
    ),
    "returning": ask(
        commands.RegisterWorker,
        name=b"w",
        address=b"h:1",
        nthreads=b"1",
        resources=msgpack.packb({}),
        life=b"l" * 8,
        generation=b"3",
        peers=b"2",
    ),
    "task": ask(commands.RegisterTask, name=b"t", ticket=b"t" * 32, index=b"0", **NEVER),
    "task again": ask(
        commands.RegisterTask,
        name=b"t",
        ticket=b"t" * 32,
        index=b"7",
        life=b"l" * 8,
        generation=b"3",
        peers=b"2",
    ),
    "resume": ask(commands.Resume, token=b"t" * 16, received=b"0"),
    "data": ask(commands.OpenData, name=b"d"),
    "relay": ask(commands.OpenRelay, name=b"d", address=b"h:1"),
    "join": ask(commands.JoinRelay, ticket=b"t" * 16),
}
DIGEST = b"d" * 16
FIRST = 1 << 40
FROM_CLIENT = b"".join(
    map(
        frame,
        [
            schema.FUNCTION.pack(DIGEST, "f", b"pickle"),
            schema.SUBMIT.pack(FIRST, [DIGEST], [], [b"a", b"b"], [], [], False, [], {}),
            schema.SUBMIT.pack(
                FIRST + 2,
                [DIGEST],
                [0, 0],
                [b"c", b"d"],
                [[FIRST], [FIRST + 2]],
                ["k", ""],
                True,
                [1],
                {"workers": ["h:1"], "resources": {"GPU": 5000}, "retries": 1, "timeout_s": 0.5},
            ),
            schema.SCATTERED.pack([FIRST + 9], [1], 1),
            schema.LOCATE.pack(1, [FIRST, FIRST + 9]),
            schema.QUERY.pack(2, "info", None),
            schema.ASK.pack(3, "run", "run-f\nh:1", b"call", [], FIRST + 20, 0.5),
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
            schema.RESULTS_CLAIMED.pack([FIRST, FIRST + 1], [1, 0], [4, 5]),
            schema.TASKS_CLAIMED.pack([FIRST + 2, FIRST + 3], [1, 2], [FIRST + 3]),
            schema.ALL_CLAIMED.pack(),
            schema.ARRIVED.pack(0),
            schema.COPIES.pack([FIRST]),
            schema.ERRAND_DONE.pack(FIRST + 20, "value", 4, b"four", ""),
        ],
    )
)


def streamed(kind, request, task_id, *buffers):
    """A value that follows its lengths, each buffer filled up to a line."""
    lengths = list(map(len, buffers))
    head = msgpack.packb([kind, request, task_id, lengths, header_sum(task_id, lengths)])
    return frame(head) + b"".join(each.ljust(-(-len(each) // 64) * 64, b"\0") for each in buffers)


#: of no process that is there
PLACE = [3, 0, b"td-seg" + b"t" * 10, [100, 0]]
_ABOUT = [[HOST, 2**30, PLACE, True], [READS, 0, True], [TAKEN, 1], [READS, 0, False]]
#: what one end says, in parts: streams have bytes between the frames
TO_A_STORE = [
    *(frame(msgpack.packb(each)) for each in _ABOUT),
    frame(msgpack.packb([GET, 1, [1, 2, 3]])),
    streamed(PUT_STREAM, 2, 5, b"five" * 30, b"", b"buffer"),
    frame(msgpack.packb([PUT_PLACED, 3, [6], [PLACE]])),
    frame(msgpack.packb([PUT, 3, [], [], True])),
    frame(msgpack.packb([PUT, 2, [7, 8], [b"seven", [b"eight", b"buffer"]], True])),
    streamed(PUT_STREAM, 4, 9, b""),
]
TO_WHO_ASKED = [
    *(frame(msgpack.packb(each)) for each in _ABOUT),
    frame(msgpack.packb([GOT, 1, [1], [b"one"], False])),
    frame(msgpack.packb([GOT_PLACED, 1, [3], [PLACE]])),
    streamed(GOT_STREAM, 1, 2, b"two" * 50, b"", b"buffer"),
    frame(msgpack.packb([STORED, 2, NOT_READ])),
    frame(msgpack.packb([GOT, 1, [2], [b"two"], True])),
    frame(msgpack.packb([STORED, 2, 0])),
]

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
            lambda proto, name: DataProtocol(None, {}.get, lambda ids, values: 0),
            MAY_MOVE_DATA,
        ),
    }
    return ControlFactory("worker", responders, clock, Insecure())


def stop(service, clock):
    """A service ends, and leaves no timer."""
    stopped = service.stop()
    clock.advance(1)  # what `Terminate` has set
    assert stopped.called
    assert not clock.getDelayedCalls()
