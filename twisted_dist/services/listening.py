"""What every daemon of ours shares: a listening port, control commands, a clean stop."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.access.roles import MAY_LOOK, MAY_TERMINATE
from twisted_dist.address import parse_address
from twisted_dist.version import VERSION
from twisted_dist.wire import commands
from twisted_dist.wire.control import ControlFactory, Door, Responder
from twisted_dist.wire.membership import Authority

#: connections that may wait to be accepted: hundreds of workers start at once
BACKLOG: Final = 1024
#: seconds that a connection has to come to its end before it is ended
PATIENCE_S: Final = 1.0


def running_reactor(reactor: Any, loop: Any) -> Any:
    """The reactor to use: *reactor*, or its alias of 2016 *loop*, or the installed one."""
    chosen = reactor if reactor is not None else loop
    if chosen is None:
        from twisted.internet import reactor as chosen
    return chosen


def reachable_host(towards: tuple[str, int] | None = None) -> str:
    """This machine's address as other hosts see it.

    The kernel is asked which address it would send from; nothing is sent, and no default
    route is needed: without one the first address of any interface that is not loopback
    is taken, then loopback.
    """
    for target in (towards, ("8.8.8.8", 53)):
        if target is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(target)
                return str(probe.getsockname()[0])
            except OSError:
                continue
    import psutil

    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not each.address.startswith("127."):
                return str(each.address)
    return "127.0.0.1"


async def host_towards(reactor: Any, address: str) -> str:
    """`reachable_host` towards a ``host:port``, whose name may not be known yet."""
    host, port = parse_address(address)
    try:
        towards = await reactor.resolve(host), port
    except Exception:  # whatever the resolver says; dialling will say it again
        return reachable_host()
    return reachable_host(towards)


class ListeningService(Service):
    """A service with one listening port that speaks control.

    Fires and guarantees: `start_listening` fires with the port; `stop` fires when the
    port and every accepted connection are closed, and may be called twice.
    """

    log = Logger()
    kind = "service"

    def __init__(self, reactor: Any, host: str | None, authority: Authority) -> None:
        self.reactor = reactor
        self.host = host
        self.address = ""
        #: whether, when it ends, others may wait for it to be started again
        self.returns = False
        self.done: defer.Deferred[None] = defer.Deferred()
        self._port: Any = None
        self._socket: socket.socket | None = None
        self._factory = ControlFactory(self.kind, self.responders(), reactor, authority)
        self._stopping: defer.Deferred[None] | None = None

    # -- as part of an application

    def startService(self) -> None:
        """Start as part of an application."""
        super().startService()
        self.start().addErrback(self._start_failed)

    def start(self, port: int | None = None) -> defer.Deferred[str]:
        """Start by hand; fires with the address. Given by the subclass."""
        raise NotImplementedError

    def _start_failed(self, failure: Failure) -> None:
        if self._stopping is None:
            self.log.error("cannot start: {why}", why=failure.getErrorMessage())

    def stopService(self) -> defer.Deferred[None]:
        """Stop as part of an application."""
        super().stopService()
        return self.stop()

    # -- control

    def responders(self) -> dict[type, Responder]:
        """Commands that this daemon answers, and to whom."""
        return {
            commands.Identity: Responder(lambda proto: {"result": self.identity()}, MAY_LOOK),
            commands.Ping: Responder(lambda proto: {"result": "pong"}, MAY_LOOK),
            commands.Terminate: Responder(
                lambda proto: {"result": self._terminate()}, MAY_TERMINATE
            ),
        }

    def identity(self) -> dict[str, Any]:
        """What `rpc(…).identity()` answers."""
        return {
            "type": self.kind,
            "address": self.address,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": VERSION,
        }

    def adopt(self, bound: socket.socket) -> None:
        """Use a socket that is bound already instead of binding one at start."""
        self._socket = bound

    def bound_port(self, port: int) -> int:
        """The port that listening will take, as far as it is known before; 0 for any."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else port

    async def start_listening(self, port: int) -> int:
        """Listen; returns the port taken. Raises CannotListenError."""
        door = Door(self._factory)
        if self._socket is not None:
            sock, self._socket = self._socket, None
            sock.listen(BACKLOG)
            self._port = self.reactor.adoptStreamPort(sock.fileno(), sock.family, door)
            sock.close()
        else:
            interface = self.host or ""
            endpoint = TCP4ServerEndpoint(self.reactor, port, BACKLOG, interface)
            self._port = await endpoint.listen(door)
        return int(self._port.getHost().port)

    def _terminate(self) -> str:
        # after the answer has had its turn to leave
        self.reactor.callLater(0.05, self._end_by_command)
        return "OK"

    def _end_by_command(self) -> None:
        self.stop().addErrback(lambda f: self.log.failure("stopping failed", failure=f))

    def stop(self) -> defer.Deferred[None]:
        """End; fires when every socket is closed and every delayed call is gone."""
        if self._stopping is None:
            self._stopping = defer.Deferred.fromCoroutine(self._stop())
        waiter: defer.Deferred[None] = defer.Deferred()

        def tell(result: Any) -> Any:
            waiter.callback(result)
            return None if isinstance(result, Failure) else result

        self._stopping.addBoth(tell)
        return waiter

    async def _stop(self) -> None:
        try:
            await self.stop_work()
        finally:
            await self._close_connections()
            if not self.done.called:
                self.done.callback(None)

    async def _close_connections(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._port is not None:
            port, self._port = self._port, None
            await defer.maybeDeferred(port.stopListening)
        emptied: defer.Deferred[None] = defer.Deferred()
        for connection in list(self._factory.connections):
            connection.transport.loseConnection()
        patience = self.reactor.callLater(PATIENCE_S, self._abort_connections)
        self._factory.when_empty(lambda: emptied.callback(None))
        await emptied
        if patience.active():
            patience.cancel()

    def _abort_connections(self) -> None:
        for connection in list(self._factory.connections):
            connection.transport.abortConnection()

    async def stop_work(self) -> None:
        """End what the subclass does besides listening."""
