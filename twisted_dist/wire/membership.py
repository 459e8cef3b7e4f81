"""What a client or worker knows of its network, and so whom it calls and whom it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import frozen

from twisted_dist.access.access import Access
from twisted_dist.access.credential import Pin
from twisted_dist.access.find import GivenAccess, find_access
from twisted_dist.access.roles import ADMIN, WORKER
from twisted_dist.errors import RefusedError
from twisted_dist.wire.tls import Ends, PinnedTLS


class Authority(Protocol):
    """Decides, for a listening daemon, who its peers are."""

    def answering(self) -> Ends | None:
        """TLS for accepted connections; None where there is none (``--insecure``)."""

    def role(self, pin: Pin | None) -> str:
        """The role of the holder of a key. Raises RefusedError with the reason."""

    def ready(self) -> bool:
        """Whether connections can be answered yet."""


class Insecure:
    """The authority of ``--insecure``: whoever comes may do everything."""

    def answering(self) -> None:
        """No TLS."""

    def role(self, pin: Pin | None) -> str:
        """Everybody is admin."""
        return ADMIN

    def ready(self) -> bool:
        """Always."""
        return True


@frozen
class Entry:
    """How to enter a daemon.

    Attributes:
        tls: as whom.
        accepts: whether the daemon of a pin is the right one.
        what: which one that is, in messages.
    """

    tls: PinnedTLS
    accepts: Callable[[Pin], bool]
    what: str


class Membership:
    """A member's access and, once its scheduler has told them, the keys of all others.

    Also the `Authority` of a worker's port: it answers whoever the scheduler knows.

    Args:
        given: as of `access.find.find_access`; looked for when first needed, and again after
            `forget`.
        insecure: there is no TLS; everything is allowed to everybody.
        roles: of the credential to use, best first.
    """

    def __init__(self, given: GivenAccess, insecure: bool, roles: Sequence[str]) -> None:
        self._given = given
        self.insecure = insecure
        self._roles = roles
        self._access: Access | None = None
        self._tls: PinnedTLS | None = None
        self._keys: Mapping[Pin, str] = {}

    def to_scheduler(self, address: str) -> Entry | None:
        """The way into the scheduler at *address*; None without TLS.

        Raises:
            AccessError: there is no access for it here, or not one that serves.
        """
        if self.insecure:
            return None
        if self._access is None or self._tls is None:
            access = find_access(address, self._given)
            self._tls = PinnedTLS(access.credential(*self._roles))
            self._access = access
            first = {pin: WORKER for pin in access.workers}
            self._keys = {**first, **{c.pin: c.role for c in access.credentials.values()}}
        wanted = self._access.scheduler
        return Entry(self._tls, lambda pin: pin == wanted, "the scheduler that this access is for")

    def forget(self) -> None:
        """Look for the access anew next time: the scheduler may have been set up anew."""
        self._access = None

    def to_worker(self) -> Entry | None:
        """The way into any worker of the network; None without TLS."""
        if self.insecure:
            return None
        assert self._tls is not None, "no worker is known before the scheduler"
        return Entry(
            self._tls, lambda pin: self._keys.get(pin) == WORKER, "a worker of this network"
        )

    def learn(self, keys: Mapping[Pin, str]) -> None:
        """The scheduler tells the keys that count, with their roles."""
        self._keys = keys

    # -- as the authority of a port

    def answering(self) -> Ends | None:
        """TLS for those that the scheduler knows."""
        if self.insecure:
            return None
        assert self._tls is not None
        return self._tls.answering(lambda pin: pin in self._keys)

    def role(self, pin: Pin | None) -> str:
        """As the scheduler says. Raises RefusedError."""
        if self.insecure:
            return ADMIN
        role = self._keys.get(pin) if pin is not None else None
        if role is None:
            raise RefusedError("this credential is not, or no longer, one of this network")
        return role

    def ready(self) -> bool:
        """Whether there is an access, or none is needed."""
        return self.insecure or self._tls is not None
