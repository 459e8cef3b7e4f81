"""Results that a client lets go of: as many as it names, in one pass.

Every task is let go of once, so the common way is written out: it does what
`core.transitions.unwant` and `core.transitions.release_if_unneeded` do, without calls for each.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_dist.aliases import TaskId
from twisted_dist.core.holders import drop_dependent
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import FORGOTTEN, MEMORY, RELEASED
from twisted_dist.core.transitions import release_if_unneeded, unwant


def let_go(state: SchedulerState, client: SchedulerClient, ids: Iterable[TaskId]) -> None:
    """*client* has no future any more of these of its tasks, which it has by no other ids."""
    tasks, releases = state.tasks, state.outbox.releases
    alone, served = client.alone, client.served
    is_common = not (
        client.borrowed or state.replicated or state.copying or state.outbox.dispatch.rows
    )
    for task_id in ids:
        task = tasks.get(task_id)
        if task is None:
            continue
        wanted = task.wanted_by
        if not is_common or (wanted is not alone and wanted is not served):
            unwant(state, client, task)
            continue
        if wanted is served:
            client.inlined -= task.nbytes
        task.wanted_by = None
        if task.waiters:
            continue
        if task.state is not MEMORY or task.rare is not None or task.group.demand is not None:
            release_if_unneeded(state, task)
            continue
        for worker in task.who_has or ():
            del worker.has_what[task]
            worker.nbytes -= task.nbytes
            message = releases[worker]
            message.ids.append(task_id)
            message.attempts.append(task.attempt)
        task.who_has = None
        if task.dependents:
            task.state = RELEASED
            continue
        task.state = FORGOTTEN
        del tasks[task_id]
        if task.deps:
            for dep in task.deps:
                drop_dependent(dep, task)
                if not dep.dependents:
                    release_if_unneeded(state, dep)
            task.deps = ()
