"""`client.graphs`: plain dask graphs."""

from __future__ import annotations

from functools import partial
from operator import add, itemgetter, mul, neg

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.support.graphs import compute
from twisted_dist.client.graphs import GraphReader
from twisted_dist.client.pickling import MAX_CALL_BYTES
from twisted_dist.errors import UsageProblem


def told(*args):
    """A task whose result says what it was given."""
    return ("told", args)


def inc(x):
    """A task."""
    return x + 1


#: what a value, or an argument of "z", says: {"x": 1, ("x", 1): 2, 5: 3}'s keys stand in it
FORMS = {
    "a key": ("x", 1),
    "a tuple that is a key": (("x", 1), 2),
    "an integer that is a key": (5, 3),
    "a string that is no key": ("other", "other"),
    "a tuple that is no key": (("x", 2), ("x", 2)),
    "a key in a tuple": (("x", "x"), ("x", "x")),
    "a key in a dict": ({"x": "x"}, {"x": "x"}),
    "what has no hash": ({1}, {1}),
    "a tuple of what has no hash": (("x", []), ("x", [])),
    "nothing": (None, None),
    "an empty tuple": ((), ()),
    "an empty list": ([], []),
    "a function": (len, len),
    "a class": (int, int),
    "a list": (["x", ("x", 1), "other", 7], [1, 2, "other", 7]),
    "lists in a list": ([["x"], [[5], []]], [[1], [[3], []]]),
    "a task": ((inc, "x"), 2),
    "a task without arguments": ((list,), []),
    "a task of a class": ((complex, "x", 5), 1 + 3j),
    "a task in a list": ([(inc, "x"), [(neg, 5)]], [2, [-3]]),
    "a task in a task": ((add, (inc, "x"), (mul, (inc, (inc, "x")), 10)), 32),
    "a list in a task": ((sum, ["x", ("x", 1), 100]), 103),
    "a task in a list in a task": ((sum, ["x", (sum, [(inc, "x"), 5])]), 6),
    "what a key's result says": ((told, "y"), ("told", ("x",))),
    "a key several times": ((told, "x", "x", [5, "x"]), ("told", (1, 1, [3, 1]))),
}
GRAPH = {"x": 1, ("x", 1): 2, 5: 3, "y": (str.lower, "X")}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    """`GraphReader` gives values, arguments and items of lists the meaning that dask does."""
    said, meant = FORMS[form]
    dsk = {**GRAPH, "z": (told, said), "list": [said], "value": said}
    got = compute(dsk, ["z", "list", "value"])
    assert got == [("told", (meant,)), [meant], meant]


def test_aliases():
    """`GraphReader` follows aliases of aliases, and makes no tasks of them."""
    dsk = {"x": 4, "a": "b", "b": ("c", 0), ("c", 0): "x", "y": (told, "a", "b", "x")}
    assert compute(dsk, ["y", "a", ["x"]]) == [("told", (4, 4, 4)), 4, [4]]
    assert GraphReader(dsk).read(["y", "a", "x"]).keys == ["x", "y"]


def test_shape_of_keys():
    """`GraphReader` gives results in the shape of the keys: one, or lists, repeated or empty."""
    dsk = {"x": 1, "y": 2, ("x", 0): 3}
    assert compute(dsk, "x") == 1
    assert compute(dsk, ("x", 0)) == 3
    assert compute(dsk, ["x"]) == [1]
    assert compute(dsk, [["y", "x"], [], "y", [[("x", 0)]]]) == [[2, 1], [], 2, [[3]]]
    assert compute(dsk, []) == []


# -- refusals

