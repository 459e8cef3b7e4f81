"""`HostSettings`: what is known of a host before it is entered."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import field, frozen

SSH_PORT: Final = 22
#: seconds until a host must have been entered: ``ssh`` would wait for the kernel, two minutes
CONNECT_S: Final = 20.0
#: seconds of silence after which a host is asked whether it is there, and how often it may not
#: answer. ``ssh`` does not ask by default, and so does not notice a cut link; values as in
#: many people's configurations
ALIVE_S: Final = 15.0
ALIVE_COUNT: Final = 3


class Strictness(Enum):
    """What is done about a host key that is in no known_hosts file (``StrictHostKeyChecking``)."""

    #: refused
    YES = "yes"
    #: asked on a terminal, refused without one
    ASK = "ask"
    #: taken and remembered; one that has changed is refused all the same
    ACCEPT_NEW = "accept-new"
    #: taken, also where it has changed: what the user's configuration says of this host
    NO = "no"


@frozen(kw_only=True)
class HostSettings:
    """How to enter one host. Values follow ``ssh_config(5)``, whose names are in brackets.

    Attributes:
        alias: what the user called it.
        host: the name or number to dial [HostName].
        port: [Port].
        user: [User].
        identity_files: paths of private keys, best first; those that are not there are
            skipped, unless `identities_demanded` [IdentityFile].
        identities_only: keys of the agent that are in no identity file are not tried
            [IdentitiesOnly].
        identities_demanded: the user named the keys for this run: not to read one is an error.
        agent: path of the agent's socket; None for no agent [IdentityAgent].
        jumps: hosts to go through, first the one to dial; each with settings of its own
            [ProxyJump].
        proxy_command: a command that connects, which only the system's ssh runs
            [ProxyCommand].
        revoked_host_keys: a file of keys that are refused, which only the system's ssh reads
            [RevokedHostKeys].
        known_hosts: files that are read; what is learnt goes to the first
            [UserKnownHostsFile, then GlobalKnownHostsFile].
        key_alias: the name in known_hosts files, where it is not host and port [HostKeyAlias].
        strictness: [StrictHostKeyChecking].
        fingerprints: ``SHA256:…`` of the only host keys that are taken, whatever is in
            files, where there are any.
        connect_timeout_s: until it must have been entered, questions to people apart
            [ConnectTimeout].
        alive_interval_s: [ServerAliveInterval].
        alive_count: [ServerAliveCountMax].
        config_file: the ``ssh -F`` that all this came from; None for the user's own.
    """

    alias: str
    host: str
    port: int = SSH_PORT
    user: str
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    identities_demanded: bool = False
    agent: str | None = None
    jumps: tuple[HostSettings, ...] = ()
    proxy_command: str | None = None
    revoked_host_keys: str | None = None
    known_hosts: tuple[str, ...] = ()
    key_alias: str | None = None
    strictness: Strictness = Strictness.ASK
    fingerprints: frozenset[str] = field(default=frozenset(), converter=frozenset)
    connect_timeout_s: float = CONNECT_S
    alive_interval_s: float = ALIVE_S
    alive_count: int = ALIVE_COUNT
    config_file: str | None = None

    @property
    def known_name(self) -> str:
        """Its name in known_hosts files: ``host``, or ``[host]:port`` for another port than 22."""
        if self.key_alias is not None:
            return self.key_alias
        return self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"

    def __str__(self) -> str:
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{self.user}@{self.host}{port}"
