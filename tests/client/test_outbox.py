"""`client.outbox`: what a client's submissions look like when they are sent."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from twisted_dist.client import outbox as module
from twisted_dist.client.outbox import MOST_FUNCTIONS, MOST_GATHERED, Batch, Outbox
from twisted_dist.client.pickling import Calls
from twisted_dist.core.graph import depth_first
from twisted_dist.wire import schema
from twisted_dist.wire.frames import TARGET_BYTES

D, E = b"d" * 16, b"e" * 16
FIRST = 3 << 40
PRIORITY = {"priority": 5}
ALLOWED = (schema.FUNCTION.number, schema.SUBMIT.number, schema.RELEASE.number)


def calls(n=1, deps=(), size=3):
    """*n* pickled calls, each with inputs *deps*."""
    return Calls([b"c" * size] * n, [list(deps) for _ in range(n)], bool(deps), [])


def sent(outbox):
    """What is taken out, as the scheduler reads it."""
    return [schema.decode(payload, ALLOWED) for payload in outbox.take()]


def submissions(outbox):
    """The fields of what is taken out, where all of it is submissions."""
    messages = sent(outbox)
    assert {number for number, _ in messages} <= {schema.SUBMIT.number}
    return [fields for _, fields in messages]


# -- what gathers


def test_one_submission():
    """`Outbox.take` gives a submission in which nothing is said that need not be."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(), None)
    assert submissions(outbox) == [
        {
            "first": FIRST,
            "digests": [D],
            "which": [],
            "calls": [b"ccc"],
            "deps": [],
            "keys": [],
            "shared": False,
            "wanted": [],
            "options": {},
        }
    ]
    assert submissions(outbox) == []


def test_what_follows_gathers():
    """`Outbox.add` gathers submissions of consecutive ids and like options in one message."""
    outbox = Outbox()
    outbox.add(FIRST, {"priority": 5}, D, calls(2), None)
    outbox.add(FIRST + 2, {"priority": 5}, D, calls(1), None)
    outbox.add(FIRST + 3, {"priority": 5}, D, calls(3), None)
    (fields,) = submissions(outbox)
    assert (fields["first"], len(fields["calls"]), fields["options"]) == (FIRST, 6, PRIORITY)


@pytest.mark.parametrize(
    ("first", "options", "keys"),
    [(FIRST + 2, {}, None), (FIRST + 1, PRIORITY, None), (FIRST + 1, {}, ["k"])],
    ids=["other ids between", "other options", "a shared name"],
)
def test_what_differs_does_not_gather(first, options, keys):
    """`Outbox.add` begins a message where ids do not follow or what all share is not the same."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(), None)
    outbox.add(first, options, D, calls(), keys)
    one, two = submissions(outbox)
    assert (one["first"], one["options"], one["shared"], one["keys"]) == (FIRST, {}, False, [])
    assert (two["first"], two["options"], two["shared"]) == (first, options, keys is not None)
    assert two["keys"] == (keys or [])


def test_several_functions():
    """`Outbox.add` gathers tasks of several functions, each named once."""
    outbox = Outbox()
    for n, digest in enumerate([D, E, E, D]):
        outbox.add(FIRST + n, {}, digest, calls(), None)
    first, fields = submissions(outbox)
    assert (first["digests"], len(first["calls"])) == ([D], 1)  # nobody waits before it
    assert fields["digests"] == [E, D]
    assert fields["which"] == [0, 0, 1]


def test_columns_of_keys_and_deps():
    """`Outbox.add` fills a column as soon as one task has something in it."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(2), ["a", "b"])
    outbox.add(FIRST + 2, {}, D, calls(1, [FIRST, FIRST + 1]), ["c"])
    (fields,) = submissions(outbox)
    assert fields["keys"] == ["a", "b", "c"]
    assert fields["deps"] == [[], [], [FIRST, FIRST + 1]]
    assert fields["shared"]


