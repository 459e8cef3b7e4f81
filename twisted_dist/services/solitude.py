"""`Solitude`: for how long a worker has had no scheduler, and when that is for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

#: seconds for which ``dworker`` waits for a scheduler, unless told otherwise: longer than one
#: takes to start again on another machine, so that only those are ended that nobody needs
DEATH_S: Final = 300.0


class Solitude:
    """Counts from when a worker was connected last, or began.

    Args:
        reactor: for time.
        limit_s: seconds after which it is too long; 0 for never.
        scheduler: its address.
        too_long: called then, with what to say; once each time.
    """

    def __init__(
        self, reactor: Any, limit_s: float, scheduler: str, too_long: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._limit_s = limit_s
        self._scheduler = scheduler
        self._too_long = too_long
        self._call: Any = None
        self._is_closed = False

    def begin(self) -> None:
        """There is no scheduler; if there was none already, it goes on counting."""
        if self._limit_s and self._call is None and not self._is_closed:
            self._call = self._reactor.callLater(self._limit_s, self._expired)

    def end(self) -> None:
        """There is one."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def close(self) -> None:
        """Count no more, whatever is told."""
        self._is_closed = True
        self.end()

    def _expired(self) -> None:
        self._call = None
        self._too_long(
            f"no scheduler at {self._scheduler} for {self._limit_s:g} s (its death timeout)"
        )
