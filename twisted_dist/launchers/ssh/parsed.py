"""What a configuration says of a host, read without an ``ssh``: by paramiko, where that is there.

paramiko's parser leaves Include lines out without a word, so those that would bring something
in are refused here. Where there is no configuration at all, nothing is needed to read it.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.answers import Answers, Hop
from twisted_dist.launchers.ssh.person import Person
from twisted_dist.launchers.ssh.tokens import expand, expand_home, tokens_for

if TYPE_CHECKING:
    from paramiko import SSHConfig

SYSTEM_FILE: Final = "/etc/ssh/ssh_config"
#: what ``ssh`` looks into where nothing else is configured
_USER_KNOWN: Final = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN: Final = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_INCLUDE = re.compile(r"^\s*include(?:\s*=\s*|\s+)(.+)$", re.IGNORECASE | re.MULTILINE)
#: of `ssh_config` keywords, those that hold several paths
_PATHS = ("userknownhostsfile", "globalknownhostsfile")
_INSTALL = (
    "install the OpenSSH client, which reads all of it, or paramiko: "
    "pip install 'twisted-dist[ssh-config]'"
)


def read_files(
    hop: Hop,
    config_file: str | None,
    person: Person,
    environ: Mapping[str, str],
    system_file: str = SYSTEM_FILE,
) -> Answers:
    """As ``ssh -G`` would say it, as far as paramiko knows.

    Args:
        hop: the host, and who is to be there.
        config_file: instead of the user's and the system's.
        person: whose configuration.
        environ: variables for paths.
        system_file: the system's configuration.

    Raises:
        SSHError: it cannot be read, or there is nothing to read it with.
    """
    own = f"{person.home}/.ssh/config"
    paths = [own, system_file] if config_file is None else [config_file]
    if config_file is None:
        paths = [each for each in paths if os.path.exists(each)]
    elif config_file == "none":
        paths = []
    found: dict[str, tuple[str, ...]] = _look_up(paths, hop, person) if paths else {}
    for keyword, value in (("user", hop.user), ("port", hop.port)):
        if value is not None:
            found[keyword] = (str(value),)
    found.setdefault("userknownhostsfile", _USER_KNOWN)
    found.setdefault("globalknownhostsfile", _SYSTEM_KNOWN)
    tokens = tokens_for(
        person,
        alias=hop.host,
        host=found.get("hostname", (hop.host,))[0],
        port=int(found.get("port", ("22",))[0]),
        user=found.get("user", (person.name,))[0],
        key_alias=found.get("hostkeyalias", (None,))[0],
        jump=found.get("proxyjump", ("",))[0],
    )
    for keyword in _PATHS:
        found[keyword] = tuple(
            expand(each, tokens, environ, person.home) for each in found[keyword]
        )
    return found


def _look_up(paths: list[str], hop: Hop, person: Person) -> dict[str, tuple[str, ...]]:
    try:
        from paramiko import SSHConfig
        from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize
    except ImportError as error:
        where = ", ".join(paths)
        raise SSHError(f"nothing here can read {where}: {_INSTALL}", "settings") from error
    config = SSHConfig()
    for path in paths:
        try:
            _read(config, path, person)
        except (OSError, UnicodeDecodeError, ConfigParseError) as error:
            raise SSHError(f"{path} cannot be read: {error}", "settings") from error
    try:
        told = config.lookup(hop.host)
    # Match exec needs another package, and Match has forms that it fails at
    except (ConfigParseError, CouldNotCanonicalize, ImportError, KeyError) as error:
        text = f"{hop.host}: paramiko cannot use {', '.join(paths)}: {error!r}; {_INSTALL}"
        raise SSHError(text, "settings") from error
    return {keyword: _values(keyword, value) for keyword, value in told.items()}


def _read(config: SSHConfig, path: str, person: Person) -> None:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for found in _INCLUDE.finditer(text):
        for pattern in shlex.split(found[1], comments=True):
            full = expand_home(pattern, person.home)
            base = f"{person.home}/.ssh" if path.startswith(person.home) else "/etc/ssh"
            if glob.glob(os.path.join(base, full)):
                raise SSHError(
                    f"{path} has the line {found[0].strip()!r}, which paramiko leaves out; "
                    "install the OpenSSH client, which reads all of it",
                    "settings",
                )
    config.parse(text.splitlines())


def _values(keyword: str, value: str | list[str] | None) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(value)
    if value is None:
        # of ProxyCommand
        return ("none",)
    return tuple(shlex.split(value)) if keyword in _PATHS else (value,)
