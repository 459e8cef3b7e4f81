"""How a worker's data is reached: by dialling it, or else by the scheduler's relay."""

from __future__ import annotations

from typing import Any, Final

from twisted.logger import Logger

from twisted_dist.errors import AccessError, ConnectError, RefusedError
from twisted_dist.wire import commands
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.dial import DIAL_S, dial
from twisted_dist.wire.entering import enter
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.once import Once
from twisted_dist.wire.relay import TICKET_S

#: seconds to connect to a worker until the relay is tried; the first two retries of a lost
#: SYN are within it (Linux sends them after 1 and 3 s)
CONNECT_S: Final = 3.5
#: seconds that an address which could not be dialled is not dialled again
REMEMBER_S: Final = 60.0
#: seconds to get a relay: the scheduler says within `TICKET_S` why there is none
RELAY_S: Final = TICKET_S + 5.0


class Reach:
    """Opens data connections for one member, and remembers whom it could not dial.

    Args:
        reactor: to connect with.
        name: this member's, for others' logs.
        membership: its keys.
        scheduler: the address of who relays.
    """

    log = Logger()

    def __init__(self, reactor: Any, name: str, membership: Membership, scheduler: str) -> None:
        self._reactor = reactor
        self._name = name
        self._membership = membership
        self._scheduler = scheduler
        #: {address that is relayed to: (why, until when it is not dialled)}
        self._undialable: dict[str, tuple[ConnectError, float]] = {}
        self._told = Once()

    async def open(self, address: str) -> DataProtocol:
        """A data connection to the worker at *address*.

        Raises:
            ConnectError: it cannot be dialled, and the scheduler cannot relay; says both.
            AccessError: as of `dial`; then nothing is relayed.
            RefusedError: likewise.
        """
        known = self._undialable.get(address)
        if known is None or known[1] <= self._reactor.seconds():
            try:
                return await self.dial(address)
            except ConnectError as problem:
                why = problem
        else:
            why = known[0]
        return await self._relayed(address, why)

    def is_due(self, address: str) -> bool:
        """Whether *address* is relayed to, and it is time to try and dial it once more.

        Who is told so has to try: it is not due again for `REMEMBER_S`.
        """
        known = self._undialable.get(address)
        now = self._reactor.seconds()
        if known is None or known[1] > now:
            return False
        self._undialable[address] = known[0], now + REMEMBER_S
        return True

    async def dial(self, address: str) -> DataProtocol:
        """A connection that is dialled. Errors as of `wire.dial.dial`."""
        entry = self._membership.to_worker()
        proto = await dial(self._reactor, address, "data", entry, connect_s=CONNECT_S)
        data = DataProtocol(self._reactor)
        await proto.switch(commands.OpenData, data, DIAL_S, name=self._name)
        await self._introduced(data)
        self._undialable.pop(address, None)
        return data

    async def _introduced(self, data: DataProtocol) -> None:
        """Wait until both ends know whether they are on one host."""
        await data.ready.addTimeout(DIAL_S, self._reactor, data.no_word)

    async def _relayed(self, address: str, why: ConnectError) -> DataProtocol:
        data = DataProtocol(self._reactor)
        wanted = {"name": self._name, "address": address}
        try:
            proto = await enter(self._reactor, self._scheduler, "data", self._membership)
            await proto.switch(commands.OpenRelay, data, RELAY_S, **wanted)
            await self._introduced(data)
        except (ConnectError, AccessError, RefusedError) as problem:
            # it may be dead, and soon start anew: then it is to be dialled
            self._undialable.pop(address, None)
            raise ConnectError(f"{why}, and the scheduler cannot relay: {problem}") from None
        now = self._reactor.seconds()
        known = self._undialable.get(address)
        if known is None or known[1] <= now:
            self._undialable[address] = why, now + REMEMBER_S
        if self._told.is_new(address):
            self.log.warn("{why}: the scheduler relays", why=why)
        return data
