"""`serve_health`: one page for those who look whether a daemon is well, over plain HTTP.

Kubernetes' probes and load balancers do not speak TLS with keys of ours. So this is what
anybody may ask, and as little as is of use: ``/health`` says ``{"status": "ok", "version": …}``
with status 200, or ``"stopping"`` with 503. Everything else is 404. Nothing that is sent here is
read any further than its first line and headers, and of those no more than 16 KiB a line.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.protocols.policies import ThrottlingFactory
from twisted.web import resource, server

from twisted_dist.services.listening import reachable_host
from twisted_dist.version import VERSION

PATH: Final = b"/health"
#: connections at a time; those beyond are closed at once. Probes make one each
MOST_CONNECTIONS: Final = 64
#: seconds that a connection may be silent
SILENCE_S: Final = 10.0


class HealthPage(resource.Resource):
    """The page.

    Args:
        is_well: whether the daemon is there for others.
    """

    isLeaf = True  # noqa: N815 -- of Twisted

    def __init__(self, is_well: Callable[[], bool]) -> None:
        super().__init__()
        self._is_well = is_well

    def render(self, request: Any) -> bytes:
        """The answer, whatever is asked."""
        request.setHeader(b"server", b"twisted_dist")
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        if request.path != PATH:
            request.setResponseCode(404)
            return b'{"status": "not found"}\n'
        if request.method not in (b"GET", b"HEAD"):
            request.setResponseCode(405)
            request.setHeader(b"allow", b"GET, HEAD")
            return b'{"status": "not allowed"}\n'
        is_well = self._is_well()
        if not is_well:
            request.setResponseCode(503)
        status = "ok" if is_well else "stopping"
        return json.dumps({"status": status, "version": VERSION}).encode() + b"\n"


class _Request(server.Request):
    """A request whose body is thrown away: Twisted would keep it, on disk where it is large."""

    def gotLength(self, length: int | None) -> None:  # noqa: N802 -- of Twisted
        """There is nothing to make room for."""
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 -- of Twisted
        """Nobody wants it."""


class _Site(server.Site):
    """Says nothing in the log: there is a request every few seconds, for ever."""

    noisy = False

    def startFactory(self) -> None:  # noqa: N802 -- of Twisted
        """No date is made every second for a log that is not written."""

    stopFactory = startFactory  # noqa: N815 -- of Twisted

    def log(self, request: Any) -> None:
        """No."""


def serve_health(reactor: Any, bound: socket.socket, is_well: Callable[[], bool]) -> str:
    """Answer on a socket that is bound, which is closed here, until the reactor stops; the URL."""
    host, port = bound.getsockname()
    bound.listen(MOST_CONNECTIONS)
    reactor.adoptStreamPort(bound.fileno(), bound.family, health_factory(reactor, is_well))
    bound.close()
    return f"http://{reachable_host() if host == '0.0.0.0' else host}:{port}{PATH.decode()}"


def health_factory(reactor: Any, is_well: Callable[[], bool]) -> ThrottlingFactory:
    """What makes a protocol of each connection."""
    site = _Site(HealthPage(is_well), requestFactory=_Request, timeout=SILENCE_S, reactor=reactor)
    factory = ThrottlingFactory(site, maxConnectionCount=MOST_CONNECTIONS)
    factory.noisy = False
    return factory
