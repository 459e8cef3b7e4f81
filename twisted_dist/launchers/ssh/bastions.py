"""`Bastions`: hosts that others are entered through, one connection for all behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from twisted_dist.launchers.ssh.connection import ConchConnection
from twisted_dist.launchers.ssh.settings import HostSettings

#: the hosts on the way to one, that one last
Chain = tuple[HostSettings, ...]


class _Bastion:
    """One of them, being entered or entered."""

    def __init__(self) -> None:
        self.users = 0
        self.connection: ConchConnection | None = None
        self.opening: Deferred[None] | None = None
        self._waiting: list[Deferred[ConchConnection]] = []

    def wait(self) -> Deferred[ConchConnection]:
        """Fires once it is entered; cancelled, the others go on waiting."""
        waiter: Deferred[ConchConnection] = Deferred(self._waiting.remove)
        if self.connection is not None:
            waiter.callback(self.connection)
        else:
            self._waiting.append(waiter)
        return waiter

    def tell(self, result: ConchConnection | Failure) -> None:
        """It is entered, or cannot be."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(result, Failure):
                each.errback(result)
            else:
                each.callback(result)


class Lease:
    """A use of a bastion's connection.

    Attributes:
        connection: to the bastion.
    """

    def __init__(self, connection: ConchConnection, release: Callable[[], None]) -> None:
        self.connection = connection
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """It is not used any more. Idempotent."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Bastions:
    """Enters each bastion once, and leaves it when nobody is behind it any more.

    Args:
        enter: enters a host, through its `jumps`.
    """

    def __init__(self, enter: Callable[[HostSettings], Awaitable[ConchConnection]]) -> None:
        self._enter = enter
        self._entered: dict[Chain, _Bastion] = {}
        self._closing: set[Deferred[None]] = set()

    async def lease(self, chain: Chain) -> Lease:
        """Use the last bastion of *chain*, which is entered through those before it.

        Raises:
            SSHError: it could not be entered.
        """
        bastion = self._entered.get(chain)
        if bastion is None:
            bastion = self._entered[chain] = _Bastion()
            bastion.opening = Deferred.fromCoroutine(self._open(chain, bastion))
        bastion.users += 1
        try:
            connection = await bastion.wait()
        except BaseException:
            self._release(chain, bastion)
            raise
        return Lease(connection, lambda: self._release(chain, bastion))

    def close(self) -> Deferred[None]:
        """Fires once all are left that nobody is behind."""
        return DeferredList(list(self._closing)).addCallback(lambda _: None)

    async def _open(self, chain: Chain, bastion: _Bastion) -> None:
        try:
            settings = evolve(chain[-1], jumps=chain[:-1])
            connection = await self._enter(settings)
        except Exception:  # those who wait are told
            self._forget(chain, bastion)
            bastion.tell(Failure())
            return
        bastion.connection = connection
        connection.lost().addCallback(lambda _: self._forget(chain, bastion))
        bastion.tell(connection)

    def _forget(self, chain: Chain, bastion: _Bastion) -> None:
        if self._entered.get(chain) is bastion:
            del self._entered[chain]

    def _release(self, chain: Chain, bastion: _Bastion) -> None:
        bastion.users -= 1
        if bastion.users:
            return
        self._forget(chain, bastion)
        if bastion.connection is not None:
            closing = bastion.connection.close()
        elif bastion.opening is not None:
            # whoever waited for it is gone; entering it leaves no socket
            bastion.opening.cancel()
            closing = bastion.opening
        self._closing.add(closing)
        closing.addBoth(lambda _: self._closing.discard(closing))
