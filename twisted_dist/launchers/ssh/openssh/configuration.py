"""The configuration that ``ssh`` is given: what was decided here first, then the user's own.

The first value counts in an ``ssh_config``. So `HostSettings` hold for the host and for those on
the way, which a command line could not say; and certificates, ciphers and whatever else we know
nothing of are as the user has them.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.settings import HostSettings, Strictness

#: what ``ssh`` says through LocalCommand once it is in, and listens for others
READY: Final = "twisted-dist-is-in"
#: prints the line of a known_hosts file for a host's key, if its fingerprint is one of those;
#: else the key's type is kept in a file
_PIN = """
import base64, hashlib, sys
seen, name, kind, key, *wanted = sys.argv[1:]
try:
    digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
except ValueError:
    sys.exit()
if "SHA256:" + base64.b64encode(digest).decode().rstrip("=") in wanted:
    print(name, kind, key)
else:
    with open(seen, "a") as file:
        file.write(kind + " ")
"""
_NAME = re.compile(r"[\w.:%@+-]+")
#: of the one that keeps the connection; forwards of the user are for one session, not for fifty
_MASTER = (
    "ClearAllForwardings yes",
    "ConnectionAttempts 1",
    "ControlPersist no",
    "ForwardX11 no",
    f"LocalCommand echo {READY}",
    "PermitLocalCommand yes",
    "RemoteCommand none",
    "RequestTTY no",
    "Tunnel no",
    "VisualHostKey no",
)


@frozen
class Pin:
    """How a host's key is compared with fingerprints.

    Attributes:
        program: path of `pin_program`.
        seen: path of a file for the types of keys that have none of them.
        without: types that the host shall not show.
    """

    program: str
    seen: str
    without: frozenset[str]


def configuration(settings: HostSettings, is_asking: bool, pin: Pin) -> str:
    """The text of a file for ``ssh -F``.

    Args:
        settings: how to enter.
        is_asking: whether there is somebody to ask.
        pin: how its key is compared, where there are fingerprints.

    Raises:
        SSHError: something in it cannot be written.
    """
    lines = [f"Host {_name(settings.alias)}", *_MASTER, *_pinned(settings, pin)]
    if settings.proxy_command is not None:
        lines.append(f"ProxyCommand {_line(settings.proxy_command)}")
    elif settings.jumps:
        lines.append(f"ProxyJump {','.join(map(_hop, settings.jumps))}")
    else:
        lines.append("ProxyCommand none")
    lines += _entering(settings, is_asking)
    seen = {settings.alias}
    for number, each in enumerate(settings.jumps):
        if each.alias not in seen:
            seen.add(each.alias)
            lines.append(f"Host {_name(each.alias)}")
            if number == 0:
                lines.append(f"ProxyCommand {_line(each.proxy_command or 'none')}")
            lines += _entering(each, is_asking)
    lines.append("Match all")
    if settings.config_file is None:
        lines += ["Include ~/.ssh/config", "Include /etc/ssh/ssh_config"]
    elif settings.config_file != "none":
        lines.append(f"Include {_quoted(os.path.abspath(settings.config_file))}")
    return "\n".join([*lines, ""])


def pin_program() -> str:
    """The text of a program for KnownHostsCommand."""
    return _PIN


def _pinned(settings: HostSettings, pin: Pin) -> Iterator[str]:
    if settings.fingerprints:
        program = shlex.join([sys.executable, "-I", "-S", pin.program, pin.seen])
        words = [program.replace("%", "%%"), "%H %t %K", *sorted(settings.fingerprints)]
        yield f"KnownHostsCommand {' '.join(words)}"
        if pin.without:
            yield f"HostKeyAlgorithms -{','.join(sorted(pin.without))}"
        yield "UpdateHostKeys no"
        yield "UserKnownHostsFile /dev/null"
        yield "StrictHostKeyChecking yes"


def _entering(settings: HostSettings, is_asking: bool) -> Iterator[str]:
    yield f"HostName {_name(settings.host).replace('%', '%%')}"
    yield f"BatchMode {'no' if is_asking else 'yes'}"
    yield "CheckHostIP no"
    yield f"ConnectTimeout {_whole(settings.connect_timeout_s)}"
    yield f"ServerAliveInterval {_whole(settings.alive_interval_s)}"
    yield f"ServerAliveCountMax {settings.alive_count}"
    yield "LogLevel INFO"
    strictness = settings.strictness
    if strictness is Strictness.ASK and not is_asking:
        strictness = Strictness.YES
    yield f"StrictHostKeyChecking {strictness.value}"
    yield f"UserKnownHostsFile {' '.join(map(_quoted, settings.known_hosts)) or os.devnull}"
    yield f"GlobalKnownHostsFile {os.devnull}"
    if settings.key_alias is not None:
        yield f"HostKeyAlias {_quoted(settings.key_alias, is_path=False)}"
    yield f"IdentityAgent {'none' if settings.agent is None else _quoted(settings.agent)}"
    yield f"IdentitiesOnly {'yes' if settings.identities_only else 'no'}"
    # those of the configuration are in it, and would be tried twice
    if settings.identities_demanded or settings.config_file == "none":
        for each in settings.identity_files:
            yield f"IdentityFile {_quoted(each)}"


def _hop(settings: HostSettings) -> str:
    name = _name(settings.alias)
    return f"{settings.user}@{f'[{name}]' if ':' in name else name}:{settings.port}"


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or text.startswith("-"):
        raise SSHError(f"{text!r} is no name of a host", "settings")
    return text


def _line(text: str) -> str:
    if "\n" in text:
        raise SSHError(f"{text!r} is no line of an SSH configuration", "settings")
    return text


def _quoted(text: str, is_path: bool = True) -> str:
    if '"' in text or "\\" in text:
        raise SSHError(f"{text!r} cannot be told to ssh", "settings")
    return f'"{_line(text.replace("%", "%%") if is_path else text)}"'
