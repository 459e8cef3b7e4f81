"""``~``, ``%h`` and ``${NAME}`` in values of an ``ssh_config``.

``ssh -G`` expands them in some values and leaves them in others, such as IdentityFile.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.person import Person

_SPECIAL = re.compile(r"%(.?)|\$\{([^}]*)\}", re.DOTALL)


def tokens_for(
    person: Person, *, alias: str, host: str, port: int, user: str, key_alias: str | None, jump: str
) -> dict[str, str]:
    """What each ``%`` letter stands for (``ssh_config(5)``, TOKENS)."""
    parts = (person.machine, host, str(port), user, jump)
    return {
        "%": "%",
        "C": hashlib.sha1("".join(parts).encode(), usedforsecurity=False).hexdigest(),
        "d": person.home,
        "h": host,
        "i": str(person.uid),
        "j": jump,
        "k": key_alias or alias,
        "L": person.machine.partition(".")[0],
        "l": person.machine,
        "n": alias,
        "p": str(port),
        "r": user,
        "u": person.name,
    }


def expand(text: str, tokens: Mapping[str, str], environ: Mapping[str, str], home: str) -> str:
    """A path as the user means it; ``$`` without braces is kept, as in ``ssh``.

    Raises:
        SSHError: a token that there is not, or a variable that is not set.
    """

    def value(found: re.Match[str]) -> str:
        letter, name = found.groups()
        known, wanted = (tokens, letter) if name is None else (environ, name)
        if wanted not in known:
            raise SSHError(f"{text!r} in the SSH configuration: no {found[0]} here", "settings")
        return known[wanted]

    return _SPECIAL.sub(value, expand_home(text, home))


def expand_home(path: str, home: str) -> str:
    """A path whose ``~`` is *home*; others' are of the system's list of users."""
    if path == "~" or path.startswith("~/"):
        return home + path[1:]
    return os.path.expanduser(path)
