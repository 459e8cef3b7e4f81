"""Data connections to workers, one each, kept while they last."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from twisted_dist.errors import ConnectionClosedError, TwistedDistError
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.reach import Reach


class DataPool:
    """The connections of one member, opened when they are first needed (`wire.reach`).

    Args:
        reactor: to connect with.
        name: this member's, for others' logs.
        membership: its keys.
        scheduler: its scheduler's address.
    """

    def __init__(self, reactor: Any, name: str, membership: Membership, scheduler: str) -> None:
        self._reach = Reach(reactor, name, membership, scheduler)
        self._open: dict[str, DataProtocol] = {}
        self._opening: dict[str, list[defer.Deferred[DataProtocol]]] = {}
        self._dials: dict[str, defer.Deferred[DataProtocol]] = {}
        #: attempts to do without a relay, while the relay serves
        self._trials: dict[str, defer.Deferred[Any]] = {}
        #: relays that are not needed any more, but for what is under way; the scheduler ends
        #: them when they carry nothing
        self._replaced: list[DataProtocol] = []
        self._closed = False

    async def connection(self, address: str) -> DataProtocol:
        """The connection to *address*, opened if there is none. Errors as of `Reach.open`."""
        existing = self._open.get(address)
        if existing is not None and existing.transport is not None:
            if self._reach.is_due(address):
                self._try_without(address)
            return existing
        if address in self._opening:
            waiter: defer.Deferred[DataProtocol] = defer.Deferred()
            self._opening[address].append(waiter)
            return await waiter
        if self._closed:
            raise ConnectionClosedError("this side is closed")
        self._opening[address] = []
        self._dials[address] = defer.Deferred.fromCoroutine(self._reach.open(address))
        try:
            data = await self._dials[address]
        except defer.CancelledError:
            problem = ConnectionClosedError("this side was closed")
            self._opened(address, problem)
            raise problem from None
        except BaseException as problem:
            self._opened(address, problem)
            raise
        self._open[address] = data
        self._opened(address, data)
        return data

    def _opened(self, address: str, result: Any) -> None:
        del self._dials[address]
        for each in self._opening.pop(address):
            if isinstance(result, BaseException):
                each.errback(result)
            else:
                each.callback(result)

    def _try_without(self, address: str) -> None:
        """See whether *address* can be dialled by now; nobody waits for that."""

        def replace(data: DataProtocol) -> None:
            old = self._open.get(address)
            if old is not None and old.transport is not None:
                self._replaced = [each for each in self._replaced if each.transport is not None]
                self._replaced.append(old)
            self._open[address] = data

        def give_up(failure: Failure) -> None:
            failure.trap(TwistedDistError, defer.CancelledError)

        def forget(result: Any) -> Any:
            self._trials.pop(address, None)
            return result

        trial: defer.Deferred[Any] = defer.Deferred.fromCoroutine(self._reach.dial(address))
        self._trials[address] = trial
        trial.addBoth(forget)
        trial.addCallbacks(replace, give_up)

    def close(self) -> None:
        """Close all of them."""
        self._closed = True
        for dialling in [*self._dials.values(), *self._trials.values()]:
            dialling.cancel()
        for each in [*self._open.values(), *self._replaced]:
            if each.transport is not None:
                each.transport.abortConnection()
        self._open.clear()
        self._replaced.clear()
