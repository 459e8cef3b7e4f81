"""Ports that a daemon takes before it starts."""

from __future__ import annotations

import socket


def bind(program: str, host: str | None, port: int, option: str) -> socket.socket:
    """A bound socket, or the end of the program with one line that says why.

    Here and not at start: twistd would have gone to the background by then.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    try:
        sock.bind((host or "", port))
    except OSError as problem:
        sock.close()
        where = f"{host}:{port}" if host else f"port {port}"
        why = problem.strerror or problem
        raise SystemExit(
            f"{program}: cannot listen on {where}: {why}; try another {option} or --host"
        ) from None
    return sock


def bind_http(
    program: str, place: tuple[str | None, int] | None, host: str | None
) -> socket.socket | None:
    """A bound socket for what ``--http-port`` asks for; where it names no host, at *host*."""
    if place is None:
        return None
    return bind(program, place[0] or host, place[1], "--http-port")
