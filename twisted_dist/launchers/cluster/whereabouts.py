"""`Whereabouts`: under which addresses the hosts of a cluster know each other; pure.

A host is known by the address under which it was reached over SSH, as the machine itself sees
it: not by what the user calls it, which other hosts may not resolve, and not by a public
address that is not the machine's own. Loopback addresses are for clusters in which all hosts
have one. Where SSH goes by another network than data should (``--interface``), a host is known
by its address there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from twisted_dist.errors import UsageProblem

#: characters of an interface's name: Linux' IFNAMSIZ, less its end
_LONGEST_NAME: Final = 15


def checked_interface(text: str) -> str:
    """An interface's name or a subnet, as hosts are asked for it.

    Raises:
        UsageProblem: it is neither.
    """
    if "/" in text:
        try:
            return str(ipaddress.IPv4Network(text, strict=False))
        except ValueError as problem:
            raise UsageProblem(f"--interface: {text!r} is no subnet: {problem}") from None
    if not text or len(text) > _LONGEST_NAME or not text.isprintable() or " " in text:
        raise UsageProblem(
            f"--interface: {text!r} is neither an interface's name, such as ib0, nor a subnet, "
            "such as 10.1.0.0/16"
        )
    return text


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _is_ipv4(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 4  # noqa: PLR2004
    except ValueError:
        return False


class Whereabouts:
    """Of the hosts that were reached."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}

    def learn(self, host: str, addresses: Sequence[str]) -> None:
        """A host's addresses, that which was reached first; daemons have IPv4 only."""
        self._known[host] = tuple(filter(_is_ipv4, addresses))

    def of(self, host: str) -> str | None:
        """The address to be known by; None where the daemon is to find one itself."""
        addresses = self._known.get(host, ())
        if not addresses:
            return None
        if all(_is_loopback(each[0]) for each in self._known.values() if each):
            return addresses[0]
        for each in addresses:
            if not _is_loopback(each):
                return each
        return None
