"""Turns the tasks that workers are given into messages: runs of one function, and sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted_dist.aliases import Address, TaskId
from twisted_dist.core.instructions import Instruction, Run, SendFunction, SendTasks
from twisted_dist.core.peers import SchedulerWorker, stayers
from twisted_dist.core.story import Story
from twisted_dist.core.task import SchedulerFunction, SchedulerTask


class Dispatch:
    """What was given to workers since the last messages, in the order in which it was."""

    __slots__ = ("given", "rows", "story")

    def __init__(self, story: Story) -> None:
        self.story = story
        self.given: dict[SchedulerWorker, list[SchedulerTask]] = {}
        #: {task: its inputs by position}, where two positions are one task, by way of a shared
        #: key; `SchedulerTask.deps` has each once
        self.rows: dict[SchedulerTask, list[SchedulerTask]] = {}

    def take(self, now: float) -> list[Instruction]:
        """A message for each worker; before them, the functions that they do not know."""
        functions: list[Instruction] = []
        messages: list[Instruction] = []
        #: of the story: what was given alone, and to whom
        ids: list[TaskId] = []
        labels: list[str] = []
        for worker, tasks in self.given.items():
            if len(tasks) > 1:
                messages.append(self._several(worker, tasks, now, functions))
                continue
            (task,) = tasks  # long tasks: comprehensions over one would take longer
            function = task.group.function
            assert function is not None
            if function.digest is not worker.last_digest:
                functions += _introduce(worker, function)
            deps: Sequence[Sequence[TaskId]] = ()
            sources: Sequence[tuple[Address, list[TaskId]]] = ()
            if task.deps:
                places: dict[TaskId, Address] = {}
                deps = (self._inputs(worker, task, places),)
                if places:
                    sources = _by_address(places)
            task_id, is_wanted = task.id, task.wanted_by is not None
            ids.append(task_id)
            labels.append(worker.label)
            attempts, calls = (task.attempt,), (task.call,)
            run = Run(function.digest, (task_id,), attempts, calls, deps, is_wanted)
            messages.append(SendTasks(worker.id, (run,), sources))
        self.story.note_each(now, "was given", ids, labels)
        self.given.clear()
        return functions + messages

    def _several(
        self,
        worker: SchedulerWorker,
        tasks: list[SchedulerTask],
        now: float,
        functions: list[Instruction],
    ) -> SendTasks:
        """Many tasks for a worker; *functions* gets those that it lacks."""
        places: dict[TaskId, Address] = {}
        runs = []
        for part in _parts(tasks):
            first = part[0]
            function = first.group.function
            assert function is not None
            if function.digest is not worker.last_digest:
                functions += _introduce(worker, function)
            deps = [self._inputs(worker, task, places) for task in part] if first.deps else []
            ids = [task.id for task in part]
            attempts = [task.attempt for task in part]
            calls = [task.call for task in part]
            is_wanted = first.wanted_by is not None
            runs.append(Run(function.digest, ids, attempts, calls, deps, is_wanted))
            self.story.note(now, "was given", ids, worker.label)
        return SendTasks(worker.id, runs, _by_address(places))

    def _inputs(
        self, worker: SchedulerWorker, task: SchedulerTask, places: dict[TaskId, Address]
    ) -> Sequence[TaskId]:
        """A task's inputs by position; *places* gets where those are that *worker* lacks."""
        ids = []
        for dep in task.deps:
            dep_id = dep.id
            ids.append(dep_id)
            holders = dep.who_has
            if holders and worker not in holders:
                choice = next(iter(holders))
                if len(holders) > 1:  # spread a popular input by the asking task's number
                    several = stayers(holders)
                    choice = several[task.id % len(several)]
                places[dep_id] = choice.address
                # the first: what is under way already is not fetched again
                worker.fetching.setdefault(dep_id, dep.attempt)
        if self.rows and task in self.rows:
            return [dep.id for dep in self.rows[task]]
        return ids


def _introduce(worker: SchedulerWorker, function: SchedulerFunction) -> list[Instruction]:
    """What sends a function, where a worker that is given its tasks lacks it."""
    digest = worker.last_digest = function.digest
    if digest in worker.known_functions:
        return []
    worker.known_functions.add(digest)
    return [SendFunction(worker.id, digest, function.name, function.blob)]


def _parts(tasks: list[SchedulerTask]) -> Iterator[list[SchedulerTask]]:
    """Cut where the function changes, or whether values are wanted, or whether there are inputs."""
    start = 0
    first = tasks[0]
    function, has_deps = first.group.function, bool(first.deps)
    is_wanted = first.wanted_by is not None
    for index in range(1, len(tasks)):
        task = tasks[index]
        if (
            task.group.function is not function
            or (task.wanted_by is not None) is not is_wanted
            or bool(task.deps) is not has_deps
        ):
            yield tasks[start:index]
            start = index
            function, has_deps = task.group.function, bool(task.deps)
            is_wanted = task.wanted_by is not None
    yield tasks[start:] if start else tasks


def _by_address(places: dict[TaskId, Address]) -> list[tuple[Address, list[TaskId]]]:
    found: dict[Address, list[TaskId]] = {}
    for task_id, address in places.items():
        found.setdefault(address, []).append(task_id)
    return list(found.items())
