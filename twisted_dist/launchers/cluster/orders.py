"""`Orders`: what an agent is told to keep running, and what it says meanwhile; pure.

Orders are one line of JSON on the agent's standard input: they hold secrets. What it says are
lines that begin with `MARKER`, whatever else profiles print there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
from attrs import frozen

#: begins the lines of an agent, before one object of JSON
MARKER: Final = "twisted_dist-agent:"
#: bytes of orders: a daemon has some ten thousand, and a network with a thousand grants 512 KiB
MAX_ORDERS: Final = 4 * 2**20
#: characters of a name that becomes one of a directory
MAX_NAME: Final = 100

_ID: Final = re.compile(r"[0-9a-f]{8,32}\Z")


class OrdersError(ValueError):
    """What came are no orders; says why, and shows none of it."""


@frozen(kw_only=True)
class Order:
    """One daemon.

    Attributes:
        label: what it is called.
        log_name: of its file.
        command: for ``/bin/sh``.
        secret: the first line that it reads.
        announcements: how many it makes until it is up.
    """

    label: str
    log_name: str
    command: str
    secret: str = attrs.field(repr=False)
    announcements: int = 1


@frozen(kw_only=True)
class Orders:
    """All that one agent has to know.

    Attributes:
        cluster: its name.
        id: of the agent: there is no other one like it.
        daemons: to keep running.
    """

    cluster: str
    id: str
    daemons: tuple[Order, ...]

    def to_line(self) -> str:
        """As one line, without its end."""
        return json.dumps(attrs.asdict(self))


def read_orders(line: str) -> Orders:
    """Orders from their line.

    Raises:
        OrdersError: they are none.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise OrdersError("what came is no JSON") from None
    if not isinstance(said, dict):
        raise OrdersError("what came is no object")
    try:
        orders = Orders(
            cluster=_text(said, "cluster"),
            id=_text(said, "id"),
            daemons=tuple(_order(each) for each in said["daemons"]),
        )
    except (KeyError, TypeError) as problem:
        raise OrdersError(f"something is missing: {problem}") from None
    if not _ID.match(orders.id) or not orders.daemons:
        raise OrdersError("no id, or no daemon")
    file_name(orders.cluster)
    return orders


def _order(said: Mapping[str, Any]) -> Order:
    announcements = said["announcements"]
    if type(announcements) is not int:
        raise TypeError("announcements")
    texts = {name: _text(said, name) for name in ("label", "log_name", "command", "secret")}
    return Order(**texts, announcements=announcements)


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def is_id(text: str) -> bool:
    """Whether it may be the id of an agent."""
    return _ID.match(text) is not None


def file_name(name: str) -> str:
    """The name of a cluster as one of a file.

    Raises:
        OrdersError: it is empty or too long.
    """
    if not 0 < len(name) <= MAX_NAME:
        raise OrdersError(f"a cluster's name has 1 to {MAX_NAME} characters")
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in name)
    return safe.lstrip(".") or "_"


def said_line(**what: object) -> str:
    """What an agent says, as a line without its end."""
    return MARKER + json.dumps(what)


def heard(line: str) -> Mapping[str, Any] | None:
    """What an agent has said; None where the line is not its."""
    if not line.startswith(MARKER):
        return None
    try:
        said = json.loads(line[len(MARKER) :])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
