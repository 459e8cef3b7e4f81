"""A worker's way of telling the scheduler what its tasks have written: no more than is good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_dist.aliases import TaskId

#: seconds that pieces gather
GATHER_S: Final = 0.05
#: characters that are sent in a second; more is counted, and left out
MOST_A_SECOND: Final = 256 * 1024
#: characters that are sent of one task
MOST_OF_TASK: Final = 64 * 1024
#: tasks of which it is known how much that was: those that have written last
MOST_TASKS: Final = 10_000


class Outputs:
    """Gathers pieces and hands them on.

    Args:
        reactor: for when.
        send: told ids (0: no task's), streams and texts, and how many characters were left out.
    """

    def __init__(
        self, reactor: Any, send: Callable[[list[TaskId], list[int], list[str], int], None]
    ) -> None:
        self._reactor = reactor
        self._send = send
        self._pieces: list[tuple[TaskId, int, str]] = []
        self._left_out = 0
        #: {task: characters that it has written}
        self._written: dict[TaskId, int] = {}
        self._room = float(MOST_A_SECOND)
        self._filled_at = reactor.seconds()
        self._call: Any = None

    def add(self, pieces: Iterable[tuple[TaskId, int, str]]) -> None:
        """Pieces of a child's, each ``(task id, stream, text)``."""
        now = self._reactor.seconds()
        room = self._room + (now - self._filled_at) * MOST_A_SECOND
        self._room, self._filled_at = min(room, float(MOST_A_SECOND)), now
        for task_id, stream, text in pieces:
            kept = text
            if task_id:
                kept = text[: self._left_of(task_id)]
                self._written[task_id] += len(text)
            if len(kept) > self._room:
                kept = ""
            self._room -= len(kept)
            self._left_out += len(text) - len(kept)
            if kept:
                self._pieces.append((task_id, stream, kept))
        if self._call is None:
            self._call = self._reactor.callLater(GATHER_S, self._tell)

    def _left_of(self, task_id: TaskId) -> int:
        """Characters that are still taken of a task."""
        self._written[task_id] = written = self._written.pop(task_id, 0)  # it comes last
        if len(self._written) > MOST_TASKS:
            del self._written[next(iter(self._written))]
        return max(0, MOST_OF_TASK - written)

    def tell(self) -> None:
        """Hand on what is there.

        For before the end of a task is told: who forgets it forgets its key.
        """
        if self._call is not None:
            self._call.cancel()
            self._tell()

    def _tell(self) -> None:
        self._call = None
        pieces, self._pieces = self._pieces, []
        left_out, self._left_out = self._left_out, 0
        ids, streams, texts = (list(column) for column in zip(*pieces)) if pieces else ([], [], [])
        self._send(ids, streams, texts, left_out)
