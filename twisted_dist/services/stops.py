"""Which running tasks an executor was asked to end, and where they were then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from twisted_dist.aliases import TaskId
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.status import Running


class Stops:
    """Tells the ends of tasks that were stopped from the ends of others."""

    def __init__(self) -> None:
        #: {(task, attempt): where it was}
        self._asked: dict[tuple[TaskId, int], str] = {}

    def ask(self, ids: Iterable[TaskId], attempts: Iterable[int]) -> None:
        """These are asked to end."""
        for which in zip(ids, attempts):
            self._asked.setdefault(which, "")

    def note(self, ids: Iterable[TaskId], attempts: Iterable[int], places: Iterable[str]) -> None:
        """Where they were when they were told."""
        for task_id, attempt, place in zip(ids, attempts, places):
            if (task_id, attempt) in self._asked:
                self._asked[task_id, attempt] = place

    def is_asked(self, task_id: TaskId, attempt: int) -> bool:
        """Whether this one is to end."""
        return (task_id, attempt) in self._asked

    def forget(self, task_id: TaskId, attempt: int) -> None:
        """It has ended."""
        self._asked.pop((task_id, attempt), None)

    def clear(self) -> None:
        """All have ended."""
        self._asked.clear()

    def sort(
        self,
        ids: Sequence[TaskId],
        attempts: Sequence[int],
        blobs: Sequence[bytes],
        texts: Sequence[str],
    ) -> Iterator[m.ExecutionErred | m.ExecutionStopped]:
        """What errors mean: tasks that failed, and tasks that were stopped."""
        if not self._asked:
            yield m.ExecutionErred(ids, attempts, blobs, texts)
            return
        places = [self._asked.pop(which, None) for which in zip(ids, attempts)]
        rows = [*zip(ids, attempts, blobs, texts)]
        erred = [row for row, place in zip(rows, places) if place is None]
        if erred:
            yield m.ExecutionErred(*map(list, zip(*erred)))
        stopped = [
            (task_id, attempt, _at(place) or text)
            for (task_id, attempt, _, text), place in zip(rows, places)
            if place is not None
        ]
        if stopped:
            yield m.ExecutionStopped(*map(list, zip(*stopped)))

    def ended(self, tasks: Sequence[Running], how: str) -> m.ExecutionStopped:
        """They were ended with their process."""
        texts = []
        for task in tasks:
            place = _at(self._asked.get((task.task_id, task.attempt), ""))
            texts.append(f"{how}; {place}" if place else how)
        return m.ExecutionStopped([t.task_id for t in tasks], [t.attempt for t in tasks], texts)


def _at(place: str) -> str:
    return f"it was at\n{place}" if place else ""
