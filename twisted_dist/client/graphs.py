"""Reads dask graphs: plain dicts of tasks, and dask's own nodes in them.

The format is dask's: ``{key: task}``, where a task is a tuple whose first element is
callable; arguments that are keys of the graph stand for their results, in lists and in
nested tasks too; a value that is a key is an alias; anything else is data. dask itself is
not imported. Its newer graphs hold objects (of ``dask._task_spec``) that know their
``dependencies`` and are called with those's results. Of these, a ``Task`` is taken apart
where its function can stand alone: the function then goes to the network once, not with
every task, and the scheduler learns what it takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, NamedTuple

from attrs import define, field

from twisted_dist.client.large import LargeValues
from twisted_dist.client.pickling import MAX_CALL_BYTES, check_call, pickled_call
from twisted_dist.core.graph import CycleError, depth_first
from twisted_dist.errors import UsageProblem
from twisted_dist.execution.graphs import Nested, Ref, as_it_is, call_given, run_node

#: what objects of dask's kind are: names of their classes
NODE: Final = "GraphNode"
TASK: Final = "Task"
ALIAS: Final = "Alias"
LIST: Final = "List"
REFERENCE: Final = "TaskRef"


@define
class PickledGraph:
    """Tasks in the order in which they should run.

    Attributes:
        functions: all that occur.
        which: for each task, which of *functions*.
        calls: their pickled arguments.
        deps: the positions of their inputs; ``~n`` is the nth of *data*.
        keys: their names.
        outputs: the positions of those that were asked for.
        data: what is too large for a call, and is to be on workers before.
    """

    functions: list[Callable[..., Any]] = field(factory=list)
    which: list[int] = field(factory=list)
    calls: list[bytes] = field(factory=list)
    deps: list[list[int]] = field(factory=list)
    keys: list[str] = field(factory=list)
    outputs: list[int] = field(factory=list)
    data: list[Any] = field(factory=list)


class Kinds(dict[type, str]):
    """``{class: its kind}``, found out when first asked; empty for what is not dask's."""

    def __missing__(self, cls: type) -> str:
        bases = [each for each in cls.__mro__ if str(each.__module__).startswith("dask.")]
        names = [each.__name__ for each in bases]
        kind = next((each for each in (NODE, REFERENCE) if each in names), "")
        if kind == NODE and cls in bases and names[0] in (TASK, ALIAS, LIST):
            kind = names[0]
        self[cls] = kind
        return kind


