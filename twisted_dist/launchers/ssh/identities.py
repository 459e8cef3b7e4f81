"""Which keys are tried at a host, and in which order.

First the agent's keys that are in identity files, then its others, then identity files by
themselves: as ssh does, whose users set up their servers' limits by it.
"""

from __future__ import annotations

from typing import Protocol

from twisted.conch.ssh.keys import Key

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.agent import Agent, AgentError
from twisted_dist.launchers.ssh.algorithms import type_name
from twisted_dist.launchers.ssh.keys import Identity, UnusableKeyError, read_identity
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings


class Candidate(Protocol):
    """A key that may be tried."""

    @property
    def name(self) -> str:
        """What people call it."""

    async def public(self) -> Key | None:
        """Its public half; None where it cannot be had."""

    async def sign(self, data: bytes, algorithm: bytes) -> bytes | None:
        """A signature, in SSH's form; None where it cannot be had."""


class AgentKey:
    """A key that the agent keeps."""

    def __init__(self, agent: Agent, key: Key, comment: str, patience: Patience) -> None:
        self.name = f"{comment or type_name(key.sshType())} (agent)"
        self._agent = agent
        self._key = key
        self._patience = patience

    async def public(self) -> Key | None:
        """It has it."""
        return self._key

    async def sign(self, data: bytes, algorithm: bytes) -> bytes | None:
        """The agent signs, perhaps once a person lets it; that has a limit of its own."""
        try:
            with self._patience.paused():
                return await self._agent.sign(self._key, data, algorithm)
        except AgentError:
            return None


class FileKey:
    """A key in a file of its own, perhaps with a passphrase."""

    def __init__(self, identity: Identity, secrets: Secrets, patience: Patience) -> None:
        self.name = identity.path
        self._identity = identity
        self._secrets = secrets
        self._patience = patience

    async def public(self) -> Key | None:
        """From the file, or, in old files, with the passphrase."""
        if self._identity.public is not None:
            return self._identity.public
        key = await self._secrets.open_key(self._identity, self._patience)
        return None if key is None else key.public()

    async def sign(self, data: bytes, algorithm: bytes) -> bytes | None:
        """It signs; a passphrase is asked for only now, when the server will have the key."""
        key = await self._secrets.open_key(self._identity, self._patience)
        return None if key is None else key.sign(data, signatureType=algorithm)


def read_identities(settings: HostSettings) -> tuple[list[Identity], list[str]]:
    """The identity files that can be used, and what is wrong with the others.

    Raises:
        SSHError: one that the user has asked for is of no use.
    """
    found, problems = [], []
    for path in settings.identity_files:
        try:
            found.append(read_identity(path))
            continue
        except FileNotFoundError:
            problem = "is not there"
            if not settings.identities_demanded:
                continue
        except UnusableKeyError as error:
            problem = str(error)
        if settings.identities_demanded:
            raise SSHError(f"{settings.alias}: the key {path} is of no use: {problem}", "settings")
        problems.append(f"{path}: {problem}")
    return found, problems


async def order(
    settings: HostSettings,
    identities: list[Identity],
    agent: Agent | None,
    secrets: Secrets,
    patience: Patience,
) -> list[Candidate]:
    """All keys to try at a host, best first.

    Raises:
        AgentError: the agent does not say what it has.
    """
    kept = await agent.keys() if agent is not None else []
    blobs = {key.blob() for key, _ in kept}
    listed = [each.public.blob() for each in identities if each.public is not None]
    matching = [
        (key, comment) for blob in listed for key, comment in kept if key.blob() == blob
    ]  # in the order of the files
    others = [(key, comment) for key, comment in kept if key.blob() not in listed]
    if settings.identities_only:
        others = []
    candidates: list[Candidate] = []
    if agent is not None:
        candidates += [
            AgentKey(agent, key, comment, patience) for key, comment in matching + others
        ]
    candidates += [
        FileKey(each, secrets, patience)
        for each in identities
        if each.has_private and (each.public is None or each.public.blob() not in blobs)
    ]
    return candidates
