"""Why a task is not running, or where its time went, in words and in plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_dist.aliases import Key, TaskId
from twisted_dist.core.demand import show_resources
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    ERRED,
    MEMORY,
    NO_WORKER,
    PROCESSING,
    QUEUED,
    WAITING,
    SchedulerTask,
)

#: tasks and workers that one sentence names
MOST_NAMED: Final = 3
#: entries of a story that are told, the last ones
MOST_ENTRIES: Final = 50
#: seconds after which it is told that a worker is not heard of: two heartbeats
SILENT_S: Final = 10.0
#: tasks on the way from one to what it waits for in the end
MOST_STEPS: Final = 1_000


def find(state: SchedulerState, what: TaskId | Key) -> SchedulerTask | None:
    """A task by its id, or by its name; of several of one name, the last."""
    if isinstance(what, int):
        return state.tasks.get(what)
    found = state.keys.get(what)
    if found is not None:
        return found
    return next((t for t in reversed(state.tasks.values()) if t.name == what), None)


def explain(state: SchedulerState, task: SchedulerTask) -> dict[str, Any]:
    """What is known of a task, at `SchedulerState.now`.

    Returns:
        ``key``, ``state``, ``why`` (sentences), ``function``, ``expected_s`` (None before the
        first of its function has ended), ``attempts``, ``raised``, ``lost`` and ``killed``
        (attempts that ended so), ``workers`` (addresses that have it, or its result),
        ``nbytes``, ``story`` (``[seconds ago, what happened, where]``, the oldest first).
    """
    function = task.group.function
    raised, lost, killed = task.failures or (0, 0, 0)
    holders = [task.processing_on] if task.processing_on is not None else task.who_has or ()
    story = list(state.story.of(task.id))[-MOST_ENTRIES:]
    return {
        "key": task.name,
        "state": task.state,
        "why": _why(state, task),
        "function": function.name if function is not None else "",
        "expected_s": function.duration if function is not None else None,
        "attempts": task.attempt,
        "raised": raised,
        "lost": lost,
        "killed": killed,
        "workers": [each.address for each in holders],
        "nbytes": task.nbytes,
        "story": [[round(state.now - e.now, 6), e.what, e.where] for e in story],
    }


def _why(state: SchedulerState, task: SchedulerTask) -> str:
    words = _WORDS.get(task.state)
    return words(state, task) if words is not None else "nobody needs it at the moment"


def _no_worker(state: SchedulerState, task: SchedulerTask) -> str:
    demand = task.group.demand
    assert demand is not None
    return demand.unmet(state.workers.values())


def _memory(state: SchedulerState, task: SchedulerTask) -> str:
    return f"it is done: {task.nbytes} bytes, held by {_names(task.who_has or ())}"


def _erred(state: SchedulerState, task: SchedulerTask) -> str:
    assert task.erred_by is not None
    kind, _, text = task.erred_by
    return f"it has failed ({kind}): {text.strip().rpartition(chr(10))[2]}"


def _waiting(state: SchedulerState, task: SchedulerTask) -> str:
    missing = [dep for dep in task.deps if dep.state is not MEMORY]
    told = ", ".join(f"{each.name} ({each.state})" for each in missing[:MOST_NAMED])
    if len(missing) > MOST_NAMED:
        told += f" and {len(missing) - MOST_NAMED} more"
    words = f"it waits for {len(missing)} of its {len(task.deps)} inputs: {told}"
    root = missing[0]
    for _ in range(MOST_STEPS):
        further = next((dep for dep in root.deps if dep.state is not MEMORY), None)
        if root.state is not WAITING or further is None:
            break
        root = further
    return f"{words}. {root.name}: {_why(state, root)}" if root.state is not WAITING else words


def _queued(state: SchedulerState, task: SchedulerTask) -> str:
    order = task.order
    for worker in state.backlogged:
        if task in worker.backlog:
            before = sum(each.state is QUEUED and each.order < order for each in worker.backlog)
            return (
                f"its inputs are on {worker.label}, where {len(worker.processing)} tasks are "
                f"and {before} wait before it; moving them would take longer"
            )
    demand = task.group.demand
    if demand is None:
        before = sum(each.state is QUEUED and each.order < order for each in state.ready)
        return f"{before} tasks come before it, and {_all_busy(state.workers.values())}"
    before = sum(each.state is QUEUED and each.order < order for each in demand.ready)
    words = f"it asks for {demand}; {before} tasks that do so come before it, and "
    if demand.resources:
        free = "; ".join(
            f"{each.label} has {show_resources(each.free.items())} free"
            for each in list(demand.able)[:MOST_NAMED]
        )
        return words + (free or "nobody has that")
    return words + _all_busy(demand.able)


def _all_busy(workers: Iterable[SchedulerWorker]) -> str:
    those = list(workers)
    if not those:
        return "no worker is registered"
    if all(each.retiring is not None for each in those):
        return f"all workers retire, and begin nothing more: {_names(those)}"
    those = [each for each in those if each.retiring is None]
    threads = sum(each.nthreads for each in those)
    return f"all {threads} threads of {len(those)} workers have enough to do"


def _processing(state: SchedulerState, task: SchedulerTask) -> str:
    worker = task.processing_on
    assert worker is not None
    given = [e.now for e in state.story.of(task.id) if e.what == "was given"]
    since = f" for {state.now - given[-1]:.3f} s" if given else ""
    words = f"{worker.label} has had it{since} (attempt {task.attempt})"
    if task in worker.seceded:
        return f"{words}; it waits for tasks that it has submitted itself"
    before = list(worker.processing).index(task)
    if before >= worker.nthreads:
        words += f"; {before} tasks were given to that worker before it and have not ended"
    silent = state.now - worker.last_seen
    if silent > SILENT_S:
        words += f"; nothing was heard of that worker for {silent:.0f} s"
    return words


def _names(workers: Iterable[SchedulerWorker]) -> str:
    labels = [each.label for each in workers]
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return ", ".join(labels[:MOST_NAMED]) + more


_WORDS: Final[dict[str, Callable[[SchedulerState, SchedulerTask], str]]] = {
    WAITING: _waiting,
    NO_WORKER: _no_worker,
    QUEUED: _queued,
    PROCESSING: _processing,
    MEMORY: _memory,
    ERRED: _erred,
}
