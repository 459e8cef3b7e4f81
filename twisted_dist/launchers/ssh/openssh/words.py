"""What ``ssh`` says when it fails, and what that means; its exit status is 255 for everything."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import printable
from twisted_dist.launchers.ssh.settings import HostSettings


class WrongFingerprintError(SSHError):
    """A host showed a key that is not one of those named; it may have another one."""


@frozen
class _Meaning:
    """What some words mean.

    Attributes:
        kind: of `SSHError`.
        pattern: of the words.
        advice: what to do.
        is_passing: whether it may be otherwise in a moment.
    """

    kind: str
    pattern: re.Pattern[str]
    advice: str = ""
    is_passing: bool = False


def _meaning(kind: str, pattern: str, advice: str = "", is_passing: bool = False) -> _Meaning:
    return _Meaning(kind, re.compile(f"^.*(?:{pattern}).*$", re.MULTILINE), advice, is_passing)


#: the first that is found counts: what comes later is said of everything
_MEANINGS: Final = (
    _meaning("settings", r"Bad configuration option|terminating, \d+ bad configuration"),
    _meaning("settings", r"Can't open user config file|Bad owner or permissions"),
    _meaning(
        "host-key-changed",
        "REMOTE HOST IDENTIFICATION HAS CHANGED|[Hh]ost key for .* has changed|"
        "POSSIBLE DNS SPOOFING|REVOKED HOST KEY",
        "its host key is another one than known_hosts has: if it was set up anew, remove the old "
        "one with ssh-keygen -R; else somebody is in between",
    ),
    _meaning(
        "host-key",
        "Host key verification failed|No .* host key is known",
        "its host key is not known here: enter it once with ssh, or take --accept-new or "
        "--fingerprint",
    ),
    _meaning("name", "Could not resolve hostname", "is the name right?"),
    _meaning(
        "auth",
        "Too many authentication failures",
        "it saw too many wrong keys: name the right one, with IdentitiesOnly",
    ),
    _meaning("auth", "Permission denied|No supported authentication methods"),
    _meaning("protocol", "Unable to negotiate|no matching .* found"),
    _meaning("refused", "Connection refused", "does sshd run there, on this port?", True),
    _meaning(
        "unreachable",
        "Connection timed out|No route to host|Network is unreachable|Host is down|"
        "Operation timed out|Connection to .* timed out|Timeout, server",
        is_passing=True,
    ),
    _meaning(
        "refused",
        "kex_exchange_identification|banner exchange",
        "its sshd dropped the connection at once: there are too many (MaxStartups), or it "
        "refuses this machine for a while after logins that failed (PerSourcePenalties)",
        is_passing=True,
    ),
    _meaning("lost", "Connection (?:closed|reset)|closed by remote", is_passing=True),
)
#: said beside the reason, and no reason
_NOISE = re.compile(r"^(?:@+|Warning: |debug\d: |\*\*|Pseudo-terminal |Agent pid|\s*$)")
#: of the text of a changed host key, the line that tells where the old one is
_WHERE = re.compile(r"^Offending .* key in (.*)$", re.MULTILINE)


def entering_error(settings: HostSettings, text: str, status: str) -> SSHError:
    """Why a host was not entered.

    Args:
        settings: of the host.
        text: what ``ssh`` said.
        status: how it ended, for the case that it said nothing.
    """
    text = text.replace("\r", "")
    if settings.fingerprints and "Host key verification failed" in text:
        return WrongFingerprintError(
            f"{settings.alias}: its host key has none of the fingerprints that were named",
            "host-key",
        )
    if settings.fingerprints and "knownhostscommand" in text.lower():
        return SSHError(
            f"{settings.alias}: --fingerprint needs OpenSSH 8.5 here, or no --ssh-command: "
            f"{printable(text)}",
            "settings",
        )
    for meaning in _MEANINGS:
        found = meaning.pattern.search(text)
        if found:
            said = printable(found[0])
            if meaning.kind == "host-key-changed":
                place = _WHERE.search(text)
                said = f"in {printable(place[1])}" if place else "in known_hosts"
            parts = [settings.alias, *([meaning.advice] if meaning.advice else [])]
            message = f"{': '.join(parts)} ({said})" if meaning.advice else f"{parts[0]}: {said}"
            return SSHError(message, meaning.kind, meaning.is_passing)
    return SSHError(f"{settings.alias}: {reason(text) or f'ssh {status}'}", "protocol")


def reason(text: str) -> str:
    """The last line that says something; empty where none does."""
    lines = [each for each in text.replace("\r", "").splitlines() if not _NOISE.match(each)]
    return printable(lines[-1]) if lines else ""
