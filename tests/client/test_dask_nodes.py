"""`client.graphs`: dask's own nodes."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given

from tests.client.test_graphs import as_tuples, inc, plain_graphs, told
from tests.support.graphs import compute
from twisted_dist.client.graphs import GraphReader
from twisted_dist.errors import UsageProblem
from twisted_dist.execution.graphs import as_it_is, run_node

dask = pytest.importorskip("dask")
spec = pytest.importorskip("dask._task_spec")
Alias, DataNode, Task, TaskRef = spec.Alias, spec.DataNode, spec.Task, spec.TaskRef


def keyed(x, *, by, default=None):
    """A task with keyword arguments."""
    return ("keyed", x, by, default)


class Loud(Task):
    """A task of somebody's own that runs in another way."""

    __slots__ = ()

    def __call__(self, values=()):
        """As `Task`, louder."""
        return super().__call__(values).upper()


X = TaskRef("x")
#: nodes beside {"x": "one", ("y", 0): "two"}, and their results
FORMS = {
    "a task": (Task("z", told, X, TaskRef(("y", 0))), ("told", ("one", "two"))),
    "strings are no keys": (Task("z", told, "x", ["x"], X), ("told", ("x", ["x"], "one"))),
    "tuples are no tasks": (Task("z", told, (len, "x")), ("told", ((len, "x"),))),
    "keyword arguments": (Task("z", keyed, X, by=X, default=5), ("keyed", "one", "one", 5)),
    "a task in a task": (Task("z", told, Task(None, str.upper, X)), ("told", ("ONE",))),
    "a node in an argument by name": (
        Task("z", keyed, 0, by=spec.List(X, Task(None, len, X))),
        ("keyed", 0, ["one", 3], None),
    ),
    "an alias in a task": (Task("z", told, Alias("x")), ("told", ("one",))),
    "data in a task": (Task("z", told, DataNode(None, "x")), ("told", ("x",))),
    "a list in a task": (Task("z", told, spec.List(X, "x", X)), ("told", (["one", "x", "one"],))),
    "lists in lists": (Task("z", told, spec.List(spec.List(X))), ("told", ([["one"]],))),
    "a tuple in a task": (Task("z", told, spec.Tuple(X, 2)), ("told", (("one", 2),))),
    "a set in a task": (Task("z", told, spec.Set(X, 2)), ("told", ({"one", 2},))),
    "a dict in a task": (
        Task("z", told, spec.Dict({"a": X, "b": spec.List(TaskRef(("y", 0)))})),
        ("told", ({"a": "one", "b": ["two"]},)),
    ),
    "a list": (spec.List(X, "x", Task(None, len, X)), ["one", "x", 3]),
    "a dict": (spec.Dict({"a": X}), {"a": "one"}),
    "data": (DataNode("z", ["x", len]), ["x", len]),
    "an alias": (Alias("z", "x"), "one"),
    "a reference": (X, "one"),
    "tasks in one": (
        Task.fuse(Task("w", str.upper, X), Task("z", told, TaskRef("w"), TaskRef(("y", 0)))),
        ("told", ("ONE", "two")),
    ),
    "somebody's own": (Loud("z", str.lower, X), "ONE"),
    "a reference in a plain task": ((told, X, [X], (len, X)), ("told", ("one", ["one"], 3))),
    "a node in a plain task": ((told, Task(None, len, X), Alias("x")), ("told", (3, "one"))),
    "a reference in a plain list": ([X, "x", "no key"], ["one", "one", "no key"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    """`GraphReader` takes dask's nodes as values, alone and in plain tasks."""
    value, expected = FORMS[form]
    dsk = {"x": "one", ("y", 0): Task(("y", 0), str.lower, "TWO"), "z": value}
    assert compute(dsk, "z") == expected == dask.get(dsk, "z")


@given(plain_graphs())
def test_results_are_those_of_dask(graph):
    """`GraphReader` gives every graph that dask has converted the results that dask gives."""
    dsk, keys = graph
    converted = spec.convert_legacy_graph(dsk)
    assert as_tuples(compute(converted, keys), keys) == dask.get(dsk, keys)


def test_aliases():
    """`GraphReader` follows chains of aliases, plain and dask's, and inputs that are aliases."""
    dsk = {"x": 5, "a": Alias("a", "b"), "b": "c", "c": TaskRef("x")}
    dsk["y"] = Task("y", told, TaskRef("a"), spec.Tuple(TaskRef("b")), TaskRef("x"))
    assert compute(dsk, ["y", "a"]) == [("told", (5, (5,), 5)), 5]
    graph = GraphReader(dsk).read(["y", "a"])
    assert graph.keys == ["x", "y"]
    assert graph.deps == [[], [0]]


@pytest.mark.parametrize(
    ("dsk", "words"),
    [
        ({"y": Task("y", inc, TaskRef("x"))}, "'y' needs 'x', which is not in the graph"),
        ({"y": spec.List(Task(None, inc, TaskRef(1)))}, "'y' needs 1, which is not in the graph"),
        ({"y": (inc, TaskRef("x"))}, "'y' needs 'x', which is not in the graph"),
        ({"y": Alias("y", "x")}, "there is no 'x' in the graph, which is what 'y' stands for"),
        ({"y": Alias("y")}, "the graph has a cycle: 'y' needs 'y'"),
        ({"y": Alias("y", "x"), "x": TaskRef("y")}, "a cycle: 'y' needs 'x' needs 'y'"),
        ({"y": Task("y", inc, TaskRef("x")), "x": Alias("x", "y")}, "cycle: 'y' needs 'y'"),
        ({"y": Task("y", inc, spec.Set(TaskRef("y")))}, "cycle: 'y' needs 'y'"),
    ],
)
def test_refusals(dsk, words):
    """`GraphReader` refuses what lacks a key or has a cycle, and names it."""
    with pytest.raises(UsageProblem, match=words):
        GraphReader(dsk).read("y")


def test_functions_are_sent_once():
    """`GraphReader.read` takes tasks apart: functions go once, and the calls without their keys."""
    shared = partial(told, 1)
    dsk = {f"x{n}": Task(f"x{n}", shared if n % 2 else inc, n) for n in range(50)}
    dsk["sum"] = Task("sum", sum, spec.List(*map(TaskRef, dsk), Alias("x0")))
    graph = GraphReader(dsk).read("sum")
    assert set(graph.functions) == {inc, shared, sum}
    assert not any(b"x1" in call or b"dask" in call for call in graph.calls)


def test_other_nodes_run_themselves():
    """`GraphReader.read` sends a node whole that it cannot take apart."""
    dsk = {"x": "a", "y": Loud("y", str.lower, TaskRef("x")), "z": spec.Dict({1: TaskRef("x")})}
    graph = GraphReader(dsk).read(["y", "z"])
    assert graph.functions == [as_it_is]
    assert all(run_node.__name__.encode() in call for call in graph.calls[1:])


def test_inputs_of_other_nodes():
    """`GraphReader.read` orders the inputs of a node by key, alike in every process."""
    dsk = {f"x{n}": n for n in range(9)}
    graph = GraphReader({**dsk, "y": spec.Set(*map(TaskRef, dsk))}).read("y")
    assert [graph.keys[each] for each in graph.deps[-1]] == list(dsk)


class Lookalike:
    """Has what a node has, and is data."""

    key = "x"
    dependencies = frozenset(["x"])

    def __call__(self, values):
        """What a node's call would give."""
        raise AssertionError("it is no node")

    def __eq__(self, other):
        """One is like the other."""
        return type(other) is type(self)

    __hash__ = object.__hash__


def test_what_looks_like_a_node_is_data():
    """`GraphReader` knows nodes by their class; whatever else has a `key` is data."""
    for cls in (Lookalike, type("GraphNode", (Lookalike,), {}), type("TaskRef", (Lookalike,), {})):
        dsk = {"x": 1, "y": cls(), "z": (type, cls())}
        assert compute(dsk, ["y", "z"]) == [cls(), cls]
    later = dask.delayed(inc)(1)  # any attribute of it exists
    assert compute({"x": later}, "x").key == later.key


def test_collections():
    """`GraphReader` reads what has a `__dask_graph__`, a collection itself among that."""
    later = dask.delayed(inc)(dask.delayed(inc)(40))
    assert compute(later, later.key) == 42
    assert compute(later.__dask_graph__(), [later.key]) == [42]
