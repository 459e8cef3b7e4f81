"""`core.graph`: the order in which a graph's tasks should run."""

from __future__ import annotations

from functools import cache
from itertools import groupby, pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from twisted_dist.core.graph import CycleError, depth_first


@st.composite
def digraphs(draw, most=12):
    """Any graph, cycles and repeated inputs included, and some of its nodes."""
    n = draw(st.integers(1, most))
    nodes = st.integers(0, n - 1)
    deps = draw(st.lists(st.lists(nodes, max_size=4), min_size=n, max_size=n))
    return deps, draw(st.lists(nodes, max_size=4))


@st.composite
def acyclic(draw, most=30):
    """A graph without cycles, its nodes in any order, and some of them."""
    n = draw(st.integers(1, most))
    place = draw(st.permutations(range(n)))
    deps = [[] for _ in range(n)]
    for node in range(1, n):
        needs = draw(st.lists(st.integers(0, node - 1), max_size=5))
        deps[place[node]] = [place[each] for each in needs]
    return deps, draw(st.lists(st.integers(0, n - 1), max_size=4))


@st.composite
def trees(draw, most, arity):
    """A tree of which node 0 is the root, and no node has more than *arity* inputs."""
    deps = [[]]
    for node in range(1, draw(st.integers(1, most))):
        parents = [n for n, needs in enumerate(deps) if len(needs) < arity]
        deps[draw(st.sampled_from(parents))].append(node)
        deps.append([])
    return deps


def needed(deps, outputs):
    """The nodes that *outputs* need, themselves included."""
    found, left = set(), set(outputs)
    while left:
        node = left.pop()
        found.add(node)
        left |= set(deps[node]) - found
    return found


def peak(deps, order):
    """How many results a tree holds at most when it runs in that *order*."""
    held = most = 0
    for node in order:
        held += 1 - len(deps[node])  # the result takes the place of an input
        most = max(most, held)
    return most


def least_peak(deps):
    """The peak of the best of all orders of a tree: every set of results is looked at."""

    @cache
    def after(held, left):
        ways = [
            max(len(now), after(now, left - {node}))
            for node in left
            if held.issuperset(deps[node])
            for now in [held - frozenset(deps[node]) | {node}]
        ]
        return min(ways, default=0)

    return after(frozenset(), frozenset(range(len(deps))))


@given(acyclic())
def test_inputs_come_first_and_nothing_else(graph):
    """`depth_first` gives what outputs need, each node once, after all that it needs."""
    deps, outputs = graph
    order = depth_first(deps, outputs)
    assert sorted(order) == sorted(needed(deps, outputs))
    position = {node: n for n, node in enumerate(order)}
    assert all(position[each] < position[node] for node in order for each in deps[node])


@given(digraphs())
def test_cycles_are_real(graph):
    """`depth_first` raises CycleError where there is a cycle, and only there; each step exists."""
    deps, outputs = graph
    there = needed(deps, outputs)
    while True:  # what needs nothing that is left cannot be on a cycle
        free = {node for node in there if there.isdisjoint(deps[node])}
        if not free:
            break
        there -= free
    if not there:
        depth_first(deps, outputs)
        return
    with pytest.raises(CycleError) as caught:
        depth_first(deps, outputs)
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1 >= 1
    assert all(after in deps[before] for before, after in pairwise(cycle))
    assert set(cycle) <= needed(deps, outputs)


def test_cycle_in_words():
    """`CycleError` says the cycle without the way to it."""
    with pytest.raises(CycleError, match=r"^1 needs 2 needs 3 needs 1$"):
        depth_first([[1], [2], [3], [1]], [0])
    with pytest.raises(CycleError, match=r"^0 needs 0$"):
        depth_first([[0]], [0])


def test_input_of_a_node_on_the_way_is_no_cycle():
    """`depth_first` may meet a node on its stack twice without there being a cycle."""
    assert depth_first([[1, 2], [2], []], [0]) == [2, 1, 0]
    assert depth_first([[2, 1], [2, 2], []], [0, 0, 2]) == [2, 1, 0]


