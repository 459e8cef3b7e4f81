"""What a client or worker knows of its network, and so whom it calls and whom it answers."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from attrs import evolve, frozen

from twisted_dist.access.access import Access
from twisted_dist.access.credential import Certificate, Credential
from twisted_dist.access.find import GivenAccess, find_access
from twisted_dist.access.roles import ADMIN, WORKER
from twisted_dist.errors import RefusedError
from twisted_dist.wire.tls import tls_context


class Authority(Protocol):
    """Decides, for a listening daemon, who its peers are.

    Attributes:
        insecure: there is no TLS, and everybody may do everything.
    """

    insecure: bool

    def context(self) -> ssl.SSLContext:
        """TLS for one more accepted connection."""

    def role(self, certificate: Certificate | None) -> str:
        """The role of whoever has proven to hold a key. Raises RefusedError with the reason."""

    def ready(self) -> bool:
        """Whether connections can be answered yet."""


class Insecure:
    """The authority of ``--insecure``: whoever comes may do everything."""

    insecure = True

    def context(self) -> ssl.SSLContext:
        """There is none."""
        raise RuntimeError("a daemon without TLS was asked for it")

    def role(self, certificate: Certificate | None) -> str:
        """Everybody is admin."""
        return ADMIN

    def ready(self) -> bool:
        """Always."""
        return True


class Contexts:
    """TLS as the holder of one credential, made anew only when others are trusted."""

    def __init__(self, credential: Credential, *, answers: bool) -> None:
        self._credential = credential
        self._answers = answers
        self._trusted: frozenset[Certificate] | None = None
        self._context: ssl.SSLContext | None = None

    def trusting(self, certificates: Iterable[Certificate]) -> ssl.SSLContext:
        """The context for peers of these certificates."""
        trusted = frozenset(certificates)
        if self._context is None or trusted != self._trusted:
            self._context = tls_context(self._credential, trusted, answers=self._answers)
            self._trusted = trusted
        return self._context


@frozen
class Entry:
    """How to enter a daemon.

    Attributes:
        context: TLS, as whom.
        accepted: certificates of which the daemon must have one.
        what: which daemon that is, in messages.
    """

    context: ssl.SSLContext
    accepted: frozenset[Certificate]
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
        self._to_scheduler: Contexts | None = None
        self._to_worker: Contexts | None = None
        self._answering: Contexts | None = None
        self._keys: Mapping[Certificate, str] = {}

    def to_scheduler(self, address: str) -> Entry | None:
        """The way into the scheduler at *address*; None without TLS.

        Raises:
            AccessError: there is no access for it here, or not one that serves.
        """
        if self.insecure:
            return None
        if self._access is None or self._to_scheduler is None:
            access = find_access(address, self._given)
            credential = access.credential(*self._roles)
            self._to_scheduler = Contexts(credential, answers=False)
            self._to_worker = Contexts(credential, answers=False)
            self._answering = Contexts(credential, answers=True)
            self._access = access
            own = {each.certificate: each.role for each in access.credentials.values()}
            self._keys = {**dict.fromkeys(access.workers, WORKER), **own}
        wanted = frozenset((self._access.scheduler,))
        what = "the scheduler that this access is for"
        return Entry(self._to_scheduler.trusting(wanted), wanted, what)

    def addresses(self, address: str) -> tuple[str, ...]:
        """Where the scheduler at *address* may be: there first."""
        known = self._access.addresses if self._access is not None else ()
        return (address, *(each for each in known if each != address))

    def forget(self) -> None:
        """Look for the access anew next time: the scheduler may have been set up anew."""
        self._access = None

    def to_worker(self) -> Entry | None:
        """The way into any worker of the network; None without TLS."""
        if self.insecure:
            return None
        assert self._to_worker is not None, "no worker is known before the scheduler"
        workers = frozenset(each for each, role in self._keys.items() if role == WORKER)
        return Entry(self._to_worker.trusting(workers), workers, "a worker of this network")

    def join_string(self) -> str:
        """What another process needs to enter as this member; empty without TLS."""
        if self.insecure:
            return ""
        assert self._access is not None, "there is no access before the scheduler was dialled"
        credential = self._access.credential(*self._roles)
        own = {credential.role: credential}  # workers' keys it is told by the scheduler
        return evolve(self._access, workers=frozenset(), credentials=own).join_string()

    def learn(self, keys: Mapping[Certificate, str]) -> None:
        """The scheduler tells the certificates that count, with their roles."""
        self._keys = keys

    # -- as the authority of a port

    def context(self) -> ssl.SSLContext:
        """TLS for those that the scheduler knows."""
        assert self._answering is not None, "nobody is answered before there is an access"
        return self._answering.trusting(self._keys)

    def role(self, certificate: Certificate | None) -> str:
        """As the scheduler says. Raises RefusedError."""
        if self.insecure:
            return ADMIN
        role = self._keys.get(certificate) if certificate is not None else None
        if role is None:
            raise RefusedError("this credential is not, or no longer, one of this network")
        return role

    def ready(self) -> bool:
        """Whether there is an access, or none is needed."""
        return self.insecure or self._answering is not None
