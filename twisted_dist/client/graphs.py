"""Reads dask graphs: plain dicts of tasks, and dask's own nodes in them.

The format is dask's: ``{key: task}``, where a task is a tuple whose first element is
callable; arguments that are keys of the graph stand for their results, in lists and in
nested tasks too; a value that is a key is an alias; anything else is data. dask itself is
not imported. Its newer graphs hold objects that know their ``dependencies`` and are called
with those's results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from attrs import define, field

from twisted_dist.client.pickling import checked_call
from twisted_dist.core.graph import CycleError, depth_first
from twisted_dist.errors import UsageProblem
from twisted_dist.execution.graphs import Nested, Ref, as_it_is, run_nested, run_node


@define
class PickledGraph:
    """Tasks in the order in which they should run.

    Attributes:
        functions: all that occur.
        which: for each task, which of *functions*.
        calls: their pickled arguments.
        deps: the positions of their inputs.
        keys: their names.
        outputs: the positions of those that were asked for.
    """

    functions: list[Callable[..., Any]] = field(factory=list)
    which: list[int] = field(factory=list)
    calls: list[bytes] = field(factory=list)
    deps: list[list[int]] = field(factory=list)
    keys: list[str] = field(factory=list)
    outputs: list[int] = field(factory=list)


def is_graph_node(value: Any) -> bool:
    """Whether it is one of dask's own nodes (``dask._task_spec.GraphNode``)."""
    return hasattr(value, "dependencies") and hasattr(value, "key") and callable(value)


def is_task(value: Any) -> bool:
    """Whether it is a plain task."""
    return type(value) is tuple and bool(value) and callable(value[0])


def flat_keys(keys: Any) -> Iterable[Hashable]:
    """All keys in nested lists."""
    if isinstance(keys, list):
        for each in keys:
            yield from flat_keys(each)
    else:
        yield keys