@given(trees(most=10, arity=4))
def test_no_order_of_a_tree_holds_less(deps):
    """`depth_first` holds as little at its peak as the best of all orders of a tree."""
    assert peak(deps, depth_first(deps, [0])) == least_peak(deps)


@given(trees(most=120, arity=2))
def test_binary_tree_holds_its_number(deps):
    """`depth_first` holds the Sethi-Ullman number of a binary tree."""
    numbers = [0] * len(deps)
    for node in reversed(range(len(deps))):  # inputs have higher numbers
        least, most = sorted([0, 0, *(numbers[each] for each in deps[node])])[-2:]
        numbers[node] = most + (least == most)
    assert peak(deps, depth_first(deps, [0])) == numbers[0]


@given(st.randoms(use_true_random=False), st.integers(1, 9))
def test_balanced_tree(random, depth):
    """`depth_first` holds one result for each level, however inputs are listed."""
    size = 2**depth - 1
    deps = [[2 * n + 1, 2 * n + 2] if 2 * n + 1 < size else [] for n in range(size)]
    for needs in deps:
        random.shuffle(needs)
    assert peak(deps, depth_first(deps, [0])) == depth


def test_chains_run_through():
    """`depth_first` ends one chain of a merge before it begins the next."""
    chains, length = 5, 7
    deps = [[n - 1] if n % length else [] for n in range(chains * length)]
    deps.append([length * (n + 1) - 1 for n in range(chains)])
    order = depth_first(deps, [chains * length])
    assert len(list(groupby(order[:-1], key=lambda node: node // length))) == chains
    assert peak(deps, order) == chains


def test_what_holds_most_goes_first():
    """`depth_first` goes into the input that holds most first, wherever it is listed."""
    wide = [[], [], [], [0, 1, 2]]  # holds three
    assert depth_first([*wide, [], [4, 3]], [5])[-2:] == [4, 5]
    assert depth_first([*wide, [], [3, 4]], [5])[-2:] == [4, 5]


def test_repeated_input_is_held_once():
    """`depth_first` counts an input that is an argument several times once."""
    assert depth_first([[], [0, 0, 0], [], [], [2, 3], [1, 4]], [5])[-3:] == [0, 1, 5]


def test_shared_input_runs_once():
    """`depth_first` runs what two nodes need once, and outputs that need each other."""
    assert depth_first([[], [0], [0], [1, 2]], [3, 1]) in ([0, 1, 2, 3], [0, 2, 1, 3])
    assert depth_first([[], [0]], []) == []


def test_chain_of_a_hundred_thousand():
    """`depth_first` does not recurse, and neither does the search for a cycle."""
    n = 100_000
    deps = [[each - 1] if each else [] for each in range(n)]
    assert depth_first(deps, [n - 1]) == list(range(n))
    deps[0] = [n - 1]
    with pytest.raises(CycleError) as caught:
        depth_first(deps, [n - 1])
    assert len(caught.value.cycle) == n + 1


class Counted(list):
    """A graph's inputs that count how often one is looked at."""

    looks = 0

    def __getitem__(self, node):
        """The inputs of a node."""
        needs = super().__getitem__(node)
        Counted.looks += 1 + len(needs)
        return needs


@pytest.mark.parametrize("side", [20, 200])
def test_time_is_linear(side):
    """`depth_first` looks at each edge of a grid a few times, though its paths are 2**side."""
    deps = Counted(
        [
            [n for n in ((x - 1) + y * side if x else -1, x + (y - 1) * side) if n >= 0]
            for y in range(side)
            for x in range(side)
        ]
    )
    Counted.looks = 0
    assert len(depth_first(deps, [side * side - 1])) == side * side
    assert Counted.looks <= 4 * (side * side + sum(map(len, list.__iter__(deps))))
