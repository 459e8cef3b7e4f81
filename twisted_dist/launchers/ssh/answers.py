"""`Answers`: what a configuration says of one host, whoever read it, and what it means.

``ssh -G`` gives a line for each keyword; `twisted_dist.launchers.ssh.parsed` gives the same
without an ``ssh``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import frozen
from twisted.internet.abstract import isIPv6Address

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.settings import CONNECT_S, SSH_PORT, Strictness

#: `{keyword in small letters: its values}`
Answers = Mapping[str, tuple[str, ...]]

_STRICTNESS = {
    "yes": Strictness.YES,
    "true": Strictness.YES,
    "ask": Strictness.ASK,
    "accept-new": Strictness.ACCEPT_NEW,
    "no": Strictness.NO,
    "off": Strictness.NO,
    "false": Strictness.NO,
}
#: keywords whose lines hold several paths
_LISTS = ("userknownhostsfile", "globalknownhostsfile")


@frozen
class Hop:
    """One host of a ProxyJump.

    Attributes:
        host: as it was written.
        user: to be there; None for what the configuration says of it.
        port: likewise.
    """

    host: str
    user: str | None
    port: int | None


def read_answers(text: str, exists: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """What ``ssh -G`` said.

    Args:
        text: its output.
        exists: whether a path is there: ``ssh`` writes lists of paths without quotes.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        values = split_paths(value, exists) if keyword in _LISTS else (value,)
        found[keyword] = (*found.get(keyword, ()), *values)
    return found


def split_paths(text: str, exists: Callable[[str], bool]) -> tuple[str, ...]:
    """Paths in a line without quotes: what does not begin as a path goes on with the one before."""
    paths: list[str] = []
    for piece in text.split(" "):
        is_own = piece.startswith(("/", "~", '"')) or piece == "none" or exists(piece)
        if not paths or (is_own and not exists(f"{paths[-1]} {piece}")):
            paths.append(piece)
        else:
            paths[-1] += f" {piece}"
    return tuple(each for each in paths if each)


def read_hops(text: str) -> tuple[Hop, ...]:
    """The hosts of a ProxyJump, first the one to dial; none for ``none``.

    Raises:
        SSHError: it cannot be meant.
    """
    if text.strip().lower() in {"", "none"}:
        return ()
    return tuple(_read_hop(each.strip()) for each in text.split(","))


def _read_hop(text: str) -> Hop:
    user, at, where = text.removeprefix("ssh://").removesuffix("/").rpartition("@")
    if where.startswith("["):
        host, closing, rest = where[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        is_right = bool(closing) and colon in {"", ":"}
    elif isIPv6Address(where):
        host, colon, port, is_right = where, "", "", True
    else:
        host, colon, port = where.partition(":")
        is_right = not host.startswith("-")
    is_right = is_right and bool(host) and bool(user) == bool(at) and not user.startswith("-")
    if not is_right or bool(colon) != (port.isascii() and port.isdigit()):
        raise SSHError(f"ProxyJump {text!r} is no [user@]host[:port]", "settings")
    return Hop(host, user or None, int(port) if port else None)


def last(answers: Answers, keyword: str, default: str = "") -> str:
    """The one value of a keyword."""
    return answers.get(keyword, (default,))[-1]


def read_port(answers: Answers) -> int:
    """Port."""
    return int(_number(answers, "port", SSH_PORT))


def read_strictness(answers: Answers) -> Strictness:
    """StrictHostKeyChecking.

    Raises:
        SSHError: a word that we do not know.
    """
    word = last(answers, "stricthostkeychecking", "ask").lower()
    if word not in _STRICTNESS:
        raise SSHError(f"StrictHostKeyChecking {word!r} is not known", "settings")
    return _STRICTNESS[word]


def is_yes(answers: Answers, keyword: str) -> bool:
    """Whether a keyword is on."""
    return last(answers, keyword, "no").lower() in {"yes", "true"}


def read_seconds(answers: Answers, keyword: str, default: float = CONNECT_S) -> float:
    """A time; *default* where there is none or it is nothing, as ``ssh`` has it by default."""
    return _number(answers, keyword, 0) or default


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"(?:\d+[smhdw]?)+", re.IGNORECASE)


def _number(answers: Answers, keyword: str, default: int) -> int:
    text = last(answers, keyword, "none").strip().lower()
    if text == "none":
        return default
    if not _TIME.fullmatch(text):
        raise SSHError(f"{keyword} {text!r} is no number", "settings")
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([smhdw]?)", text))


def read_count(answers: Answers, keyword: str, default: int) -> int:
    """A count; *default* where it is not said or nothing."""
    return _number(answers, keyword, 0) or default
