"""The AMP side of a listening daemon: `Hello` first, then control, then maybe a switch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from twisted_dist.errors import RefusedError
from twisted_dist.version import VERSION
from twisted_dist.wire import commands

#: seconds from connecting to `Hello`; a silent connection costs nothing after it
HELLO_DEADLINE_S: Final = 10.0


class ControlProtocol(amp.AMP):
    """One accepted connection while it speaks AMP.

    Args:
        service: ``scheduler``, ``worker`` or ``nanny``; told to whoever says hello.
        responders: what answers each command, by command class; called with the
            arguments as keywords and, first, this protocol.
        clock: for the hello deadline.
    """

    log = Logger()
    transport: Any

    def __init__(
        self,
        service: str,
        responders: dict[type, Callable[..., Any]],
        clock: IReactorTime,
        gone: Callable[[ControlProtocol], None],
    ) -> None:
        super().__init__()
        self._service = service
        self._responders = responders
        self._clock = clock
        self._gone = gone
        self._deadline: Any = None
        self.greeted = False
        self.switched: Protocol | None = None

    def connectionMade(self) -> None:
        """Start the hello deadline."""
        super().connectionMade()
        self._deadline = self._clock.callLater(HELLO_DEADLINE_S, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        peer = self.transport.getPeer()
        self.log.warn("closing {peer}: no hello within {s} s", peer=peer, s=HELLO_DEADLINE_S)
        self.transport.abortConnection()

    def locateResponder(self, name: bytes) -> Any:
        """AMP's look-up: refuses everything before a hello, and unknown names by name."""
        if name == commands.Hello.commandName:
            return self._wrapped(commands.Hello, self._hello)
        if not self.greeted:
            return self._wrapped(commands.Ping, self._refuse_early)
        for command, function in self._responders.items():
            if command.commandName == name:  # type: ignore[attr-defined]
                return self._wrapped(command, partial(function, self))
        return None

    def _wrapped(self, command: Any, function: Callable[..., Any]) -> Any:
        return self._wrapWithSerialization(function, command)

    def _refuse_early(self, **_arguments: Any) -> Any:
        raise RefusedError("say hello first")

    def _hello(self, oldest: int, newest: int, role: str, software: str) -> dict[str, Any]:
        if newest < commands.OLDEST_VERSION or oldest > commands.NEWEST_VERSION:
            raise RefusedError(
                f"this {self._service} ({VERSION}) speaks protocol versions "
                f"{commands.OLDEST_VERSION} to {commands.NEWEST_VERSION}, the {role} "
                f"({software}) {oldest} to {newest}: install the same twisted-dist on both"
            )
        self.greeted = True
        self._cancel_deadline()
        version = min(newest, commands.NEWEST_VERSION)
        return {"version": version, "service": self._service, "software": VERSION}

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def unhandledError(self, failure: Failure) -> None:
        """A responder's failure that AMP has no error code for: logged, connection ended."""
        self.log.failure("control connection failed", failure=failure)
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the deadline and tell the factory."""
        self._cancel_deadline()
        super().connectionLost(reason)
        self._gone(self)


class ControlFactory(Factory):
    """Makes a `ControlProtocol` for each accepted connection and remembers it."""

    noisy = False

    def __init__(
        self, service: str, responders: dict[type, Callable[..., Any]], clock: IReactorTime
    ) -> None:
        self._service = service
        self._responders = responders
        self._clock = clock
        self.connections: set[ControlProtocol] = set()
        self._emptied: list[Callable[[], None]] = []

    def buildProtocol(self, addr: object) -> ControlProtocol:
        """One more connection."""
        protocol = ControlProtocol(
            self._service, self._responders, self._clock, self._connection_gone
        )
        self.connections.add(protocol)
        return protocol

    def _connection_gone(self, protocol: ControlProtocol) -> None:
        self.connections.discard(protocol)
        if not self.connections:
            for each in self._emptied:
                each()
            self._emptied.clear()

    def when_empty(self, function: Callable[[], None]) -> None:
        """Call *function* once no connection is left; at once if none is."""
        if self.connections:
            self._emptied.append(function)
        else:
            function()