class GraphReader:
    """Reads what some keys of a graph need.

    Raises:
        UsageProblem: it is no graph, lacks a key, or has a cycle; says which.
    """

    def __init__(self, dsk: Any) -> None:
        if hasattr(dsk, "__dask_graph__"):
            dsk = dsk.__dask_graph__()
        if not isinstance(dsk, Mapping):
            raise UsageProblem(f"a graph is a dict of tasks, not {type(dsk).__name__}")
        self._dsk: dict[Any, Any] = dict(dsk)
        #: {key: its number}, of what is needed, as found
        self._numbers: dict[Hashable, int] = {}
        self._deps: list[list[int]] = []
        self._outputs: dict[Hashable, int] = {}

    def read(self, keys: Any) -> PickledGraph:
        """The graph of *keys*, a key or nested lists of keys."""
        outputs = [self._resolved(each) for each in dict.fromkeys(flat_keys(keys))]
        self._find(outputs)
        names = list(self._numbers)
        try:
            order = depth_first(self._deps, [self._numbers[each] for each in outputs])
        except CycleError as problem:
            way = " needs ".join(repr(names[each]) for each in problem.cycle)
            raise UsageProblem(f"the graph has a cycle: {way}") from None
        return self._pickle(order, names, outputs)

    def place(self, key: Hashable) -> int:
        """Which of the outputs a key's result is."""
        return self._outputs[self._resolved(key)]

    def _resolved(self, key: Any) -> Hashable:
        """The key that *key* is an alias of, or itself."""
        seen: dict[Hashable, None] = {}
        while True:
            if not self._has(key):
                asked = f", which is what {next(iter(seen))!r} stands for" if seen else ""
                raise UsageProblem(f"there is no {key!r} in the graph{asked}")
            if key in seen:
                way = " needs ".join(map(repr, (*seen, key)))
                raise UsageProblem(f"the graph has a cycle: {way}")
            seen[key] = None
            value = self._dsk[key]
            if is_graph_node(value):
                target = getattr(value, "target", None)
                if target is None or type(value).__name__ != "Alias":
                    return key  # type: ignore[no-any-return]
                if target == key:
                    raise UsageProblem(f"the graph has a cycle: {key!r} needs {key!r}")
                key = target
            elif not is_task(value) and self._has(value):
                key = value
            else:
                return key  # type: ignore[no-any-return]

    def _has(self, key: Any) -> bool:
        try:
            return key in self._dsk
        except TypeError:  # not hashable
            return False

    # -- what is needed

    def _find(self, outputs: Iterable[Hashable]) -> None:
        """Number all that the outputs need, and note what each needs."""
        stack = list(outputs)
        found: dict[Hashable, list[Hashable]] = {}
        while stack:
            key = stack.pop()
            if key in found:
                continue
            self._numbers[key] = len(found)
            found[key] = needs = list(dict.fromkeys(self._needs(key)))
            stack += [each for each in needs if each not in found]
        self._deps = [[self._numbers[each] for each in needs] for needs in found.values()]

    def _needs(self, key: Hashable) -> Iterable[Hashable]:
        value = self._dsk[key]
        if is_graph_node(value):
            for each in sorted(value.dependencies, key=repr):
                if not self._has(each):
                    raise UsageProblem(f"{key!r} needs {each!r}, which is not in the graph")
                yield self._resolved(each)
        elif is_task(value):
            for each in value[1:]:
                yield from self._keys_in(each)
        elif type(value) is list:
            yield from self._keys_in(value)

    def _keys_in(self, argument: Any) -> Iterable[Hashable]:
        if is_task(argument):
            for each in argument[1:]:
                yield from self._keys_in(each)
        elif type(argument) is list:
            for each in argument:
                yield from self._keys_in(each)
        elif self._has(argument):
            yield self._resolved(argument)

    # -- pickles

    def _pickle(
        self, order: list[int], names: list[Hashable], outputs: list[Hashable]
    ) -> PickledGraph:
        graph = PickledGraph()
        positions = {number: position for position, number in enumerate(order)}
        functions: dict[int, int] = {}
        for number in order:
            key = names[number]
            deps = self._deps[number]
            refs = {names[each]: Ref(n) for n, each in enumerate(deps)}
            function, args = self._call(self._dsk[key], refs)
            which = functions.get(id(function))
            if which is None:
                which = functions[id(function)] = len(graph.functions)
                graph.functions.append(function)
            name = key if isinstance(key, str) else str(key)
            graph.which.append(which)
            graph.calls.append(checked_call(name, args))
            graph.deps.append([positions[each] for each in deps])
            graph.keys.append(name)
        places = [positions[self._numbers[each]] for each in outputs]
        graph.outputs = sorted(set(places))
        self._outputs = {each: graph.outputs.index(place) for each, place in zip(outputs, places)}
        return graph

    def _call(
        self, value: Any, refs: dict[Hashable, Ref]
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The function and the arguments of a key's task, inputs replaced."""
        if is_graph_node(value):
            resolved = {each: refs[self._resolved(each)] for each in value.dependencies}
            keys = tuple(sorted(resolved, key=repr))
            return run_node, (value, keys, *(resolved[each] for each in keys))
        if is_task(value):
            args = tuple(self._replaced(each, refs) for each in value[1:])
            if any(map(_has_nested, args)):
                return run_nested, (value[0], *args)
            return value[0], args
        if type(value) is list:
            return as_it_is, (self._replaced(value, refs),)
        return as_it_is, (value,)

    def _replaced(self, argument: Any, refs: dict[Hashable, Ref]) -> Any:
        if is_task(argument):
            return Nested(argument[0], [self._replaced(each, refs) for each in argument[1:]])
        if type(argument) is list:
            return [self._replaced(each, refs) for each in argument]
        return refs[self._resolved(argument)] if self._has(argument) else argument


def _has_nested(argument: Any) -> bool:
    if type(argument) is list:
        return any(map(_has_nested, argument))
    return isinstance(argument, Nested)
