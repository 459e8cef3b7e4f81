"""`Draining`: how the workers of a process leave when that is told to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_dist.services.worker import Worker

#: seconds until a worker that was told to end does so although something is left to do. It has
#: to be over before whoever told it loses patience and kills it: Kubernetes does so after 30 s
#: (terminationGracePeriodSeconds), systemd after 90 s (TimeoutStopSec), clouds end spot machines
#: 30 s (Azure, Google) or 120 s (Amazon) after they have told it
DRAIN_S: Final = 25.0


@frozen
class Draining:
    """Lets workers retire: they end what they run, and what only they hold goes to others.

    Attributes:
        workers: of this process.
        timeout_s: after which they leave all the same; 0 for at once.
    """

    workers: Sequence[Worker]
    timeout_s: float

    def begin(self) -> None:
        """Each leaves as soon as it may: at once where it has nothing, or no scheduler."""
        for each in self.workers:
            each.retire(self.timeout_s, waits=False)

    def told(self) -> str:
        """What it waits for, as one line."""
        tasks = sum(len(each.core.tasks) for each in self.workers)
        held = sum(len(each.core.held) for each in self.workers)
        return (
            f"leaving within {self.timeout_s:g} s: {tasks} tasks may end, and others take what "
            f"only this holds of {held} results; once more (Ctrl-C, SIGTERM) ends it now"
        )
