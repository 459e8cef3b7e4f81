"""Whether another process can read what this one shares: it proves it by reading something."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.mapping import MAPPINGS
from twisted_dist.segments.pool import POOL
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


def keep_at_most(nbytes: int) -> None:
    """Keep no more memory than so much for values to be written, and as much for those read."""
    POOL.kept_bytes = min(POOL.kept_bytes, nbytes)
    MAPPINGS.kept_bytes = min(MAPPINGS.kept_bytes, nbytes)


def tidy() -> None:
    """Let go of memory that is kept for later values."""
    POOL.tidy(everything=True)
    MAPPINGS.tidy()