#: small arguments that are too large together
MANY = [b"%d" % n + bytes(1000) for n in range(MAX_CALL_BYTES // 1000)]


@pytest.mark.parametrize(
    ("dsk", "keys", "words"),
    [
        ({"x": 1}, "y", r"there is no 'y' in the graph"),
        ({"x": 1}, ["x", ["x", [("y", 0)]]], r"there is no \('y', 0\) in the graph"),
        ({"x": 1}, {"x"}, r"there is no \{'x'\} in the graph"),
        ({"x": (inc, "x")}, "x", r"the graph has a cycle: 'x' needs 'x'"),
        ({"x": (inc, "y"), "y": (sum, [["x"]])}, "x", r"cycle: 'x' needs 'y' needs 'x'"),
        ({"x": (inc, (inc, 5)), 5: ["x"]}, "x", r"cycle: 'x' needs 5 needs 'x'"),
        ({"x": (inc, "y"), "y": "x"}, "x", r"cycle: 'x' needs 'x'"),
        ({"x": "x"}, "x", r"cycle: 'x' needs 'x'"),
        ({"w": "x", "x": "y", "y": ("z",), ("z",): "x"}, "w", r"cycle: 'x' needs 'y' needs \('z',"),
        ({"w": (inc, "x"), "x": "y", "y": "x"}, "w", r"cycle: 'x' needs 'y' needs 'x'"),
        ([("x", 1)], "x", r"a graph is a dict of tasks, not list"),
        (None, "x", r"a graph is a dict of tasks, not NoneType"),
        ({"x": (max, *MANY, "y"), "y": 1}, "x", r"the arguments of x take \d+ bytes"),
    ],
)
def test_refusals(dsk, keys, words):
    """`GraphReader` refuses what lacks a key or has a cycle, and names it."""
    with pytest.raises(UsageProblem, match=words):
        GraphReader(dsk).read(keys)


def test_large_values():
    """`GraphReader` takes out what is too large for a message, each value once."""
    large, numbers = bytes(MAX_CALL_BYTES), list(range(MAX_CALL_BYTES // 4))
    dsk = {
        "large": large,
        "length": (len, large),
        "both": (told, "length", [large, "length", {"small": 1}], (inc, "length"), large[:9]),
        "in a task": (told, (sum, [(len, large), "length"]), numbers),
    }
    graph = GraphReader(dsk).read(list(dsk))
    assert {len(each) for each in graph.data} == {len(large), len(numbers)}
    assert len(graph.data) == 2
    assert max(map(len, graph.calls)) < 1000
    n = len(large)
    assert compute(dsk, "both") == ("told", (n, [large, n, {"small": 1}], n + 1, large[:9]))
    assert compute(dsk, "in a task") == ("told", (2 * n, numbers))
    assert compute(dsk, "large") == large


def test_only_what_is_needed_counts():
    """`GraphReader` neither takes along nor checks what the keys do not need."""
    dsk = {"x": 1, "y": (inc, "x"), "z": (inc, "y"), "bad": (inc, "worse"), "worse": "bad"}
    assert GraphReader(dsk).read("y").keys == ["x", "y"]


def test_long_chains():
    """`GraphReader` recurses neither into tasks nor into aliases."""
    n = 20_000
    dsk = {0: 0.5, **{k: (inc, k - 1) if k % 2 else k - 1 for k in range(1, n)}}
    assert compute(dsk, [n - 1, n // 2]) == [n / 2 + 0.5, n / 4 + 0.5]


class Counted(str):
    """A key that counts how often one is looked up."""

    looks = 0

    def __hash__(self):
        """As every string's."""
        Counted.looks += 1
        return super().__hash__()


@pytest.mark.parametrize("step", [1, -1])
def test_aliases_are_followed_once(step):
    """`GraphReader` does not follow a chain of aliases anew for each of them."""
    names = [Counted(f"a{n}") for n in range(300)]
    dsk = {"x": 1, names[0]: "x", **dict(zip(names[1:], names)), "sum": (sum, names[::step])}
    Counted.looks = 0
    assert compute(dsk, [*names[::step], "sum"]) == [1] * 300 + [300]
    assert Counted.looks < 300 * 30


# -- what is sent


def test_depth_first():
    """`GraphReader.read` orders tasks depth first, inputs by their positions."""
    dsk = {f"x{n}": (inc, n) for n in range(4)}
    dsk.update({"a": (add, "x0", "x1"), "b": (add, "x2", "x3"), "sum": (add, "a", "b")})
    graph = GraphReader(dsk).read(["sum", "a"])
    halves = [graph.keys[:3], graph.keys[3:6]]
    assert sorted(sorted(each) for each in halves) == [["a", "x0", "x1"], ["b", "x2", "x3"]]
    assert graph.keys[6:] == ["sum"]
    assert graph.deps[:2] == [[], []]
    assert graph.deps[2] in ([0, 1], [1, 0])
    assert sorted(graph.deps[6]) == [2, 5]
    assert graph.outputs == [graph.keys.index("a"), 6]


def test_an_input_is_named_once():
    """`GraphReader.read` has each input of a task once, by whatever alias it is an argument."""
    dsk = {"x": 1, "same": "x", "y": (told, "x", ["same", (inc, "x")])}
    assert GraphReader(dsk).read("y").deps == [[], [0]]


def test_functions_are_sent_once():
    """`GraphReader.read` names functions that several tasks share, by value or by reference."""
    shared = partial(add, 1)
    dsk = {n + 1000: (shared if n % 2 else inc, n) for n in range(50)}
    graph = GraphReader(dsk).read(list(dsk))
    assert set(graph.functions) == {inc, shared}
    assert all(
        graph.functions[which] is dsk[int(key)][0] for key, which in zip(graph.keys, graph.which)
    )


def test_functions_of_one_task():
    """`GraphReader.read` sends what only one task calls with that task, unless a name says it."""

    def mine(x):
        """What the user's own script defines."""
        return x

    mine.__module__, mine.__qualname__ = "__main__", "mine"
    dsk = {f"x{n}": (partial(told, n), 0.5) for n in range(100)}
    dsk |= {
        "main": (mine, 3),
        "f": (lambda x: x + 1, 1),
        "g": (itemgetter(1), "other"),
        "h": (inc, 0),
        "i": (len, ""),
    }
    graph = GraphReader(dsk).read(list(dsk))
    assert {each.__name__ for each in graph.functions} == {"call_given", "inc", "len"}
    assert compute(dsk, ["main", "f", "g", "h", "i", "x7"]) == [3, 2, "t", 1, 0, ("told", (7, 0.5))]


def test_names():
    """`GraphReader.read` names tasks by their keys, in words that the wire can carry."""
    dsk = {"x": 1, ("x", 0): 2, 7: 3, "é": 4, "\udcff": 5}
    assert set(GraphReader(dsk).read(list(dsk)).keys) == {"x", "('x', 0)", "7", "é", "\\udcff"}
    assert compute(dsk, list(dsk)) == [1, 2, 3, 4, 5]


# -- where it runs


def refuse():
    """A task that is never to run here."""
    raise AssertionError("it ran")


def test_nothing_runs_while_it_is_read():
    """`GraphReader.read` calls nothing, and a nested call's exception is its task's."""
    dsk = {"x": (inc, (refuse,)), "y": (told, "x")}
    assert len(GraphReader(dsk).read("y").calls) == 2
    with pytest.raises(AssertionError, match="it ran"):
        compute(dsk, "y")


def loop():
    """A list that holds itself."""
    found = [1]
    found.append(found)
    return found


def test_results_are_left_alone():
    """`GraphReader`'s calls do not look into results: there are no keys or calls in them."""
    dsk = {"x": (loop,), "task": [len, "x"], "y": (told, (inc, 1), "task"), "z": (len, "x")}
    assert compute(dsk, "z") == 2
    told_, (two, (function, looped)) = compute(dsk, "y")
    assert (told_, two, function) == ("told", 2, len)
    assert looped[1] is looped


# -- anything


@st.composite
def plain_graphs(draw):
    """A graph of all forms that dask and this package see alike, and some of its keys."""
    kinds = st.sampled_from([lambda n: f"k{n}", lambda n: n, lambda n: ("k", n), lambda n: n + 0.5])
    keys = [draw(kinds)(n) for n in range(draw(st.integers(1, 12)))]
    literals = st.sampled_from(
        [None, 99, -1.25, b"k0", "k", (), ("k", "no"), {}, {"a": 1}, {70}, len]
    )
    dsk = {}
    for n, key in enumerate(keys):
        leaves = st.one_of(literals, st.sampled_from(keys[:n]) if n else literals)
        arguments = st.recursive(
            leaves,
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.lists(inner, max_size=3).map(lambda args: (told, *args)),
            ),
            max_leaves=6,
        )
        tasks = st.lists(arguments, max_size=4).map(lambda args: (told, *args))
        dsk[key] = draw(st.one_of(tasks, arguments))
    dsk = {key: dsk[key] for key in draw(st.permutations(keys))}
    wanted = st.recursive(st.sampled_from(keys), lambda inner: st.lists(inner, max_size=3))
    return dsk, draw(st.lists(wanted, max_size=3))


def as_tuples(results, keys):
    """Results in lists where keys are, as dask has them: in tuples."""
    if isinstance(keys, list):
        return tuple(as_tuples(*each) for each in zip(results, keys))
    return results


@given(plain_graphs())
def test_results_are_those_of_dask(graph):
    """`GraphReader` gives every graph the results that dask's own scheduler gives."""
    dask = pytest.importorskip("dask")
    dsk, keys = graph
    assert as_tuples(compute(dsk, keys), keys) == dask.get(dsk, keys)
