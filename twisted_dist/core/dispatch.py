"""Turns the tasks that workers are given into messages: runs of one function, and sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted_dist.aliases import Address, TaskId
from twisted_dist.core.instructions import Instruction, Run, SendFunction, SendTasks
from twisted_dist.core.peers import SchedulerWorker, stayers
from twisted_dist.core.story import Story
from twisted_dist.core.task import SchedulerTask


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
        note = self.story.note
        functions: list[Instruction] = []
        messages: list[Instruction] = []
        for worker, tasks in self.given.items():
            places: dict[TaskId, Address] = {}
            runs = []
            for part in _runs(tasks) if len(tasks) > 1 else (tasks,):
                first = part[0]
                function = first.group.function
                assert function is not None
                digest = function.digest
                if digest is not worker.last_digest:
                    worker.last_digest = digest
                    if digest not in worker.known_functions:
                        worker.known_functions.add(digest)
                        name, blob = function.name, function.blob
                        functions.append(SendFunction(worker.id, digest, name, blob))
                deps: list[Sequence[TaskId]] = []
                if first.deps:
                    deps = [self._inputs(worker, task, places) for task in part]
                is_wanted = first.wanted_by is not None
                if len(part) == 1:  # long tasks: three comprehensions would take longer
                    run = Run(digest, [first.id], [first.attempt], [first.call], deps, is_wanted)
                else:
                    ids = [task.id for task in part]
                    attempts = [task.attempt for task in part]
                    calls = [task.call for task in part]
                    run = Run(digest, ids, attempts, calls, deps, is_wanted)
                runs.append(run)
                note(now, "was given", run.ids, worker.label)
            messages.append(SendTasks(worker.id, runs, _by_address(places) if places else []))
        self.given.clear()
        return functions + messages

    def _inputs(
        self, worker: SchedulerWorker, task: SchedulerTask, places: dict[TaskId, Address]
    ) -> list[TaskId]:
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


def _runs(tasks: list[SchedulerTask]) -> Iterator[list[SchedulerTask]]:
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
