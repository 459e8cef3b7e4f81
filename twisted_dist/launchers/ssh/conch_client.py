"""`ConchClient`: enters hosts by `twisted.conch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.bastions import Bastions, Lease
from twisted_dist.launchers.ssh.connection import ConchConnection
from twisted_dist.launchers.ssh.dial import dial
from twisted_dist.launchers.ssh.failures import USE_SYSTEM_SSH, out_of_time
from twisted_dist.launchers.ssh.host_keys import HostKeyCheck, WrongFingerprintError
from twisted_dist.launchers.ssh.jump import JumpEndpoint
from twisted_dist.launchers.ssh.login import Login
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings
from twisted_dist.launchers.ssh.transport import ClientTransport


class _Attempt:
    """An attempt to enter a host: its time, and how far it is."""

    def __init__(self, settings: HostSettings, patience: Patience) -> None:
        self.settings = settings
        self.patience = patience
        self.transport: ClientTransport | None = None

    def out_of_time(self) -> SSHError:
        """What it came to."""
        doing = self.transport.phase.value if self.transport is not None else ""
        return out_of_time(self.settings, self.patience.seconds, doing)


class ConchClient:
    """An `SSHClient` without any other program.

    Args:
        reactor: of everything.
        secrets: what people are asked.
        endpoint: dials what settings say; `HostnameEndpoint` by default.
    """

    def __init__(
        self,
        reactor: Any,
        secrets: Secrets,
        endpoint: Callable[[HostSettings], IStreamClientEndpoint] | None = None,
    ) -> None:
        self._reactor = reactor
        self._secrets = secrets
        self._endpoint = endpoint or self._by_name
        self._bastions = Bastions(self.connect)

    async def connect(self, settings: HostSettings) -> ConchConnection:
        """Enter a host once.

        Cancelled, or out of time, it leaves no socket.

        Raises:
            SSHError: it could not be entered.
        """
        for each in (settings, *settings.jumps):
            if each.proxy_command is not None:
                raise SSHError(
                    f"{each.alias}: its configuration has a ProxyCommand, which is not run here; "
                    f"{USE_SYSTEM_SSH}",
                    "settings",
                )
            if each.revoked_host_keys is not None:
                raise SSHError(
                    f"{each.alias}: its configuration has RevokedHostKeys, which is not read here; "
                    f"{USE_SYSTEM_SSH}",
                    "settings",
                )
        attempt = _Attempt(settings, Patience(self._reactor, settings.connect_timeout_s))
        entering = Deferred.fromCoroutine(self._enter(attempt))
        try:
            return await attempt.patience.limit(entering)
        except CancelledError:
            if attempt.patience.is_over:
                raise attempt.out_of_time() from None
            raise

    def close(self) -> Deferred[None]:
        """Fires once bastions are left, which they are when nobody is behind them any more."""
        return self._bastions.close()

    async def _enter(self, attempt: _Attempt) -> ConchConnection:
        settings = attempt.settings
        if not settings.jumps:
            transport = await self._log_in(attempt, self._endpoint(settings))
            return ConchConnection(self._reactor, settings, transport)
        lease = await self._lease(attempt)
        try:
            way = JumpEndpoint(self._reactor, lease.connection, settings.jumps[-1].alias, settings)
            transport = await self._log_in(attempt, way)
        except BaseException:
            lease.release()
            raise
        transport.lost().addCallback(lambda _: lease.release())
        return ConchConnection(self._reactor, settings, transport)

    async def _lease(self, attempt: _Attempt) -> Lease:
        """The way to the host behind bastions, which have limits of their own."""
        settings = attempt.settings
        try:
            with attempt.patience.paused():
                return await self._bastions.lease(settings.jumps)
        except SSHError as error:
            raise SSHError(
                f"{settings.alias}: not reached by way of {settings.jumps[-1].alias}: {error}",
                error.kind,
                error.is_passing,
            ) from error

    async def _log_in(self, attempt: _Attempt, way: IStreamClientEndpoint) -> ClientTransport:
        """Connect and log in.

        Where fingerprints were named, it may take several connections: a host has a key of each
        type, shows one at a time, and a fingerprint does not tell its type.
        """
        without: frozenset[bytes] = frozenset()
        wrong: WrongFingerprintError | None = None
        while True:
            try:
                return await self._log_in_once(attempt, way, without)
            except WrongFingerprintError as error:
                wrong = wrong or error
                without |= {error.key_type}
            except SSHError as error:
                # the host has no key of another type
                if wrong is not None and error.kind == "protocol":
                    raise wrong from None
                raise

    async def _log_in_once(
        self, attempt: _Attempt, way: IStreamClientEndpoint, without: frozenset[bytes]
    ) -> ClientTransport:
        settings, patience = attempt.settings, attempt.patience
        host_key = HostKeyCheck(settings, self._secrets, patience, without)
        login = Login(self._reactor, settings, self._secrets, patience, host_key)
        transport = ClientTransport(login, host_key)
        await dial(settings, way, transport)
        attempt.transport = transport
        try:
            await transport.ready
        except BaseException:
            transport.abort()
            await transport.lost()
            raise
        return transport

    def _by_name(self, settings: HostSettings) -> IStreamClientEndpoint:
        return HostnameEndpoint(
            self._reactor, settings.host, settings.port, timeout=settings.connect_timeout_s
        )