def test_order():
    """`Outbox` keeps the order of payloads and submissions: a function is before its tasks."""
    outbox = Outbox()
    outbox.put(schema.FUNCTION.pack(D, "f", b"f"))
    outbox.add(FIRST, {}, D, calls(), None)
    outbox.put(schema.FUNCTION.pack(E, "g", b"g"))
    outbox.add(FIRST + 1, {}, E, calls(), None)
    messages = [
        (number, fields.get("digest"), fields.get("first")) for number, fields in sent(outbox)
    ]
    function, submit = schema.FUNCTION.number, schema.SUBMIT.number
    assert messages == [
        (function, D, None),
        (submit, None, FIRST),
        (function, E, None),
        (submit, None, FIRST + 1),
    ]


def test_bounds_of_gathering():
    """`Outbox.add` gathers up to a number of tasks and of functions."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(MOST_GATHERED), None)
    outbox.add(FIRST + MOST_GATHERED, {}, D, calls(), None)
    assert FIRST + MOST_GATHERED in [fields["first"] for fields in submissions(outbox)]
    for n in range(MOST_FUNCTIONS + 2):
        outbox.add(FIRST + n, {}, b"%016d" % n, calls(), None)
    assert [len(fields["digests"]) for fields in submissions(outbox)] == [1, MOST_FUNCTIONS, 1]


def test_what_is_added_after_it_was_taken():
    """`Outbox.take` leaves nothing, and what comes later is never added to what it gave."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(2), None)
    assert len(outbox.take()) == 1
    outbox.add(FIRST + 2, {}, D, calls(), None)
    (fields,) = submissions(outbox)
    assert (fields["first"], len(fields["calls"])) == (FIRST + 2, 1)
    assert outbox.take() == []


def test_one_alone_is_ready_to_go():
    """`Outbox.add` packs a task that comes first with all that belongs to it."""
    outbox = Outbox()
    outbox.add(FIRST + 1, {"retries": 1}, D, calls(1, [FIRST]), ["k"])
    (fields,) = submissions(outbox)
    assert fields == {
        "first": FIRST + 1,
        "digests": [D],
        "which": [],
        "calls": calls(1, [FIRST]).blobs,
        "deps": [[FIRST]],
        "keys": ["k"],
        "shared": True,
        "wanted": [],
        "options": {"retries": 1},
    }