class Call(NamedTuple):
    """What a key's task calls, inputs replaced."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


_NOTHING: Final = object()

#: {key of an input: what stands for it}, in the order of inputs
Refs = dict[Hashable, Ref]


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
        self._kinds = Kinds()
        #: {key: the key that it is an alias of in the end, or itself}
        self._targets: dict[Hashable, Hashable] = {}
        #: {key that is no alias: which of the outputs its result is}
        self._places: dict[Hashable, int] = {}
        #: the key whose value is being read
        self._reading: Hashable = None

    def read(self, keys: Any) -> PickledGraph:
        """The graph of *keys*, a key or nested lists of keys."""
        outputs = [self._target(each) for each in flat_keys(keys)]
        calls, needs = self._find(outputs)
        names = list(calls)
        numbers = {key: number for number, key in enumerate(names)}
        deps = [[numbers[each] for each in refs] for refs in needs]
        try:
            order = depth_first(deps, [numbers[each] for each in outputs])
        except CycleError as problem:
            raise _cycle([names[each] for each in problem.cycle]) from None
        graph = _pickle(order, names, list(calls.values()), [len(each) for each in deps])
        added = graph.deps
        positions = [0] * len(order)
        for position, number in enumerate(order):
            positions[number] = position
        graph.deps = [
            [*[positions[each] for each in deps[number]], *more]
            for number, more in zip(order, added)
        ]
        places = {positions[numbers[each]]: each for each in outputs}
        graph.outputs = sorted(places)
        self._places = {places[position]: n for n, position in enumerate(graph.outputs)}
        return graph

    def place(self, key: Hashable) -> int:
        """Which of the outputs a key's result is."""
        return self._places[self._target(key)]

    # -- keys

    def _has(self, key: Any) -> bool:
        try:
            return key in self._dsk
        except TypeError:  # not hashable
            return False

    def _target(self, key: Any) -> Hashable:
        """The key that *key* is an alias of in the end, or itself."""
        way: dict[Hashable, None] = {}
        target = key
        while True:
            if not self._has(target):
                asked = f", which is what {key!r} stands for" if way else ""
                raise UsageProblem(f"there is no {target!r} in the graph{asked}")
            if target in self._targets:
                target = self._targets[target]
                break
            if target in way:
                aliases = list(way)
                raise _cycle([*aliases[aliases.index(target) :], target])
            way[target] = None
            following = self._alias(self._dsk[target])
            if following is _NOTHING:
                break
            target = following
        for each in way:
            self._targets[each] = target
        return target  # type: ignore[no-any-return]

    def _alias(self, value: Any) -> Any:
        """The key that *value* says it is the same as, or `_NOTHING`."""
        kind = self._kinds[type(value)]
        if kind == ALIAS:
            return value.target
        if kind == REFERENCE:
            return value.key
        return value if not kind and not is_task(value) and self._has(value) else _NOTHING

    # -- what is needed

    def _find(self, outputs: Iterable[Hashable]) -> tuple[dict[Hashable, Call], list[Refs]]:
        """All that the outputs need: `{key: call}`, and the inputs of each."""
        stack = list(outputs)
        calls: dict[Hashable, Call] = {}
        needs = []
        while stack:
            key = stack.pop()
            if key not in calls:
                self._reading = key
                refs: Refs = {}
                calls[key] = self._call(self._dsk[key], refs)
                needs.append(refs)
                stack += refs
        return calls, needs

    def _call(self, value: Any, refs: Refs) -> Call:
        """What a key's value calls; its inputs are put into *refs*."""
        if self._kinds[type(value)] == TASK:
            args = tuple([self._of_node(each, refs) for each in value.args])
            kwargs = {name: self._of_node(each, refs) for name, each in value.kwargs.items()}
            return Call(value.func, args, kwargs)
        if is_task(value):
            return Call(value[0], tuple([self._replaced(each, refs) for each in value[1:]]), {})
        return Call(as_it_is, (self._replaced(value, refs),), {})

    def _replaced(self, argument: Any, refs: Refs) -> Any:
        """A plain task's argument with its keys replaced, and its calls to be made there."""
        cls = type(argument)
        if cls is tuple and argument and callable(argument[0]):
            return Nested(argument[0], [self._replaced(each, refs) for each in argument[1:]])
        if cls is list:
            return [self._replaced(each, refs) for each in argument]
        if self._kinds[cls]:
            return self._of_node(argument, refs)
        return self._ref(argument, refs) if self._has(argument) else argument

    def _of_node(self, argument: Any, refs: Refs) -> Any:
        """As `_replaced`, of what dask's own nodes hold: keys there say that they are keys."""
        kind = self._kinds[type(argument)]
        if not kind:
            return argument
        if kind == REFERENCE:
            return self._needed(argument.key, refs)
        if kind == ALIAS:
            return self._needed(argument.target, refs)
        if kind == LIST:
            return [self._of_node(each, refs) for each in argument.args]
        keys = sorted(argument.dependencies, key=repr)
        return Nested(run_node, [argument, keys, *[self._needed(each, refs) for each in keys]])

    def _needed(self, key: Hashable, refs: Refs) -> Ref:
        if not self._has(key):
            text = f"{self._reading!r} needs {key!r}, which is not in the graph"
            raise UsageProblem(text)
        return self._ref(key, refs)

    def _ref(self, key: Hashable, refs: Refs) -> Ref:
        target = self._targets.get(key, _NOTHING)
        if target is _NOTHING:
            target = self._target(key)
        ref = refs.get(target)
        if ref is None:
            ref = refs[target] = Ref(len(refs))
        return ref


# -- pickles


def _pickle(
    order: list[int], names: list[Hashable], calls: list[Call], inputs: list[int]
) -> PickledGraph:
    """The calls in order, with their names and functions; *inputs* are how many each has.

    Its `deps` are only those that are added to these: large data.
    """
    graph = PickledGraph()
    large = LargeValues()
    uses = Counter([id(call.function) for call in calls])
    known: dict[int, int] = {}
    for number in order:
        function, args, kwargs = calls[number]
        if uses[id(function)] == 1 and not _is_named(function):
            function, args = call_given, (function, *args)
        which = known.get(id(function))
        if which is None:
            which = known[id(function)] = len(graph.functions)
            graph.functions.append(function)
        name = _name(names[number])
        graph.which.append(which)
        blob = pickled_call(args, kwargs)
        added: list[int] = []
        if len(blob) > MAX_CALL_BYTES:
            args, kwargs, added = large.take_out(args, kwargs, inputs[number])
            blob = pickled_call(args, kwargs)
        check_call(name, blob, inputs[number])
        graph.calls.append(blob)
        graph.keys.append(name)
        graph.deps.append([~each for each in added])
    graph.data = large.values
    return graph


def _is_named(function: Callable[..., Any]) -> bool:
    """Whether a function's pickle only says where it is defined."""
    if not isinstance(function, (FunctionType, BuiltinFunctionType, type)):
        return False
    return "<" not in function.__qualname__ and function.__module__ != "__main__"


def _name(key: Hashable) -> str:
    """A key as text that the wire can carry."""
    name = key if isinstance(key, str) else str(key)
    # halves of characters, as in odd names of files, cannot be encoded
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()


def _cycle(keys: Iterable[Hashable]) -> UsageProblem:
    return UsageProblem(f"the graph has a cycle: {' needs '.join(map(repr, keys))}")
