"""The way into a scheduler: from what a member holds to a connection that was greeted."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Protocol

from twisted_dist.address import parse_address
from twisted_dist.errors import AccessError, ConnectError
from twisted_dist.wire.dial import DIAL_S, Dialled, SwitchFactory, dial
from twisted_dist.wire.membership import Entry, Membership


async def enter(
    reactor: Any, address: str, role: str, membership: Membership, timeout_s: float = DIAL_S
) -> Dialled:
    """Dial the scheduler at *address* with the access for it.

    Raises:
        ConnectError: nobody is there, yet; also where no access is found and nobody is
            there, since a scheduler's first start is what makes it.
        AccessError: somebody is there, and no access for it is here; or as of `dial`.
        RefusedError: as of `dial`.
    """
    entry = await _entry(reactor, address, membership, timeout_s)
    return await dial(reactor, address, role, entry, timeout_s)


async def _entry(
    reactor: Any, address: str, membership: Membership, timeout_s: float
) -> Entry | None:
    try:
        return membership.to_scheduler(address)
    except AccessError as problem:
        if await is_there(reactor, address, timeout_s):
            return membership.to_scheduler(address)  # it may have begun meanwhile
        raise ConnectError(f"nobody listens at {address}, and {problem}") from None


async def is_there(reactor: Any, address: str, timeout_s: float) -> bool:
    """Whether something listens at *address*; nothing is said to it."""
    host, port = parse_address(address)
    try:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout_s)
        proto: Any = await endpoint.connect(SwitchFactory(Protocol()))
    except (defer.CancelledError, ConnectingCancelledError):
        raise defer.CancelledError from None
    except Exception:  # whatever it is, nobody is there
        return False
    proto.transport.abortConnection()
    return True
