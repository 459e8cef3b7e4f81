"""``host:port``: how daemons are named to people and to each other."""

from __future__ import annotations

from typing import Final

from twisted_dist.errors import UsageProblem

#: of a scheduler, as in 2016
DEFAULT_PORT: Final = 8786
MAX_PORT: Final = 65535


def parse_address(address: str) -> tuple[str, int]:
    """``host:port`` in two; raises UsageProblem with one line that says what is wrong."""
    host, colon, port = address.strip().rpartition(":")
    if not colon or not host:
        raise UsageProblem(f"{address!r} is not HOST:PORT; for example 192.168.0.1:8786")
    if not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        raise UsageProblem(f"{address!r}: the port must be a number from 1 to 65535")
    return host, int(port)
