"""One word that names hosts: ``user@host:port``, with ranges."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from attrs import evolve

from twisted_dist.address import MAX_PORT
from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.hosts.ranges import MAX_HOSTS, expand, split
from twisted_dist.launchers.hosts.spec import HostSpec

#: names, numbers and aliases of ssh_config; % is for an IPv6 zone
_HOST: Final = re.compile(r"[\w.][\w.%-]*\Z")
#: no blank, and nothing that a shell, or ssh, could take for something else
_USER: Final = re.compile(r"[\w.][\w.@\\+$-]*\Z")

COMMAND_LINE: Final = "the command line"


def words(arguments: Iterable[str], source: str = COMMAND_LINE) -> list[HostSpec]:
    """The hosts of a command line, in order; a host that is named twice is there twice.

    Raises:
        UsageProblem: a word names no host; says which, and what would.
    """
    found: list[HostSpec] = []
    for argument in arguments:
        for word in split(argument):
            try:
                found += hosts_of(word, source)
            except UsageProblem as problem:
                raise UsageProblem(f"{source}: {problem}") from None
            bounded(found, source)
    return found


def bounded(hosts: list[HostSpec], source: str) -> None:
    """Refuse more hosts than one launcher enters."""
    if len(hosts) > MAX_HOSTS:
        raise UsageProblem(f"{source}: more than {MAX_HOSTS} hosts")


def hosts_of(word: str, source: str) -> list[HostSpec]:
    """The hosts that one word names. Raises UsageProblem, without the source."""
    return [evolve(_host(each), source=source) for each in expand(word)]


def _host(word: str) -> HostSpec:
    user, at, place = word.rpartition("@")
    if at and not _USER.match(user):
        raise UsageProblem(f"{word!r}: {user!r} is no user; USER@HOST:PORT is meant")
    host, port = _place(word, place)
    return HostSpec(host=host, user=user or None, port=port)


def _place(word: str, place: str) -> tuple[str, int | None]:
    """A host with its port, if it has one."""
    if place.startswith("["):
        inner, _, rest = place[1:].partition("]")
        if not _is_ipv6(inner) or (rest and not rest.startswith(":")):
            raise UsageProblem(f"{word!r}: brackets are for an IPv6 address, as  [::1]:2222")
        return inner, _port(word, rest[1:]) if rest else None
    if place.count(":") > 1:
        if not _is_ipv6(place):
            raise UsageProblem(f"{word!r} is no host; USER@HOST:PORT is meant")
        return place, None
    host, colon, port = place.partition(":")
    if not _HOST.match(host):
        raise UsageProblem(f"{word!r}: {host!r} is no name of a host; USER@HOST:PORT is meant")
    return host, _port(word, port) if colon else None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(word: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) <= MAX_PORT:
        raise UsageProblem(f"{word!r}: {text!r} is not a port: a number from 1 to {MAX_PORT}")
    return int(text)
