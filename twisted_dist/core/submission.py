"""New tasks: submitted ones, and data that was scattered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import count, repeat
from typing import Final

from twisted_dist.aliases import Key, TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.claims import Claims, Held
from twisted_dist.core.demand import Demand
from twisted_dist.core.holders import add_dependent, add_holder, add_want, note_size
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    DEPENDENCY_LOST,
    ERRED,
    MEMORY,
    QUEUED,
    RELEASED,
    UNMET,
    WAITING,
    SchedulerFunction,
    SchedulerTask,
    TaskGroup,
)
from twisted_dist.core.transitions import (
    activate,
    fail,
    make_ready_all,
    release_if_unneeded,
    remember,
)

#: calls of so many tasks in one message are small
MANY: Final = 1000


class Submissions:
    """Handles the stimuli that make tasks."""

    def __init__(self, state: SchedulerState, claims: Claims) -> None:
        self._state = state
        self._claims = claims

    def function_defined(self, fact: s.FunctionDefined) -> None:
        """Keep a function that tasks will name."""
        functions = self._state.functions
        if fact.digest not in functions:
            functions[fact.digest] = SchedulerFunction(fact.digest, fact.name, fact.blob)

    # -- tasks

    def tasks_submitted(self, fact: s.TasksSubmitted) -> None:
        """Make tasks; those that are wanted, and what they need, are to be computed."""
        state = self._state
        client = state.clients.get(fact.client)
        if client is None:
            return
        ids = range(fact.first, fact.first + len(fact.calls))
        is_new = state.tasks.keys().isdisjoint(ids) and client.aliases.keys().isdisjoint(ids)
        if not is_new and not client.returns:
            return  # ids that are in use: this client confuses its own
        demand = state.demand(fact.options)
        if demand is not None:
            demand.tasks += 1  # it stays until we are done
        client.top = max(client.top, ids.stop)
        groups = self._groups(fact, demand)
        if groups is None:
            self._refuse(client, fact, [], DEPENDENCY_LOST, "its function was never sent")
        elif demand is not None and demand.is_hopeless and state.workers and not state.recovering:
            names = groups[0].function
            text = f"{names.name if names else 'data'}: {demand.unmet(state.workers.values())}"
            self._refuse(client, fact, groups, UNMET, text)
        else:
            state.submitted += len(ids)
            state.story.note(state.now, "was submitted", ids, client.name or "a client")
            if fact.deps or fact.keys or fact.wanted or demand is not None or not is_new:
                self._submit(client, fact, groups)
            else:
                self._submit_roots(client, fact, groups)
            self._claims.submitted(ids)
        if demand is not None:
            demand.tasks -= 1
            if not demand.tasks:
                state.drop_demand(demand)

    def _groups(self, fact: s.TasksSubmitted, demand: Demand | None) -> list[TaskGroup] | None:
        """One for each function; None where one is unknown."""
        state = self._state
        groups = []
        for digest in fact.digests:
            function = state.functions.get(digest)
            if function is None:
                return None
            group = TaskGroup(function, fact.first, state.submitted, fact.options, demand)
            if len(fact.calls) < MANY:
                group.call_bytes = sum(map(len, fact.calls)) / len(fact.calls) if fact.calls else 0
            groups.append(group)
        if not groups or (fact.which and max(fact.which) >= len(groups)):
            return None
        return groups

    def _refuse(
        self,
        client: SchedulerClient,
        fact: s.TasksSubmitted,
        groups: list[TaskGroup],
        kind: str,
        why: str,
    ) -> None:
        """Have tasks fail at once. They stay on the books: others may need them."""
        functions = [each.function for each in groups] or [None]
        names = [TaskGroup(each, fact.first, self._state.submitted) for each in functions]
        for offset in fact.wanted or range(len(fact.calls)):
            task_id = fact.first + offset
            group = names[fact.which[offset] if fact.which and groups else 0]
            task = self._state.tasks[task_id] = SchedulerTask(task_id, group, b"")
            if fact.keys and fact.keys[offset]:
                task.key = fact.keys[offset]
            add_want(task, client)
            fail(self._state, task, (kind, b"", why))

    def _submit_roots(
        self, client: SchedulerClient, fact: s.TasksSubmitted, groups: list[TaskGroup]
    ) -> None:
        """The short way of what needs nothing: lanes into the common queue."""
        tasks, alone = self._state.tasks, client.alone
        lane: deque[SchedulerTask] = deque()
        group = groups[0]
        which = fact.which
        for offset, call in enumerate(fact.calls):
            if which and groups[which[offset]] is not group:
                if lane:
                    self._state.ready.push_lane(lane)
                    lane = deque()
                group = groups[which[offset]]
            task = SchedulerTask(fact.first + offset, group, call)
            tasks[task.id] = task
            task.wanted_by = alone
            task.state = QUEUED
            lane.append(task)
        if lane:
            self._state.ready.push_lane(lane)

    def _submit(
        self, client: SchedulerClient, fact: s.TasksSubmitted, groups: list[TaskGroup]
    ) -> None:
        state = self._state
        tasks, alone = state.tasks, client.alone
        keys, which, wanted = fact.keys, fact.which, frozenset(fact.wanted)
        made: list[SchedulerTask] = []
        roots: list[SchedulerTask] = []
        group = groups[0]
        demand = group.demand  # of all of them
        returns = client.returns
        for task_id, call, dep_ids in zip(count(fact.first), fact.calls, fact.deps or repeat(())):
            offset = task_id - fact.first
            is_wanted = not wanted or offset in wanted
            key = keys[offset] if keys else ""
            if returns and (task_id in tasks or task_id in client.aliases):
                if is_wanted and task_id in tasks:  # told again, by who had gone
                    self._want_again(client, tasks[task_id])
                continue
            if key and fact.shared and key in state.keys:
                if is_wanted:
                    self.share(client, task_id, state.keys[key])
                continue
            if which:
                group = groups[which[offset]]
            tasks[task_id] = task = SchedulerTask(task_id, group, call)
            if demand is not None:
                demand.tasks += 1
            if key:
                self._name(task, key, fact.shared)
            if is_wanted:
                task.wanted_by = alone
            if dep_ids:
                deps = self._find_deps(client, dep_ids)
                if deps is None:
                    text = f"an argument of {task.name} was released before it was submitted"
                    fail(state, task, (DEPENDENCY_LOST, b"", text))
                    continue
                task.deps = unique = tuple(dict.fromkeys(deps))
                if len(unique) < len(deps):
                    state.outbox.dispatch.rows[task] = deps
                for dep in unique:
                    add_dependent(dep, task)
            if not is_wanted:
                made.append(task)
            elif dep_ids or not group.is_plain:
                activate(state, task, roots)
            else:  # as `activate`
                task.state = WAITING
                roots.append(task)
        for task in reversed(made):  # what nothing that is wanted needs
            if not task.dependents:
                release_if_unneeded(state, task)
        make_ready_all(state, roots)

    def _name(self, task: SchedulerTask, key: Key, shared: bool) -> None:
        task.key = key
        if shared:
            self._state.keys[key] = task

    def _find_deps(
        self, client: SchedulerClient, ids: Iterable[TaskId]
    ) -> list[SchedulerTask] | None:
        """The tasks that a client means, by position; None where one is gone."""
        deps = []
        tasks, aliases = self._state.tasks, client.aliases
        for each in ids:
            task = tasks.get(each) or aliases.get(each)
            if task is None:
                return None
            deps.append(task)
        return deps

    def _want_again(self, client: SchedulerClient, task: SchedulerTask) -> None:
        """A client that was gone has a future again of what others have kept."""
        add_want(task, client)
        self._report(client, task.id, task)

    def share(self, client: SchedulerClient, own_id: TaskId, task: SchedulerTask) -> None:
        """Let a client have a task under an id of its own, beside whoever has it already."""
        if task.wanted_by and client in task.wanted_by:
            client.names.setdefault(task, [task.id]).append(own_id)
        else:
            add_want(task, client)
            client.names[task] = [own_id]
        client.aliases[own_id] = task
        self._report(client, own_id, task)

    def _report(self, client: SchedulerClient, own_id: TaskId, task: SchedulerTask) -> None:
        """Tell a client at once of what has ended already, and see that the rest does."""
        if task.state is MEMORY:
            self._state.outbox.finished(client, own_id, task.nbytes, None)
        elif task.state is ERRED and task.erred_by is not None:
            self._state.outbox.erred(client, own_id, *task.erred_by)
        elif task.state is RELEASED:
            activate(self._state, task)

    def give_up_unrunnable(self, patience_s: float) -> None:
        """Fail what no worker may run any more, where none came for *patience_s* seconds."""
        state = self._state
        if not state.workers:
            return
        for task, since in list(state.unrunnable.items()):
            if since + patience_s > state.now:
                break
            demand = task.group.demand
            assert demand is not None
            if demand.waits or demand.parting:  # who retires may come back, or another
                del state.unrunnable[task]
                state.unrunnable[task] = state.now  # looked at again later
            elif task in state.unrunnable:
                text = f"{task.name}: {demand.unmet(state.workers.values())}"
                fail(state, task, (UNMET, b"", text))

    # -- data

    def data_put(self, fact: s.DataPut) -> None:
        """A worker has data that its client tells of soon, or never; or has told of already.

        The last is so where both return to a scheduler that has begun anew.
        """
        state = self._state
        worker = state.workers.get(fact.worker)
        if worker is None:
            return
        for task_id in fact.ids:
            task = state.tasks.get(task_id)
            if task is None:
                self._claims.hold(worker, task_id, Held(0, 0))
                self._claims.expire(worker, [task_id])
            elif task.group.function is None and task.state is MEMORY:
                self._add_copy(task, worker)
            elif task.group.function is None and task.state is RELEASED:
                remember(state, task, worker)
            else:
                state.outbox.release(worker, task)

    def _add_copy(self, task: SchedulerTask, worker: SchedulerWorker) -> None:
        """There is one more copy of scattered data."""
        add_holder(task, worker)
        if worker.retiring is not None:
            self._state.to_replicate[task] = None

    def data_scattered(self, fact: s.DataScattered) -> None:
        """A client has put values on a worker.

        That may have registered anew just before, and not have known: it says where they are.
        """
        state = self._state
        client = state.clients.get(fact.client)
        if client is None:
            return
        holder = state.workers.get(fact.holder)
        group = TaskGroup(None, fact.ids[0] if fact.ids else 0, state.submitted)
        state.submitted += len(fact.ids)
        client.top = max(client.top, max(fact.ids, default=0) + 1)
        for task_id, nbytes in zip(fact.ids, fact.nbytes):
            task = state.tasks.get(task_id)
            if task is None:
                task = state.tasks[task_id] = SchedulerTask(task_id, group, b"")
                add_want(task, client)
            elif client.returns:
                self._want_again(client, task)
            if task.group.function is not None:
                continue  # computed, not scattered: this client confuses its own ids
            if task.state is RELEASED:
                note_size(task, nbytes)
            holders = self._claims.take_holders(task_id)
            if holder is not None and holder not in holders and task_id not in client.forgone:
                holders.append(holder)
            for worker in holders:
                if task.state is ERRED:  # its first holder left before this copy was told of
                    state.outbox.release(worker, task)
                elif task.state is MEMORY:
                    self._add_copy(task, worker)
                else:
                    remember(state, task, worker)
            if task.state is RELEASED and not state.recovering:
                activate(state, task)  # finds that it is lost, and says so
