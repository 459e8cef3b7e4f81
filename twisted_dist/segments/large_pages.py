"""`LargePages`: has shared memory that is used again in pages of two megabytes.

The setting of Linux for shared memory (``shmem_enabled``) is "never" nearly everywhere, so it
comes in pages of 4 KiB, each of which a processor has to look up. MADV_COLLAPSE, of madvise(2)
since Linux 6.1, moves it together whatever that setting is. That takes longer than to write it
once, and each reading of it is faster by a seventh: so it is done when memory is written for the
second time (decision 33).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from twisted_dist.segments.memory import LARGE_PAGE, can_collapse, collapse

#: bytes that are asked for at a time
_STEP: Final = 2 * LARGE_PAGE
#: seconds that it may take each time, for a byte of the file: a few times what writing it takes.
#: What is moved takes 0.4 ms a megabyte, and ten times that where a machine is virtual and its
#: host has to find the memory first
_PATIENCE_S: Final = 1e-9
#: after so many refusals in a row the number of files that do without is doubled no more
_MOST_DOUBLED: Final = 10


class LargePages:
    """Moves memory into large pages, as far as the kernel gives them; from any thread.

    Where it refuses, the file does without, and so do the next ones: two, four, and so on.

    Args:
        collapse: as of `memory`.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        collapse: Callable[[int, int, int], None] = collapse,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._collapse = collapse
        self._clock = clock
        self._refusals = 0
        self._without = 0

    def improve(self, fd: int, done: int, size: int) -> int:
        """See to a file in memory that nobody reads now; how many of its bytes are done then.

        Args:
            fd: of the file.
            done: how many were, before.
            size: of the file; what is no whole page at its end stays as it is.
        """
        whole = size - size % LARGE_PAGE
        if done >= whole or not can_collapse():
            return size
        if self._without:
            self._without -= 1
            return done
        deadline = self._clock() + size * _PATIENCE_S
        while done < whole:
            step = min(_STEP, whole - done)
            try:
                self._collapse(fd, done, step)
            except OSError:
                self._refusals = min(self._refusals + 1, _MOST_DOUBLED)
                self._without = 2**self._refusals
                return done
            done += step
            if self._clock() > deadline:
                break
        self._refusals = 0
        return done if done < whole else size
