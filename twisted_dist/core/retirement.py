"""`Retirement`: what is known of a worker that is to leave, while it still has something to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from twisted_dist.core.task import SchedulerTask

if TYPE_CHECKING:
    from twisted_dist.core.alarms import Alarm


class Retirement:
    """Of one worker, from when it is asked to leave until it does (`core.retiring`)."""

    __slots__ = ("alarm", "attempts", "coming", "due", "owed", "told", "waits")

    def __init__(
        self, attempts: Mapping[SchedulerTask, int], coming: Iterable[SchedulerTask]
    ) -> None:
        #: the attempts that it had when it began: it gets no others
        self.attempts = dict(attempts)
        #: tasks of which copies were on their way to it then: it gets no others
        self.coming = frozenset(coming)
        #: results there of which workers that stay have too few copies; some may have gone since
        self.owed: dict[SchedulerTask, None] = {}
        #: when it leaves, whatever is left to do, and what sees to that; None for never
        self.due: float | None = None
        self.alarm: Alarm | None = None
        #: whether it waits for somebody to take its results, where there is nobody
        self.waits = True
        #: whether it was said that nobody is there to take its results
        self.told = False
