"""When a nanny's memory is short: what is to be done about it, by numbers alone.

Thresholds are fractions of ``--memory-limit``, as in dask.distributed ("worker memory
management": target 0.6, pause 0.8), so that what people know of these holds here as well.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

#: above it, values move to disk
TARGET: Final = 0.6
#: above the first, no further tasks begin, until it is below the second
PAUSE: Final = 0.8
RESUME: Final = 0.7
#: above it, the child is looked at whenever values come
TIGHT: Final = 0.4
#: results of less than this need not be counted beforehand: many of them do no harm
SMALL: Final = 1 / 256
#: a result is refused where it would not fit into memory and the disk takes nothing more
REFUSE: Final = 0.95


@frozen
class Pressure:
    """What memory is used for, in bytes.

    Attributes:
        limit: what may be used; 0 for any number.
        own: by the nanny itself.
        child: by the process that runs tasks, for itself.
        held: by values that are held in memory.
    """

    limit: int
    own: int
    child: int
    held: int

    @property
    def room_for_values(self) -> int:
        """Bytes of values that may stay in memory."""
        return max(0, int(TARGET * self.limit) - self.own - self.child)

    def is_paused(self, before: bool) -> bool:
        """Whether no tasks may begin, if *before* says whether that is so already."""
        return self.limit > 0 and self.used > (RESUME if before else PAUSE) * self.limit

    @property
    def is_tight(self) -> bool:
        """Whether it matters what exactly is used."""
        return self.limit > 0 and self.used > TIGHT * self.limit

    def room_for_tasks(self, nbytes: float, least: int) -> int | None:
        """How many tasks may be under way if each may give *nbytes*; None for any number.

        Never less than *least*: the next may give less, and threads must not be without work.
        """
        if self.limit == 0 or nbytes < SMALL * self.limit:
            return None
        return max(least, int((PAUSE * self.limit - self.used) / nbytes))

    @property
    def used(self) -> int:
        """All of it."""
        return self.own + self.child + self.held

    @property
    def is_bloated(self) -> bool:
        """Whether the child alone keeps tasks from beginning: with nothing to run, it leaks."""
        return self.limit > 0 and self.child > RESUME * self.limit

    def refuses(self, nbytes: int) -> bool:
        """Whether *nbytes* more do not fit into memory."""
        return self.limit > 0 and self.used + nbytes > REFUSE * self.limit
