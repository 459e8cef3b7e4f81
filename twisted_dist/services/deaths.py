"""Proof that a worker has died: the kernel of its host says that nothing listens there any more.

Nobody can tell a dead process from one that is out of reach, but for this: where its port could
be reached, and now a connection is refused, the process that listened has ended. So what it ran
is run again at once, and not when its lease is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet import defer, error, task
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from twisted_dist.address import parse_address
from twisted_dist.wire.dial import SwitchFactory

#: seconds between two looks, and for one
LOOK_S: Final = 1.0


class Deaths:
    """Looks after workers whose connection was lost.

    Args:
        reactor: to connect with.
        died: told a worker's number, and in one line why it is dead for certain.
    """

    log = Logger()

    def __init__(self, reactor: Any, died: Callable[[int, str], None]) -> None:
        self._reactor = reactor
        self._died = died
        #: {number: address} of those whose port can be reached from here
        self._reachable: dict[int, str] = {}
        self._looking: dict[int, defer.Deferred[None]] = {}

    def met(self, number: int, address: str, peer: str) -> None:
        """A worker has registered from the address *peer*: can its port be reached from here?

        Where it comes from elsewhere than it says (NAT), that host is not its own.
        """
        if parse_address(address)[0] == peer:
            self._begin(number, self._meet(number, address))

    def cut(self, number: int) -> None:
        """Its connection is lost: look whether it lives until it is `heard`."""
        address = self._reachable.get(number)
        if address is not None:
            self._begin(number, self._watch(number, address))

    def heard(self, number: int) -> None:
        """It is there again."""
        looking = self._looking.pop(number, None)
        if looking is not None:
            looking.cancel()

    def forget(self, number: int) -> None:
        """It is off the books."""
        self.heard(number)
        self._reachable.pop(number, None)

    def close(self) -> None:
        """Look at nobody any more."""
        for number in list(self._looking):
            self.heard(number)

    def _begin(self, number: int, coroutine: Any) -> None:
        self.heard(number)
        looking = self._looking[number] = defer.Deferred.fromCoroutine(coroutine)

        def end(result: Any) -> None:
            if self._looking.get(number) is looking:
                del self._looking[number]
            if result is not None and not result.check(defer.CancelledError):
                self.log.failure("cannot look whether a worker lives", failure=result)

        looking.addBoth(end)

    async def _meet(self, number: int, address: str) -> None:
        if await self._answers(address):
            self._reachable[number] = address

    async def _watch(self, number: int, address: str) -> None:
        while await self._answers(address) is not False:
            await task.deferLater(self._reactor, LOOK_S)
        del self._looking[number]
        self._died(number, f"it has ended: nothing listens at {address} any more")

    async def _answers(self, address: str) -> bool | None:
        """Whether something listens there; None where nobody can say."""
        host, port = parse_address(address)
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=LOOK_S)
        try:
            proto: Any = await endpoint.connect(SwitchFactory(Protocol()))
        except error.ConnectionRefusedError:
            return False
        except (defer.CancelledError, error.ConnectingCancelledError):
            raise defer.CancelledError from None
        except Exception:  # whatever it is, it proves nothing
            return None
        proto.transport.abortConnection()
        return True
