"""`Lending`: large values between a nanny and its child, which both read where they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from twisted_dist.aliases import TaskId, Value
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution import child
from twisted_dist.execution.payloads import in_band, opened
from twisted_dist.segments.probe import can_read, lend_probe
from twisted_dist.segments.segment import Segment
from twisted_dist.services.executor import Values


class Lending:
    """With one child.

    What a task is given stays open here until the task has left the child, so that it finds it
    whenever it begins, whatever is forgotten meanwhile.

    Args:
        pid: of the child.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: the child reads what this process shares
        self.is_on = False
        self._lent: dict[TaskId, list[Segment]] = {}

    def offer(self, probe: Sequence[Any] | None) -> list[Any] | None:
        """Where the child may try to read, if this process reads what it shares."""
        ours = lend_probe()
        if ours is None or not can_read(self._pid, probe):
            return None
        return ours.place()

    def input_of(self, task: m.WorkerTask, value: Value) -> Any:
        """A task's input as the channel carries it.

        One that cannot be read here, as its disk fails, goes as if the child could read it: that
        is an error of that task, then.
        """
        if not isinstance(value, Segment):
            return value
        if not self.is_on:
            with suppress(OSError):
                return in_band(value)
        self._lent.setdefault(task.id, []).append(value)
        return value.place()

    def take_back(self, ids: Iterable[TaskId]) -> None:
        """Tasks have left the child."""
        if self._lent:
            for each in ids:
                self._lent.pop(each, None)

    def open_results(
        self, ids: Sequence[TaskId], values: list[Any]
    ) -> tuple[list[int], list[TaskId]]:
        """Open results that the child has placed, in place of their places in *values*.

        Returns:
            The child's descriptors, which it may close now, and tasks whose results are not there.
        """
        descriptors: list[int] = []
        lost: list[TaskId] = []
        for index, value in enumerate(values):
            if type(value) is list and type(value[0]) is int:
                descriptors.append(value[0])
                try:
                    values[index] = opened(self._pid, value)
                except OSError:
                    lost.append(ids[index])
        return descriptors, lost


def runs_of(tasks: Sequence[m.WorkerTask], values: Values, lending: Lending) -> list[Any]:
    """The message to a child that has it run tasks: consecutive ones of a function as one run."""
    runs: list[list[Any]] = []
    inputs: dict[TaskId, Any] = {}
    for task in tasks:
        run = runs[-1] if runs else None
        if run is None or run[0] is not task.digest or bool(run[4]) is not bool(task.deps):
            run = [task.digest, [], [], [], []]
            runs.append(run)
        run[1].append(task.id)
        run[2].append(task.attempt)
        run[3].append(task.call)
        if task.deps:
            run[4].append(task.deps)
            for each in task.deps:
                inputs[each] = lending.input_of(task, values[each])
    return [child.RUN, runs, inputs]
