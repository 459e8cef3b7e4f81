"""What went wrong on the way to a host, in one line that says what to do."""

from __future__ import annotations

import os
from typing import Final

from twisted.conch.error import ConchError
from twisted.conch.ssh.connection import OPEN_ADMINISTRATIVELY_PROHIBITED
from twisted.internet import error as net

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.settings import HostSettings

#: what is shown of what a server said: a line of a terminal
SHOWN_CHARACTERS: Final = 200
USE_SYSTEM_SSH: Final = "the system's ssh may do it: --ssh-command ssh"


def printable(said: bytes | str) -> str:
    """What a server said, fit for a terminal: one line, without control characters."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS] + "…"


def _system_words(problem: BaseException) -> str:
    number = getattr(problem, "osError", None)
    return os.strerror(number) if isinstance(number, int) else str(problem)


def dial_error(settings: HostSettings, problem: BaseException) -> SSHError:
    """Why nobody could be connected to at a host's port."""
    place = f"{settings.host} port {settings.port}"
    if isinstance(problem, net.DNSLookupError | ValueError):
        return SSHError(
            f"{settings.alias}: the name {settings.host!r} does not resolve; is it right?", "name"
        )
    if isinstance(problem, net.ConnectionRefusedError):
        return SSHError(
            f"{settings.alias}: nobody listens at {place} (connection refused); "
            "does sshd run there, and on this port?",
            "refused",
            is_passing=True,
        )
    if isinstance(problem, net.TimeoutError | net.TCPTimedOutError | net.UserError):
        return out_of_time(settings, settings.connect_timeout_s, "")
    return SSHError(
        f"{settings.alias}: {place} cannot be reached: {_system_words(problem)}",
        "unreachable",
        is_passing=True,
    )


def out_of_time(settings: HostSettings, seconds: float, doing: str) -> SSHError:
    """Nothing came of it in time; *doing* says how far it was, or is empty before a connection."""
    if not doing:
        doing = "nothing answers: is it up, and does a firewall let this port through?"
    return SSHError(
        f"{settings.alias}: not entered within {seconds:g} s ({settings.host} port "
        f"{settings.port}): {doing}",
        "unreachable",
        is_passing=True,
    )


#: what sshd says of a forward that it could not make, and what it means; other texts mean that
#: the host cannot be reached
_FORWARDING: Final = (
    ("name", ("name or service not known", "nodename nor servname", "name resolution"), False),
    ("refused", ("connection refused",), True),
)


def forward_error(settings: HostSettings, bastion: str, problem: BaseException) -> SSHError:
    """Why a bastion made no connection to the host behind it."""
    said, code = printable(str(problem)), None
    if isinstance(problem, ConchError) and problem.args:
        said = printable(problem.args[0])
        code = getattr(problem, "data", None)
    if code == OPEN_ADMINISTRATIVELY_PROHIBITED:
        return SSHError(
            f"{settings.alias}: {bastion} does not forward connections to {settings.host} port "
            f"{settings.port} ({said}); see AllowTcpForwarding and PermitOpen of its sshd",
            "settings",
        )
    kind, is_passing = "unreachable", True
    for each, texts, passes in _FORWARDING:
        if any(text in said.lower() for text in texts):
            kind, is_passing = each, passes
    return SSHError(
        f"{settings.alias}: {bastion} cannot connect to {settings.host} port {settings.port}: "
        f"{said}",
        kind,
        is_passing,
    )
