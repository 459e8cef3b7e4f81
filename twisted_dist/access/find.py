"""Finding the access for an address: as given, from the environment, or from the home."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias, Union

import psutil

from twisted_dist.access.access import JOIN_PREFIX, Access
from twisted_dist.access.home import Home, read_secret
from twisted_dist.access.life import machine_name
from twisted_dist.address import parse_address
from twisted_dist.errors import AccessError

#: a path of an access file or a join string
VARIABLE: Final = "TWISTED_DIST_ACCESS"

#: how an access may be given: itself, a join string, the path of a file, or not at all
GivenAccess: TypeAlias = Union[Access, str, Path, None]


def load_access(given: Access | str | Path) -> Access:
    """An access from whatever form it was given in. Raises AccessError."""
    if isinstance(given, Access):
        return given
    if isinstance(given, str) and given.startswith(JOIN_PREFIX):
        return Access.load(given)
    path = Path(given).expanduser()
    try:
        return Access.load(read_secret(path))
    except AccessError as problem:
        words = str(problem)
        raise AccessError(words if str(path) in words else f"{path}: {words}") from None


def take_from_environment() -> Access | None:
    """The access in `VARIABLE`, which is gone afterwards, from ``/proc`` too.

    For daemons: what they start, and whoever may look at them, has no use for it.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return None
    _wipe(VARIABLE)
    del os.environ[VARIABLE]
    return load_access(given)


def _wipe(name: str) -> None:
    """Overwrite a variable's value where the kernel shows it, in ``/proc/PID/environ``."""
    if os.name != "posix":
        return
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    where = libc.getenv(name.encode())
    if where:
        ctypes.memset(where, ord("-"), len(ctypes.string_at(where)))


def find_access(address: str, given: GivenAccess = None, home: Home | None = None) -> Access:
    """The access for the scheduler at *address*.

    Args:
        address: ``host:port``, as the user wrote it.
        given: used, whatever the address, if there is one; then `VARIABLE`, unless *home* has
            that very address of another network; then *home*.
        home: the user's, by default.

    Raises:
        AccessError: there is none; says what was looked at and what to do.
    """
    if given is not None:
        return load_access(given)
    home = home if home is not None else Home()
    known = home.accesses()
    fitting = [each for each in known if address in each.addresses]
    variable = os.environ.get(VARIABLE)
    if variable:
        access = load_access(variable)
        # an embedded cluster works where the variable is for another network
        return access if address in access.addresses or not fitting else fitting[0]
    fitting = fitting or [each for each in known if _is_for(each, address)]
    if not fitting and len(known) == 1:
        # under another name, through a tunnel: whether it is the one, its key will show
        fitting = known
    if len(fitting) == 1:
        return fitting[0]
    raise AccessError(_missing(address, fitting or known, home))


def find_any(address: str, given: GivenAccess = None) -> list[Access]:
    """All that may be for *address*, of whatever daemon: which, its key will show.

    The likeliest comes first. An access for that very address may be of an earlier scheduler
    whose port a worker has now, so the others follow.

    Raises:
        AccessError: there is none.
    """
    known = [] if given is not None or os.environ.get(VARIABLE) else Home().accesses()
    try:
        best = find_access(address, given)
    except AccessError:
        if not known:
            raise
        return known
    return [best, *(each for each in known if each != best)]


def _is_for(access: Access, address: str) -> bool:
    """Whether *address* is another name of the access's scheduler, as seen from here."""
    host, port = parse_address(address)
    if all(parse_address(each)[1] != port for each in access.addresses):
        return False
    if host == access.machine:
        return True
    return access.machine == machine_name() and _is_here(host)


def _is_here(host: str) -> bool:
    """Whether a host's name or number is this machine's."""
    if host == "localhost" or host.startswith("127.") or host == machine_name():
        return True
    own: Iterable[list[Any]] = psutil.net_if_addrs().values()
    return any(
        each.address == host and each.family == socket.AF_INET for some in own for each in some
    )


def _missing(address: str, known: list[Access], home: Home) -> str:
    names = ", ".join(each.addresses[0] for each in known)
    has = f"has that of {names}" if names else "has none"
    return (
        f"no access to {address}: {home.directory} {has}; copy the scheduler's access file "
        f"there, give it with --access-file (access=), or set {VARIABLE}; --insecure "
        "(insecure=True) if the scheduler has it"
    )
