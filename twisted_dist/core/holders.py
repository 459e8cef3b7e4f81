"""Who holds a result, who wants it, what needs it: tables in pairs, each the inverse of the other.

A `who_has` or `wanted_by` is never changed in place. Nearly all tasks have one holder and
one client, and share that peer's ``alone`` (or ``served``): a dict for each would double a
task's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from twisted_dist.aliases import CLIENT_SHIFT, TaskId
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.task import Holders, SchedulerTask

#: so many dependents, or holders, are a tuple: most tasks have one or two, and a dict takes five
#: times as much
_FEW: Final = 4


def add_dependent(task: SchedulerTask, dependent: SchedulerTask) -> None:
    """*dependent* needs the result."""
    known = task.dependents
    if known is None:
        task.dependents = (dependent,)
    elif isinstance(known, dict):
        known[dependent] = None
    elif len(known) < _FEW:
        task.dependents = (*known, dependent)
    else:
        task.dependents = dict.fromkeys((*known, dependent))


def drop_dependent(task: SchedulerTask, dependent: SchedulerTask) -> None:
    """*dependent* is forgotten."""
    known = task.dependents
    if known == (dependent,):
        task.dependents = None
    elif isinstance(known, dict):
        known.pop(dependent, None)
    elif known is not None:
        task.dependents = tuple(each for each in known if each is not dependent) or None


def add_holder(task: SchedulerTask, worker: SchedulerWorker) -> None:
    """*worker* holds the result, whose `nbytes` is known."""
    holders = task.who_has
    if holders is None:
        task.who_has = worker.alone
    elif worker in holders:
        return
    else:
        task.who_has = _as_holders([*holders, worker])
    worker.has_what[task] = None
    worker.nbytes += task.nbytes


def drop_holder(task: SchedulerTask, worker: SchedulerWorker) -> None:
    """A holder does not hold it any more; None is left after the last."""
    if task.who_has is worker.alone:
        task.who_has = None
    else:
        left = [each for each in task.who_has or () if each is not worker]
        task.who_has = _as_holders(left) if left else None
    del worker.has_what[task]
    worker.nbytes -= task.nbytes


def _as_holders(workers: list[SchedulerWorker]) -> Holders:
    if len(workers) == 1:
        return workers[0].alone
    return tuple(workers) if len(workers) <= _FEW else dict.fromkeys(workers)


def add_want(task: SchedulerTask, client: SchedulerClient) -> None:
    """*client* has a future of it."""
    wanted = task.wanted_by
    if wanted is None:
        task.wanted_by = client.alone
    elif client not in wanted:
        task.wanted_by = {**wanted, client: False}
    if task.id >> CLIENT_SHIFT != client.id:
        client.borrowed[task] = None


def drop_want(task: SchedulerTask, client: SchedulerClient) -> bool:
    """*client* has none any more, under whatever id; whether it had."""
    wanted = task.wanted_by
    if wanted is None or client not in wanted:
        return False
    if wanted[client]:
        client.inlined -= task.nbytes
    if client.names:
        for own_id in client.names.pop(task, ()):
            client.aliases.pop(own_id, None)
    if client.borrowed:
        client.borrowed.pop(task, None)
    if wanted is client.alone or wanted is client.served:
        task.wanted_by = None
        return True
    left = {each: was_pushed for each, was_pushed in wanted.items() if each is not client}
    if len(left) == 1:
        ((other, was_pushed),) = left.items()
        left = other.served if was_pushed else other.alone
    task.wanted_by = left or None
    return True


def note_pushed(task: SchedulerTask, client: SchedulerClient) -> None:
    """The value, `nbytes` long, is sent along to a client that wants it."""
    wanted = task.wanted_by
    assert wanted is not None
    client.inlined += task.nbytes
    task.wanted_by = client.served if wanted is client.alone else {**wanted, client: True}


def note_size(task: SchedulerTask, nbytes: int) -> None:
    """A result has come; computed anew, its size may be another."""
    for client, was_pushed in (task.wanted_by or {}).items():
        if was_pushed:
            client.inlined += nbytes - task.nbytes
    task.nbytes = nbytes


def wanted_tasks(
    client: SchedulerClient, tasks: Mapping[TaskId, SchedulerTask]
) -> list[SchedulerTask]:
    """All that a client wants, of *tasks* on the books.

    There is no table of it, which would be as large as that of all tasks, for each client
    in turn. It takes as long as the client has made tasks, or as there are any.
    """
    first = client.id << CLIENT_SHIFT
    own: Iterable[SchedulerTask]
    if client.top - first < len(tasks):
        own = filter(None, map(tasks.get, range(first, client.top)))
    else:
        own = (each for each in tasks.values() if first <= each.id < client.top)
    held = [each for each in own if each.wanted_by and client in each.wanted_by]
    return [*held, *client.borrowed]
