"""The order in which a graph's tasks should run: depth first, so that little data is held.

Theory: of a task's inputs, the one whose computation holds most at a time comes first,
because afterwards only its result is held beside the others (Sethi and Ullman, "The
Generation of Optimal Code for Arithmetic Expressions", J. ACM 17, 1970; best for trees,
and a good rule for graphs). The order is also topological: inputs come before what uses
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class CycleError(ValueError):
    """The graph has a cycle; *cycle* are its nodes, the first one again at the end."""

    def __init__(self, cycle: list[int]) -> None:
        super().__init__(" needs ".join(map(str, cycle)))
        self.cycle = cycle


def depth_first(deps: Sequence[Sequence[int]], outputs: Iterable[int]) -> list[int]:
    """The nodes that *outputs* need, in the order in which they should run.

    Args:
        deps: for each node, the nodes that it needs.
        outputs: nodes that are wanted, themselves included in the result.

    Raises:
        CycleError: some node needs itself, directly or not.
    """
    roots = list(outputs)
    # what holds most comes last, since a walk's stack turns the order round
    held = [0] * len(deps)
    arranged: list[Sequence[int]] = list(deps)
    for node in _after_inputs(deps, roots):
        needs = deps[node]
        if not needs:
            held[node] = 1
        elif len(needs) == 1:
            held[node] = held[needs[0]]
        else:
            arranged[node] = ordered = sorted(dict.fromkeys(needs), key=held.__getitem__)
            last = len(ordered) - 1
            held[node] = max(held[each] + last - n for n, each in enumerate(ordered))
    return _after_inputs(arranged, roots)


def _after_inputs(deps: Sequence[Sequence[int]], roots: list[int]) -> list[int]:
    """Nodes after all that they need; the last of a node's *deps* is gone into first."""
    order: list[int] = []
    state = bytearray(len(deps))  # 0: not seen, 1: on the way to it, 2: in order
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if state[node]:
                stack.pop()
                if state[node] == 1:
                    state[node] = 2
                    order.append(node)
                continue
            state[node] = 1
            for each in deps[node]:
                if not state[each]:
                    stack.append(each)
                elif state[each] == 1:
                    raise CycleError(_cycle(stack, state, each))
    return order


def _cycle(stack: list[int], state: bytearray, node: int) -> list[int]:
    """The nodes on the way from *node* to itself."""
    # a node on the way was gone into where it stands last; elsewhere it was only seen
    path = list(dict.fromkeys(each for each in reversed(stack) if state[each] == 1))
    return [node, *reversed(path[: path.index(node)]), node]
