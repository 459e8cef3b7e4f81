"""Data connections to workers, one each, kept while they last."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from twisted_dist.errors import ConnectionClosedError
from twisted_dist.wire import commands
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.dial import DIAL_S, dial
from twisted_dist.wire.membership import Membership


class DataPool:
    """The connections of one member, dialled when they are first needed."""

    def __init__(self, reactor: Any, name: str, membership: Membership) -> None:
        self._reactor = reactor
        self._name = name
        self._membership = membership
        self._open: dict[str, DataProtocol] = {}
        self._opening: dict[str, list[defer.Deferred[DataProtocol]]] = {}
        self._dials: dict[str, defer.Deferred[DataProtocol]] = {}
        self._closed = False

    async def connection(self, address: str) -> DataProtocol:
        """The connection to *address*, dialled if there is none. Errors as of `dial`."""
        existing = self._open.get(address)
        if existing is not None and existing.transport is not None:
            return existing
        if address in self._opening:
            waiter: defer.Deferred[DataProtocol] = defer.Deferred()
            self._opening[address].append(waiter)
            return await waiter
        if self._closed:
            raise ConnectionClosedError("this side is closed")
        self._opening[address] = []
        self._dials[address] = defer.Deferred.fromCoroutine(self._dial(address))
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

    async def _dial(self, address: str) -> DataProtocol:
        proto = await dial(self._reactor, address, "data", self._membership.to_worker())
        data = DataProtocol(self._reactor)
        await proto.switch(commands.OpenData, data, DIAL_S, name=self._name)
        await data.ready.addTimeout(DIAL_S, self._reactor, data.no_word)
        return data

    def _opened(self, address: str, result: Any) -> None:
        del self._dials[address]
        for each in self._opening.pop(address):
            if isinstance(result, BaseException):
                each.errback(result)
            else:
                each.callback(result)

    def close(self) -> None:
        """Close all of them."""
        self._closed = True
        for dialling in list(self._dials.values()):
            dialling.cancel()
        for each in self._open.values():
            if each.transport is not None:
                each.transport.abortConnection()
        self._open.clear()
