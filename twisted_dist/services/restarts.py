"""`Restarts`: how soon a process that died is started again, and when there is no hope."""

from __future__ import annotations

import random
from typing import Final

#: seconds before a process that died is started again: doubled for each one in a row that has
#: done nothing, and varied by half so that many nannies do not start theirs together
FIRST_RESTART_S: Final = 0.1
MOST_RESTART_S: Final = 30.0
#: a process that lived so long had a good start: the next restart is quick again
HEALTHY_S: Final = 10.0
#: so many in a row that died before they could run anything, and there is no hope: with the
#: delays between them, after some ten seconds
MOST_STILLBORN: Final = 6


class Restarts:
    """Of one process after the other.

    Attributes:
        stillborn: how many in a row could not run anything.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._delay = FIRST_RESTART_S
        self.stillborn = 0

    def next(self, *, was_ready: bool, was_useful: bool, lived_s: float) -> float | None:
        """Seconds to wait after a death; None where it is no use.

        Args:
            was_ready: the process has said that it can run tasks.
            was_useful: it has ended tasks, or was running some.
            lived_s: for how long it was there.
        """
        if was_useful or lived_s > HEALTHY_S:
            self._delay = FIRST_RESTART_S
        self.stillborn = 0 if was_ready else self.stillborn + 1
        if self.stillborn >= MOST_STILLBORN:
            return None
        delay = self._delay * self._chance.uniform(0.5, 1.5)
        self._delay = min(self._delay * 2, MOST_RESTART_S)
        return delay