def test_clear():
    """`Outbox.clear` forgets everything."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(), None)
    outbox.clear()
    assert sent(outbox) == []


# -- pieces


def test_large_batches_go_in_pieces():
    """`Batch.encode` gives pieces near `TARGET_BYTES` that say together what was submitted."""
    outbox = Outbox()
    n, size = 30_000, 100
    keys = [f"k{each}" for each in range(n)]
    outbox.add(FIRST, {}, D, calls(n - 5, [FIRST - 1], size), keys[:-5])
    outbox.add(FIRST + n - 5, {}, E, calls(5, [], size), keys[-5:])
    payloads = list(outbox.take())
    assert all(len(each) < 1.1 * TARGET_BYTES for each in payloads)
    assert all(len(each) > 0.7 * TARGET_BYTES for each in payloads[:-1])
    pieces = [schema.decode(each, ALLOWED)[1] for each in payloads]
    at = FIRST
    for each in pieces:
        assert each["first"] == at
        at += len(each["calls"])
        assert (each["digests"], each["wanted"], each["shared"]) == ([D, E], [], True)
    assert at == FIRST + n
    assert [k for each in pieces for k in each["keys"]] == keys
    assert [w for each in pieces for w in each["which"]] == [0] * (n - 5) + [1] * 5
    assert [d for each in pieces for d in each["deps"]] == [[FIRST - 1]] * (n - 5) + [[]] * 5


def test_a_call_is_never_cut():
    """`Batch.encode` gives a call as large as a message one of its own."""
    outbox = Outbox()
    outbox.add(FIRST, {}, D, calls(3, size=3 * TARGET_BYTES), None)
    assert [len(fields["calls"]) for fields in submissions(outbox)] == [1, 1, 1]


# -- graphs


def graph(deps, outputs, options=None, keys=None):
    """A batch of a whole graph, as `Submitter.submit_graph` makes it."""
    batch = Batch(FIRST, options or {}, shared=False)
    batch.digests = [D, E]
    batch.which = [n % 2 for n in range(len(deps))]
    batch.calls = [b"%d" % n for n in range(len(deps))]
    batch.deps = [[FIRST + each for each in needs] for needs in deps]
    batch.any_deps = any(deps)
    batch.keys = keys or [f"k{n}" for n in range(len(deps))]
    batch.wanted = outputs
    return batch


def test_graph_is_one_message():
    """`Batch.encode` gives a graph as one message that says what is wanted."""
    outbox = Outbox()
    outbox.put(graph([[], [0], [0, 1]], [1, 2], PRIORITY))
    (fields,) = submissions(outbox)
    assert fields["wanted"] == [1, 2]
    assert fields["deps"] == [[], [FIRST], [FIRST, FIRST + 1]]
    assert (fields["which"], fields["keys"]) == ([0, 1, 0], ["k0", "k1", "k2"])
    assert (fields["options"], fields["shared"]) == (PRIORITY, False)


def test_nothing_gathers_in_a_graph():
    """`Outbox.add` leaves a graph alone that was put before it, though ids follow."""
    outbox = Outbox()
    outbox.put(graph([[], [0]], [1]))
    outbox.add(FIRST + 2, {}, D, calls(), None)
    one, two = submissions(outbox)
    assert (len(one["calls"]), one["wanted"]) == (2, [1])
    assert (two["first"], two["wanted"]) == (FIRST + 2, [])


def test_empty_graph():
    """`Batch.encode` sends nothing where nothing is to be computed."""
    assert list(graph([], []).encode()) == []


@st.composite
def graphs(draw):
    """A graph in the order in which it runs, all of it needed, and its outputs."""
    n = draw(st.integers(1, 40))
    deps = [
        draw(st.lists(st.integers(0, each - 1), max_size=4)) if each else [] for each in range(n)
    ]
    outputs = draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=4))
    order = depth_first(deps, sorted(outputs))
    position = {node: place for place, node in enumerate(order)}
    ordered = [[position[each] for each in deps[node]] for node in order]
    return ordered, sorted(position[each] for each in outputs)


@given(graphs(), st.integers(1, 400))
def test_pieces_of_graphs(case, target):
    """`Batch.encode` holds what later pieces need until they have come, and nothing else."""
    deps, outputs = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TARGET_BYTES", target)
        outbox = Outbox()
        outbox.put(graph(deps, outputs))
        messages = sent(outbox)
    pieces = [fields for number, fields in messages if number == schema.SUBMIT.number]
    assert [number for number, _ in messages[: len(pieces)]] == [schema.SUBMIT.number] * len(pieces)
    held = set()  # by the client, as the scheduler sees it
    there = FIRST
    for fields in pieces:
        assert fields["first"] == there
        for needs in fields["deps"]:
            assert all(each >= there or each in held for each in needs)
        there += len(fields["calls"])
        wanted = {fields["first"] + each for each in fields["wanted"]}
        assert wanted  # or all would be
        later = {FIRST + each for needs in deps[there - FIRST :] for each in needs}
        assert wanted <= later | {FIRST + each for each in outputs}
        held |= wanted
    assert there == FIRST + len(deps)
    assert [needs for fields in pieces for needs in fields["deps"]] == (
        [[FIRST + each for each in needs] for needs in deps] if any(deps) else []
    )
    for _, fields in messages[len(pieces) :]:
        assert held >= set(fields["ids"])
        held -= set(fields["ids"])
    assert held == {FIRST + each for each in outputs}


def test_pieces_of_a_large_graph():
    """`Batch.encode` gives large graphs in pieces near `TARGET_BYTES`, little of them wanted."""
    n = 2**16 - 1
    deps = [[2 * each + 1, 2 * each + 2] if 2 * each + 1 < n else [] for each in range(n)]
    order = depth_first(deps, [0])
    position = {node: place for place, node in enumerate(order)}
    ordered = [[position[each] for each in deps[node]] for node in order]
    *pieces, release = graph(ordered, [n - 1]).encode()
    assert all(0.6 * TARGET_BYTES < len(each) < 1.1 * TARGET_BYTES for each in pieces[:-1])
    messages = [schema.decode(each, ALLOWED)[1] for each in pieces]
    assert len(messages) > 2
    assert sum(len(fields["calls"]) for fields in messages) == n
    held = sum(len(fields["wanted"]) for fields in messages) - 1
    assert len(schema.decode(release, ALLOWED)[1]["ids"]) == held <= 16 * len(messages)
