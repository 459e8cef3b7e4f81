"""`Request`: a cluster that somebody wants, and how its hosts are entered."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from attrs import field, frozen

from twisted_dist.launchers.cluster.plan import Plan
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.ssh.settings import Strictness


@frozen(kw_only=True)
class SSHOptions:
    """What was said of SSH, for all hosts; a host's own words come before it.

    Attributes:
        user: on the hosts.
        port: of their sshds.
        key: path of the key to enter with.
        config_file: as ``ssh -F``.
        strictness: about unknown host keys; None for what is configured.
        fingerprints: of the only host keys to take.
        command: words that start the system's ``ssh``; none for the client of this package.
    """

    user: str | None = None
    port: int | None = None
    key: str | None = None
    config_file: str | None = None
    strictness: Strictness | None = None
    fingerprints: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@frozen(kw_only=True)
class Request:
    """A cluster that somebody wants.

    Attributes:
        plan: what runs where.
        policy: with how little it begins.
        ssh: how hosts are entered.
        surroundings: what daemons are started in.
        directories: on the hosts, that daemons write to.
        ships: the package is sent to hosts where it is not, or not of this version.
        is_insecure: without TLS and credentials.
        interface: on which hosts know each other, or a subnet; "" for where each is reached.
        environ: the variables of this process, for SSH.
    """

    plan: Plan
    policy: Policy = field(factory=Policy)
    ssh: SSHOptions = field(factory=SSHOptions)
    surroundings: Surroundings = field(factory=lambda: Surroundings(here=sys.executable))
    directories: tuple[str, ...] = ()
    ships: bool = False
    is_insecure: bool = False
    interface: str = ""
    environ: Mapping[str, str] = field(factory=lambda: dict(os.environ), repr=False)
