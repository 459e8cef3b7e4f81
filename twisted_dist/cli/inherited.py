"""A socket that systemd has opened for this process, by the protocol of sd_listen_fds(3).

Twisted takes what systemd says of it out of the environment as soon as its endpoints are
imported, which twistd does before us. So it is asked for what it has found.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Any, Final

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


def name_sockets(environ: MutableMapping[str, str]) -> None:
    """Have Twisted see sockets that have no names, as of systemd-socket-activate.

    Before any of Twisted is imported; "unknown" is what sd_listen_fds(3) calls those.
    """
    count = environ.get("LISTEN_FDS", "")
    if count.isdigit() and int(count):
        environ.setdefault("LISTEN_FDNAMES", ":".join(["unknown"] * int(count)))


def inherited_socket(program: str, reactor: Any) -> socket.socket | None:
    """The socket that this process was given to listen on; None where it was given none.

    Args:
        program: for the one line that ends it, where that cannot be used (SystemExit).
        reactor: the installed one.

    It takes the place of ``--port``, as in other servers that know systemd: who hands over
    a socket means it.
    """
    descriptors = [each for each in (_descriptor(reactor, n) for n in range(2)) if each is not None]
    if not descriptors:
        return None
    if len(descriptors) > 1:
        raise SystemExit(f"{program}: systemd has given several sockets, and one is of use here")
    try:
        sock = socket.socket(fileno=descriptors[0])
    except OSError as problem:
        why = problem.strerror
        raise SystemExit(f"{program}: systemd has given what is no socket: {why}") from None
    if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
        raise SystemExit(
            f"{program}: systemd has given a socket that is not TCP's: ListenStream=PORT is meant"
        )
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _descriptor(reactor: Any, index: int) -> int | None:
    # what ``systemd:`` in an endpoint's description means; the description would be understood
    # by way of Twisted's cache of plugins, and that is a pickle
    from twisted.plugins.twisted_core import systemdEndpointParser

    try:
        endpoint: Any = systemdEndpointParser.parseStreamServer(
            reactor, domain="INET", index=str(index)
        )
    except IndexError:
        return None
    return int(endpoint.fileno)


def host_of(sock: socket.socket) -> str | None:
    """The address that a socket is bound to; None for every one, and for what is no IPv4."""
    host = str(sock.getsockname()[0])
    return host if sock.family == socket.AF_INET and host != "0.0.0.0" else None
