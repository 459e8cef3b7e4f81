"""Whether another process can read what this one shares: it proves it by reading something."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any, Final

from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.mapping import MAPPINGS
from twisted_dist.segments.pool import KEPT_BYTES, POOL
from twisted_dist.segments.segment import Segment, open_place


@cache
def lend_probe() -> Segment | None:
    """An empty segment of this process, for others to try; None where nothing can be shared."""
    if not CAN_SHARE:
        return None
    try:
        return POOL.write([b""])
    except OSError:
        return None


def can_read(pid: int, probe: Sequence[Any] | None) -> bool:
    """Whether this process can read what process *pid* shares, whose `lend_probe` is there.

    It cannot where that is another host's, another container's or another user's.
    """
    if not probe or not CAN_SHARE:
        return False
    try:
        open_place(pid, probe)
    except OSError:
        return False
    return True


class Keeping:
    """How much memory this process keeps for later values: nothing, unless somebody tidies it.

    Attributes:
        most: bytes for values to be written, and as many for those read.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tidiers = 0
        self._is_limited = False
        self.most = KEPT_BYTES

    def begin(self, *, maps: bool = False) -> None:
        """Somebody will call `tidy` now and then, until `end`.

        Args:
            maps: what is written again may be mapped for that, unless there is a limit.
        """
        with self._lock:
            self._tidiers += 1
            POOL.maps = (POOL.maps or maps) and not self._is_limited
            POOL.kept_bytes = MAPPINGS.kept_bytes = self.most

    def end(self) -> None:
        """It will no longer: what was the last one lets go of all, and of what comes back later."""
        with self._lock:
            self._tidiers -= 1
            if self._tidiers:
                return
            POOL.kept_bytes = MAPPINGS.kept_bytes = 0
        tidy()

    def limit(self, nbytes: int) -> None:
        """Keep no more than *nbytes* of either kind."""
        with self._lock:
            self._is_limited, POOL.maps = True, False
            self.most = min(self.most, nbytes)
            POOL.kept_bytes = min(POOL.kept_bytes, nbytes)
            MAPPINGS.kept_bytes = min(MAPPINGS.kept_bytes, nbytes)


#: this process'
KEEPING: Final = Keeping()


def tidy() -> None:
    """Let go of memory that is kept for later values."""
    POOL.tidy(everything=True)
    MAPPINGS.tidy()
