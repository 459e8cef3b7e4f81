"""The worker's part in relays: it dials the scheduler, and serves there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.errors import TwistedDistError
from twisted_dist.wire import commands
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.dial import DIAL_S
from twisted_dist.wire.entering import enter
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.once import Once


class Joiner:
    """Answers those who cannot dial this worker.

    Args:
        reactor: to connect with.
        membership: this worker's keys.
        scheduler: its address.
        make: the serving end of a data connection.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        membership: Membership,
        scheduler: str,
        make: Callable[[], DataProtocol],
    ) -> None:
        self._reactor = reactor
        self._membership = membership
        self._scheduler = scheduler
        self._make = make
        self._dials: set[defer.Deferred[None]] = set()
        self._open: list[DataProtocol] = []
        self._told = Once()

    def __len__(self) -> int:
        """How many are served by relays."""
        return sum(each.transport is not None for each in self._open)

    def join(self, ticket: bytes, asker: str) -> None:
        """The scheduler says that *asker* wants a data connection; failures are logged."""
        tell = self.log.warn if self._told.is_new(asker) else self.log.info
        tell("the scheduler relays {asker} to this worker's data", asker=asker)
        dialling: defer.Deferred[None] = defer.Deferred.fromCoroutine(self._join(ticket))
        self._dials.add(dialling)

        def forget(result: Any) -> Any:
            self._dials.discard(dialling)
            return result

        def failed(failure: Failure) -> None:
            if failure.check(defer.CancelledError) is None:
                failure.trap(TwistedDistError)
                self.log.warn("no relay for {a}: {why}", a=asker, why=failure.getErrorMessage())

        dialling.addBoth(forget)
        dialling.addErrback(failed)
        dialling.addErrback(lambda f: self.log.failure("joining a relay failed", failure=f))

    async def _join(self, ticket: bytes) -> None:
        data = self._make()
        proto = await enter(self._reactor, self._scheduler, "data", self._membership)
        await proto.switch(commands.JoinRelay, data, DIAL_S, ticket=ticket)
        self._open = [each for each in self._open if each.transport is not None]
        self._open.append(data)

    def close(self) -> None:
        """End all of them."""
        for each in list(self._dials):
            each.cancel()
        for data in self._open:
            if data.transport is not None:
                data.transport.abortConnection()
        self._open.clear()
