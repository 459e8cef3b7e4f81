"""Logging who was turned away, at a bounded rate: strangers must not fill a disk."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: seconds that are counted together, and lines that are logged in them at most
WINDOW_S: Final = 60.0
MOST_LINES: Final = 20


class Refusals:
    """One line for each peer that was turned away, and a count of those left out."""

    log = Logger()

    def __init__(self, clock: IReactorTime, service: str) -> None:
        self._clock = clock
        self._service = service
        self._began = -WINDOW_S
        self._told = 0
        self._left_out = 0

    def note(self, peer: Any, why: str) -> None:
        """Say who, from where, and why."""
        now = self._clock.seconds()
        if now - self._began >= WINDOW_S:
            if self._left_out:
                self.log.warn("{n} more were not let in", n=self._left_out)
            self._began, self._told, self._left_out = now, 0, 0
        if self._told < MOST_LINES:
            self._told += 1
            where = f"{peer.host}:{peer.port}" if hasattr(peer, "port") else str(peer)
            self.log.warn(
                "this {service} did not let {where} in: {why}",
                service=self._service,
                where=where,
                why=why,
            )
        else:
            self._left_out += 1
