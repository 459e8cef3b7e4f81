"""`Alarms`: what is to be done at an instant, for a core that has no clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

#: cancelled alarms are cleared away when there are more than these, and half are such
MOST_CANCELLED: Final = 64


class Alarm:
    """Something to be done, unless it is cancelled."""

    __slots__ = ("_alarms", "function")

    def __init__(self, alarms: Alarms, function: Callable[[], None]) -> None:
        self._alarms = alarms
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Let it not be done. May come too late, or twice."""
        if self.function is not None:
            self.function = None
            self._alarms.note_cancelled()


class Alarms:
    """A heap of alarms by instant; of one instant in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._tickets = count()
        self._cancelled = 0

    def at(self, instant: float, function: Callable[[], None]) -> Alarm:
        """Have *function* called by `ring` at *instant*."""
        alarm = Alarm(self, function)
        heapq.heappush(self._heap, (instant, next(self._tickets), alarm))
        return alarm

    def note_cancelled(self) -> None:
        """One of these was cancelled; they are cleared away now and then."""
        self._cancelled += 1
        if self._cancelled > max(MOST_CANCELLED, len(self._heap) // 2):
            self._heap = [each for each in self._heap if each[2].function is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next(self) -> float | None:
        """The instant of the first; None for never."""
        while self._heap and self._heap[0][2].function is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float) -> None:
        """Do what the time has come for, what is set meanwhile for now included."""
        while True:
            first = self.next()
            if first is None or first > now:
                return
            alarm = heapq.heappop(self._heap)[2]
            function, alarm.function = alarm.function, None
            if function is not None:
                function()
