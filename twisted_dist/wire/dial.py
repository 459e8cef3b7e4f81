"""Dialling a daemon: connect, say hello, and perhaps switch."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols import amp

from twisted_dist.errors import ConnectError, RefusedError, UsageProblem
from twisted_dist.version import VERSION
from twisted_dist.wire import commands
from twisted_dist.wire.data import DataProtocol

#: of a scheduler, as in 2016
DEFAULT_PORT = 8786
MAX_PORT = 65535
#: seconds to connect and to be greeted
DIAL_S = 10.0


def parse_address(address: str) -> tuple[str, int]:
    """``host:port`` in two; raises UsageProblem with one line that says what is wrong."""
    host, colon, port = address.strip().rpartition(":")
    if not colon or not host:
        raise UsageProblem(f"{address!r} is not HOST:PORT; for example 192.168.0.1:8786")
    if not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        raise UsageProblem(f"{address!r}: the port must be a number from 1 to 65535")
    return host, int(port)


class Dialled(amp.AMP):
    """The dialling side of a connection while it speaks AMP."""

    transport: Any

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor

    async def ask(self, command: Any, timeout_s: float, **arguments: Any) -> Any:
        """The ``result`` of a command.

        Raises:
            RefusedError: the daemon says no.
            ConnectError: it ended the connection, or gave no answer within *timeout_s*.
        """
        answer = await self._call(command, timeout_s, arguments)
        return answer["result"]

    async def switch(
        self, command: Any, protocol: Protocol, timeout_s: float, **arguments: Any
    ) -> None:
        """Hand the connection to *protocol* by a switching command; errors as of `ask`."""
        await self._call(command, timeout_s, arguments, SwitchFactory(protocol))

    async def _call(
        self, command: Any, timeout_s: float, arguments: dict[str, Any], *switching: Factory
    ) -> Any:
        try:
            waiting = self.callRemote(command, *switching, **arguments)
            return await waiting.addTimeout(timeout_s, self._reactor)
        except RefusedError:
            self.transport.loseConnection()
            raise
        except Exception as problem:
            self.transport.abortConnection()
            why = str(problem) or type(problem).__name__
            raise ConnectError(f"no answer to {command.__name__}: {why}") from None


async def dial(reactor: Any, address: str, role: str, timeout_s: float = DIAL_S) -> Dialled:
    """Connect to a daemon and say hello.

    Raises:
        ConnectError: nothing answered, or not our protocol.
        RefusedError: versions that do not meet; the message says what to do.
    """
    host, port = parse_address(address)
    endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout_s)
    proto = Dialled(reactor)
    try:
        await connectProtocol(endpoint, proto)
        hello = proto.callRemote(
            commands.Hello,
            oldest=commands.OLDEST_VERSION,
            newest=commands.NEWEST_VERSION,
            role=role,
            software=VERSION,
        )
        await hello.addTimeout(timeout_s, reactor)
    except RefusedError:
        proto.transport.loseConnection()
        raise
    except Exception as problem:
        if proto.transport is not None:
            proto.transport.abortConnection()
        why = str(problem) or type(problem).__name__
        raise ConnectError(f"cannot reach {address}: {why}") from None
    return proto


class SwitchFactory(Factory):
    """What AMP asks for the protocol to switch to."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        """The protocol."""
        return self._protocol

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        """The switch was refused; the command's Deferred says so."""

    def clientConnectionLost(self, connector: object, reason: object) -> None:
        """The switched protocol has been told already."""


class DataPool:
    """Data connections to workers, one each, kept while they last."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._open: dict[str, DataProtocol] = {}
        self._opening: dict[str, list[defer.Deferred[DataProtocol]]] = {}
        self._closed = False

    async def connection(self, address: str) -> DataProtocol:
        """The connection to *address*, dialled if there is none. Raises ConnectError."""
        existing = self._open.get(address)
        if existing is not None and existing.transport is not None:
            return existing
        if address in self._opening:
            waiter: defer.Deferred[DataProtocol] = defer.Deferred()
            self._opening[address].append(waiter)
            return await waiter
        self._opening[address] = []
        try:
            proto = await dial(self._reactor, address, "data")
            data = DataProtocol(self._reactor)
            await proto.switch(commands.OpenData, data, DIAL_S, name=self._name)
        except BaseException as problem:
            for each in self._opening.pop(address):
                each.errback(problem)
            raise
        self._open[address] = data
        for each in self._opening.pop(address):
            each.callback(data)
        if self._closed:
            data.transport.abortConnection()
        return data

    def close(self) -> None:
        """Close all of them."""
        self._closed = True
        for each in self._open.values():
            if each.transport is not None:
                each.transport.abortConnection()
        self._open.clear()
