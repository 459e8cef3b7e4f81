"""What users may ask the scheduler about: read-only views of its state, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final

from twisted_dist.core.explain import explain, find
from twisted_dist.core.state import SchedulerState
from twisted_dist.errors import RefusedError


def who_has(state: SchedulerState, ids: Any) -> dict[str, list[str]]:
    """``{key: [addresses that hold it]}``, of the task ids given or of all."""
    if ids is not None and not (type(ids) is list and set(map(type, ids)) <= {int}):
        raise RefusedError("who_has takes a list of task ids, or nothing for all")
    tasks = state.tasks.values() if ids is None else map(state.tasks.get, ids)
    return {t.name: [w.address for w in t.who_has or ()] for t in tasks if t is not None}


def has_what(state: SchedulerState, _arguments: Any) -> dict[str, list[str]]:
    """``{worker address: [keys it holds]}``."""
    return {w.address: [t.name for t in w.has_what] for w in state.workers.values()}


def prefix_of(key: str) -> str:
    """A key up to what only numbers it: of ``inc-3f``, as of ``('inc-9e', 0)``, that is ``inc``."""
    first = key.partition(",")[0] if key.startswith("(") else key
    prefix, *words = first.strip("()'\"").split("-")
    for word in takewhile(str.isalpha, words):
        prefix += "-" + word
    return prefix


def nbytes(state: SchedulerState, what: Any) -> dict[str, int]:
    """Bytes of what is held, by key, or summed by `prefix_of`; what has copies counts once."""
    is_pair = type(what) is list and len(what) == len(("keys", "summary"))
    keys, summary = what if is_pair else (None, None)
    is_list = type(keys) is list and all(type(each) is str for each in keys)
    if type(summary) is not bool or not (keys is None or is_list):
        raise RefusedError("nbytes takes a list of keys or nothing, and whether to sum them up")
    wanted = frozenset(keys or ())
    sizes: dict[str, int] = {}
    for task in state.tasks.values():
        if task.who_has and (keys is None or task.name in wanted):
            name = prefix_of(task.name) if summary else task.name
            sizes[name] = task.nbytes + (sizes.get(name, 0) if summary else 0)
    return sizes


def nthreads(state: SchedulerState, _arguments: Any) -> dict[str, int]:
    """``{worker address: threads}``."""
    return {w.address: w.nthreads for w in state.workers.values()}


def info(state: SchedulerState, _arguments: Any) -> dict[str, Any]:
    """The workers, each with its name, threads, load and what it measured of itself."""
    return {
        "workers": {
            w.address: {
                "name": w.name,
                "status": "running" if w.retiring is None else "retiring",
                "nthreads": w.nthreads,
                "processing": len(w.processing),
                "queued": len(w.backlog),
                "in_memory": len(w.has_what),
                "metrics": dict(w.metrics),
            }
            for w in state.workers.values()
        }
    }


def explained(state: SchedulerState, what: Any) -> dict[str, Any]:
    """Why a task, by id or key, is not running, or where its time went (`core.explain`)."""
    names = what if type(what) is list else [what]
    if not names or not all(isinstance(each, (int, str)) for each in names):
        raise RefusedError("explain takes a task's id or its key")
    task = next(filter(None, (find(state, each) for each in names)), None)
    if task is None:
        key = str(names[-1])[:100]
        raise RefusedError(f"there is no task {key!r} here: it was released, or never submitted")
    return explain(state, task)


VIEWS: Final[dict[str, Callable[[SchedulerState, Any], Any]]] = {
    "who_has": who_has,
    "has_what": has_what,
    "nthreads": nthreads,
    "nbytes": nbytes,
    "info": info,
    "explain": explained,
}
