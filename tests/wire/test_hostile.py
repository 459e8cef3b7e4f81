"""Well-formed messages that make no sense, in any order: the scheduler stays sound."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import task
from twisted.internet.testing import StringTransport

from tests.support.registering import expire, register_client, register_worker, silent_scheduler
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import invariants
from twisted_dist.wire import scheduler_end, schema
from twisted_dist.wire.frames import frame

CLIENT, WORKER, OTHER = 1, 2, 3
DIGEST = b"d" * 16
ids = st.sampled_from(
    [*((CLIENT << CLIENT_SHIFT) + n for n in range(6)), (9 << CLIENT_SHIFT) + 1, -1, 0]
)
small = st.sampled_from([1, 2, 0, -1, 2**63])
blob = st.sampled_from([b"", b"pickle"])
word = st.sampled_from(["", "h:1", "h:2", "k", "who_has", "info"])
VALUES = {
    "int": small | ids,
    "str": word,
    "bytes": st.sampled_from([DIGEST, b"unknown"]),
    "bool": st.booleans(),
    "number": small | st.sampled_from([-1, 0.5, 1e300]),
    "any": st.none() | st.lists(ids, max_size=2),
    "ints": st.lists(ids | small, max_size=3),
    "strs": st.lists(word, max_size=2),
    "blobs": st.lists(blob, max_size=3),
    "blobs?": st.lists(st.none() | blob, max_size=3),
    "rows": st.lists(st.lists(ids, max_size=3), max_size=3),
    "options": st.fixed_dictionaries(
        {},
        optional={
            "workers": st.lists(word, max_size=2),
            "allow_other_workers": st.booleans(),
            "resources": st.dictionaries(
                st.sampled_from(["GPU", ""]), st.sampled_from([0, 1, 5000, 20_000, 2**62])
            ),
            "retries": st.sampled_from([0, 1, 10**9]),
            "priority": st.sampled_from([0, -(2**63), 2**63 - 1]),
            "timeout_s": st.sampled_from([0, 0.0, 1e-9, 5, 1e300]),
            "wait_for_worker": st.booleans(),
        },
    ),
    "metrics": st.dictionaries(word, st.integers(-(2**63), 2**64 - 1) | st.floats(), max_size=2),
}
FROM_CLIENT = (*scheduler_end._FROM_CLIENT, schema.QUERY.number)
FROM_WORKER = tuple(scheduler_end._FROM_WORKER)


@st.composite
def messages(draw, numbers):
    """A message of the right shape, with senseless contents."""
    message = schema.BY_NUMBER[draw(st.sampled_from(list(numbers)))]
    values = {name: draw(VALUES[kind]) for name, kind in message.fields}
    if message.parallel:
        length = min(len(values[name]) for name in message.parallel)
        values.update({name: values[name][:length] for name in message.parallel})
    return message.pack(*values.values())


events = st.lists(
    st.tuples(st.just(CLIENT), messages(FROM_CLIENT))
    | st.tuples(st.sampled_from([WORKER, OTHER]), messages(FROM_WORKER)),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(events)
def test_scheduler_stays_sound(events):
    """No message that passes the schema makes `Scheduler` raise or its state unsound."""
    clock = task.Clock()
    scheduler = silent_scheduler(clock)
    streams = {
        CLIENT: register_client(scheduler, "c"),
        WORKER: register_worker(scheduler, "h:1", resources={}),
        OTHER: register_worker(scheduler, "h:2", "k", 2),
    }
    for each in streams.values():
        each.makeConnection(StringTransport())
    streams[CLIENT].dataReceived(frame(schema.FUNCTION.pack(DIGEST, "f", b"pickle")))
    for sender, payload in events:
        stream = streams[sender]
        if not stream.transport.disconnected:
            stream.dataReceived(frame(payload))
        invariants.check(scheduler.core.state)
    for each in streams.values():
        each.connectionLost()
    invariants.check(scheduler.core.state)
    expire(clock)
    invariants.check(scheduler.core.state)
    assert not scheduler.core.state.clients
    assert not scheduler.core.state.tasks
