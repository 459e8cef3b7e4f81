"""Keeps a client's leases (locks, semaphores) alive, and knows which are lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet import defer, task
from twisted.logger import Logger

from twisted_dist.core.coordination.semaphores import LEASE_S
from twisted_dist.errors import ConnectionClosedError, RefusedError

#: seconds between renewals: several may be late until the lease is
RENEW_S: Final = LEASE_S / 6


class Leases:
    """The tokens that a client holds. Used in the reactor's thread, but for `holds`.

    Args:
        reactor: for the time.
        ask: `Session.ask`.
    """

    log = Logger()

    def __init__(self, reactor: Any, ask: Callable[..., Awaitable[Any]]) -> None:
        self._reactor = reactor
        self._ask = ask
        #: {token: until when it is certain, in the reactor's seconds}
        self._until: dict[int, float] = {}
        self._renewing = task.LoopingCall(self._tick)
        self._renewing.clock = reactor

    def holds(self, token: int) -> bool:
        """Whether a lease is held for certain; from any thread."""
        return self._reactor.seconds() < self._until.get(token, 0.0)  # type: ignore[no-any-return]

    def add(self, token: int, asked_at: float) -> None:
        """A lease was granted, that was asked for at an instant."""
        self._until[token] = asked_at + LEASE_S
        if not self._renewing.running:
            ended = self._renewing.start(RENEW_S, now=False)
            ended.addErrback(lambda f: self.log.failure("renewing leases failed", failure=f))

    def remove(self, token: int) -> None:
        """A lease is given back, or known to be lost."""
        self._until.pop(token, None)
        if not self._until:
            self.stop()

    def stop(self) -> None:
        """Renew nothing any more."""
        if self._renewing.running:
            self._renewing.stop()

    def lose(self) -> None:
        """The scheduler is out of reach, and gives on what this client had."""
        self._until.clear()
        self.stop()

    def _tick(self) -> None:
        defer.Deferred.fromCoroutine(self.renew()).addErrback(
            lambda f: self.log.failure("renewing leases failed", failure=f)
        )

    async def renew(self) -> None:
        """Renew all leases, and forget those that are lost."""
        asked_at = self._reactor.seconds()
        asked = list(self._until)
        try:
            held = set(await self._ask("renew"))
        except (ConnectionClosedError, RefusedError) as problem:
            self.log.warn("leases could not be renewed: {why}", why=problem)
            return
        for token in asked:
            if token not in held:
                self.remove(token)
            elif token in self._until:
                self._until[token] = asked_at + LEASE_S
