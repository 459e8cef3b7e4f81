"""Who holds a result, and who wants it: the tables in pairs, each the inverse of the other.

A `who_has` or `wanted_by` is never changed in place. Nearly all tasks have one holder and
one client, and share that peer's ``alone``: a dict for each would double a task's size.
"""

from __future__ import annotations

from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.task import SchedulerTask


def add_holder(task: SchedulerTask, worker: SchedulerWorker) -> None:
    """*worker* holds the result, whose `nbytes` is known."""
    holders = task.who_has
    if holders is None:
        task.who_has = worker.alone
    elif worker in holders:
        return
    else:
        task.who_has = {**holders, worker: None}
    worker.has_what[task] = None
    worker.nbytes += task.nbytes


def drop_holder(task: SchedulerTask, worker: SchedulerWorker) -> None:
    """A holder does not hold it any more; None is left after the last."""
    if task.who_has is worker.alone:
        task.who_has = None
    else:
        left = {each: None for each in task.who_has or () if each is not worker}
        if len(left) == 1:
            (other,) = left
            left = other.alone
        task.who_has = left or None
    del worker.has_what[task]
    worker.nbytes -= task.nbytes


def add_want(task: SchedulerTask, client: SchedulerClient) -> None:
    """*client* has a future of it."""
    wanted = task.wanted_by
    if wanted is None:
        task.wanted_by = client.alone
        client.wants_what[task] = 0
    elif client not in wanted:
        task.wanted_by = {**wanted, client: None}
        client.wants_what[task] = 0


def drop_want(task: SchedulerTask, client: SchedulerClient) -> bool:
    """*client* has none any more, under whatever id; whether it had."""
    pushed = client.wants_what.pop(task, None)
    if pushed is None:
        return False
    client.inlined -= pushed
    if client.names:
        for own_id in client.names.pop(task, ()):
            client.aliases.pop(own_id, None)
    if task.wanted_by is client.alone:
        task.wanted_by = None
        return True
    left = {each: None for each in task.wanted_by or () if each is not client}
    if len(left) == 1:
        (other,) = left
        left = other.alone
    task.wanted_by = left or None
    return True
