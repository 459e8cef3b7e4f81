"""What a client pickles: functions once each, calls with the futures they wait for."""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import cloudpickle

from twisted_dist.aliases import Digest, TaskId
from twisted_dist.client.settled import are_same, names_in, traits
from twisted_dist.errors import UsageProblem
from twisted_dist.execution.payloads import dumps

#: arguments of one call beyond this are to be scattered; a frame must hold them
MAX_CALL_BYTES: Final = 8 * 2**20
#: inputs of one task: a frame must hold their ids, and again with where they are
MAX_INPUTS: Final = 500_000
#: a pickle longer than this holds more than a module's and a function's name
MAX_REFERENCE_BYTES: Final = 256


def function_name(function: Any) -> str:
    """What a function is called in keys and messages; its type's name where it has none."""
    return str(getattr(function, "__name__", type(function).__name__))


def _dump() -> Callable[[Any], bytes]:
    # plain pickle is several times as fast, but does not know of modules registered by value
    return cloudpickle.dumps if cloudpickle.list_registry_pickle_by_value() else dumps


class FunctionTable:
    """The digests of the functions that a client has pickled.

    What pickles by reference is pickled once; what goes by value (lambdas, closures,
    ``__main__``) anew each time, unless `client.settled` knows that it is still the same.

    Args:
        announce: told ``(digest, name, pickle)`` of each new function, before its digest is
            returned for the first time.
    """

    def __init__(self, announce: Callable[[Digest, str, bytes], None]) -> None:
        self._announce = announce
        self._announced: set[Digest] = set()
        #: held for ever, as their modules hold them
        self._by_reference: dict[Any, Digest] = {}
        #: {function by value: its digest, names and traits, of `client.settled`}
        self._settled: WeakKeyDictionary[Any, tuple[Digest, tuple[str, ...], list[object]]]
        self._settled = WeakKeyDictionary()

    def digest(self, function: Callable[..., Any]) -> Digest:
        """The function's digest.

        Raises:
            UsageProblem: *function* is not callable, or too large.
        """
        if not callable(function):
            raise UsageProblem(f"{function!r} is not callable")
        try:
            known = self._by_reference.get(function)
        except TypeError:  # unhashable
            known = None
        if known is not None:
            return known
        dump = _dump()
        is_function = type(function) is types.FunctionType and dump is dumps
        if is_function:
            settled = self._settled.get(function)
            if settled is not None and are_same(settled[2], traits(function, settled[1])):
                return settled[0]
            names = names_in(function.__code__)
            before = traits(function, names)
        blob = dump(function)
        if len(blob) > MAX_CALL_BYTES:
            raise UsageProblem(
                f"the function takes {len(blob)} bytes with what it refers to, more than "
                f"{MAX_CALL_BYTES}: give large data as an argument, through scatter()"
            )
        digest = hashlib.blake2b(blob, digest_size=16).digest()
        if digest not in self._announced:
            self._announced.add(digest)
            self._announce(digest, function_name(function), blob)
        if dump is dumps and _by_reference(function, blob):
            self._by_reference[function] = digest
        elif is_function and before is not None:
            self._settled[function] = digest, names, before
        return digest


def _by_reference(function: Any, blob: bytes) -> bool:
    if not isinstance(function, (types.FunctionType, types.BuiltinFunctionType)):
        return False
    if len(blob) >= MAX_REFERENCE_BYTES:
        return False
    try:
        return pickle.dumps(function, protocol=5) == blob
    except Exception:  # by value, as what __main__ defines
        return False


def check_call(name: str, blob: bytes, inputs: int) -> None:
    """Refuse a call that no message can carry. Raises UsageProblem."""
    if len(blob) > MAX_CALL_BYTES:
        raise UsageProblem(
            f"the arguments of {name} take {len(blob)} bytes, more than "
            f"{MAX_CALL_BYTES}: scatter() them and pass the future"
        )
    if inputs > MAX_INPUTS:
        raise UsageProblem(
            f"{name} has {inputs} inputs, more than {MAX_INPUTS}: bring some together first"
        )


def pickled_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """A call as its task's process loads it."""
    return _dump()((args, kwargs))


class Calls(NamedTuple):
    """Pickled calls, with the ids of the futures among each one's arguments."""

    blobs: list[bytes]
    deps: list[list[TaskId]]
    #: whether any of *deps* is not empty
    any_deps: bool
    #: the futures themselves: kept until the calls are under way, or they might be released
    #: before; a generator of arguments drops each as soon as it gives the next
    held: list[object]
    #: of *blobs*
    nbytes: int = 0


class CallPickler:
    """Pickles calls; a future that is pickled meanwhile becomes a dependency.

    Thread-safe: each thread collects its own.
    """

    def __init__(self) -> None:
        self._collecting = threading.local()

    def note(self, task_id: TaskId, future: object) -> int | None:
        """Note a future: its position among the call's inputs.

        None where no call is being pickled in this thread.
        """
        found: dict[TaskId, int] | None = getattr(self._collecting, "ids", None)
        if found is None:
            return None
        self._collecting.held.append(future)
        return found.setdefault(task_id, len(found))

    def pickle(
        self,
        name: str,
        calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
        most_bytes: int = sys.maxsize,
    ) -> Calls:
        """Pickle calls of the function called *name*, and no more once *most_bytes* are passed.

        Raises:
            UsageProblem: the arguments of one are too large.
        """
        blobs: list[bytes] = []
        deps: list[list[TaskId]] = []
        any_deps = False
        found: dict[TaskId, int] = {}  # a call pickled twice, by both picklers, notes each once
        dump = _dump()
        nbytes = 0
        held: list[object] = []
        # a generator of calls may submit, and so come here again meanwhile
        outer = getattr(self._collecting, "ids", None), getattr(self._collecting, "held", None)
        self._collecting.ids, self._collecting.held = found, held
        try:
            for call in calls:
                blob = dump(call)
                size = len(blob)
                if size > MAX_CALL_BYTES or found:
                    check_call(name, blob, len(found))
                blobs.append(blob)
                deps.append(list(found))
                if found:
                    any_deps = True
                    found.clear()
                nbytes += size
                if nbytes > most_bytes:
                    break
        finally:
            self._collecting.ids, self._collecting.held = outer
        return Calls(blobs, deps, any_deps, held, nbytes)
