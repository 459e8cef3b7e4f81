"""Links that can be broken: a port for each, forwarded to the scheduler's.

    python proxy.py TARGET_PORT PORT...

On standard input, a line of JSON for each order: ``[port, "reset" | "stall" | "blackhole" |
"heal"]``, each of which is answered by ``done``. It ends when that closes. What travels is not
touched, so TLS notices nothing.

* reset: all connections are aborted at both ends, as a router does that has forgotten them.
* stall: nothing moves, and who connects waits, until ``heal``: then all goes on.
* blackhole: likewise, but ``heal`` aborts what was there before.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor, stdio
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols.basic import LineReceiver

HOST = "127.0.0.1"


class End(Protocol):
    """One end of a connection; what it reads it writes to the other."""

    transport: Any

    def __init__(self, link: Link) -> None:
        self._link = link
        self.other: End | None = None
        self._is_full = False

    def connectionMade(self) -> None:
        """The accepting end asks for the other."""
        self.transport.setTcpNoDelay(True)
        self._link.ends.add(self)
        if self.other is None:
            self.see()
            if not self._link.is_stalled:
                self.go_on()
        else:
            self.join(self.other)
            self.other.join(self)

    def go_on(self) -> None:
        """Dial the scheduler."""
        reactor.connectTCP(HOST, self._link.target, Dialling(self._link, self), timeout=5)

    def join(self, other: End) -> None:
        """Both ends are there."""
        self.other = other
        other.transport.registerProducer(self, True)
        self.see()

    def dataReceived(self, data: bytes) -> None:
        """On it goes."""
        assert self.other is not None
        self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        """The other is lost too, in the same way."""
        self._link.ends.discard(self)
        other, self.other = self.other, None
        if other is not None and other.transport is not None:
            other.other = None
            other.transport.unregisterProducer()
            if reason.check(ConnectionDone):
                other.transport.loseConnection()
            else:
                other.transport.abortConnection()

    def see(self) -> None:
        """Read, or not."""
        if self._link.is_stalled or self._is_full or self.other is None:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The other end has enough."""
        self._is_full = True
        self.see()

    def resumeProducing(self) -> None:
        """The other end wants more."""
        self._is_full = False
        if self.transport.connected:
            self.see()

    def stopProducing(self) -> None:
        """The other end is gone."""
        self.transport.abortConnection()


class Dialling(ClientFactory):
    """Makes the scheduler's end for an accepted one."""

    noisy = False

    def __init__(self, link: Link, accepted: End) -> None:
        self._link = link
        self._accepted = accepted

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """None where who wanted it has gone."""
        if self._accepted not in self._link.ends:
            return None
        end = End(self._link)
        end.other = self._accepted
        return end

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        """Nobody listens: who dialled here shall see that."""
        if self._accepted in self._link.ends:
            self._accepted.transport.abortConnection()


class Link(Factory):
    """A port and all connections that came by it."""

    noisy = False

    def __init__(self, target: int) -> None:
        self.target = target
        self.ends: set[End] = set()
        self.is_stalled = False
        self._is_hole = False

    def buildProtocol(self, addr: Any) -> End:
        """A connection."""
        return End(self)

    def order(self, what: str) -> None:
        """Break it, or heal it."""
        if what in {"stall", "blackhole"}:
            self.is_stalled = True
            self._is_hole = what == "blackhole"
        elif what == "heal":
            self.is_stalled = False
        if what == "reset" or (what == "heal" and self._is_hole):
            self._is_hole = False
            for each in list(self.ends):
                each.transport.abortConnection()
        for each in list(self.ends):
            each.see()
            if what == "heal" and each.other is None:
                each.go_on()


class Orders(LineReceiver):
    """Standard input."""

    delimiter = b"\n"

    def __init__(self, links: dict[int, Link]) -> None:
        self._links = links

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        """An order."""
        port, what = json.loads(line)
        self._links[port].order(what)
        self.sendLine(b"done")

    def connectionLost(self, reason: Any = None) -> None:
        """The end."""
        if reactor.running:
            reactor.stop()


def main() -> None:
    """Listen and forward."""
    target, *ports = map(int, sys.argv[1:])
    links = {port: Link(target) for port in ports}
    for port, link in links.items():
        reactor.listenTCP(port, link, interface=HOST)
    stdio.StandardIO(Orders(links))
    print("ready", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
