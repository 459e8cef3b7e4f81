"""`Entrance`: the way into the hosts of a cluster, as was said of SSH."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.dialling import Dialling
from twisted_dist.launchers.cluster.request import SSHOptions
from twisted_dist.launchers.hosts.spec import HostSpec
from twisted_dist.launchers.ssh.conch_client import ConchClient
from twisted_dist.launchers.ssh.config import Resolver
from twisted_dist.launchers.ssh.interface import Asker, Connection, SSHClient
from twisted_dist.launchers.ssh.openssh.client import OpenSSHClient
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings


class Entrance:
    """Enters hosts, all by the same words.

    Args:
        reactor: of everything.
        ssh: what was said of SSH; a host's own words come before it.
        asker: asks people for passwords, and whether they know a host.
        environ: the variables of this process.
        chance: varies waits.

    Attributes:
        dialling: enters hosts whose settings are known.
    """

    def __init__(
        self,
        reactor: Any,
        ssh: SSHOptions,
        asker: Asker,
        environ: Mapping[str, str],
        chance: random.Random,
    ) -> None:
        self._ssh = ssh
        self._client: SSHClient = (
            OpenSSHClient(reactor, asker, environ=environ, words=ssh.command)
            if ssh.command
            else ConchClient(reactor, Secrets(asker))
        )
        self.dialling = Dialling(reactor, self._client, chance)
        program = ssh.command[0] if ssh.command else "ssh"
        self._resolver = Resolver(
            reactor, environ=environ, config_file=ssh.config_file, ssh=program
        )

    async def resolve(self, spec: HostSpec) -> HostSettings:
        """What is known of a host before it is entered. Raises SSHError."""
        ssh = self._ssh
        return await self._resolver.resolve(
            spec.host,
            user=spec.user or ssh.user,
            port=spec.port or ssh.port,
            key=ssh.key,
            strictness=ssh.strictness,
            fingerprints=ssh.fingerprints,
        )

    async def enter(
        self,
        spec: HostSpec,
        patience_s: float,
        failed: Callable[[SSHError], None] = lambda problem: None,
    ) -> Connection:
        """Enter a host, as `Dialling.connect` does. Raises SSHError."""
        settings = await self.resolve(spec)
        return await self.dialling.connect(settings, patience_s, failed)

    def close(self) -> Deferred[None]:
        """End what connections shared, once they are closed."""
        return self._client.close()
