"""The AMP side of a listening daemon: `Hello` first, then control, then maybe a switch."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from twisted_dist.access.credential import Certificate
from twisted_dist.errors import RefusedError
from twisted_dist.version import VERSION
from twisted_dist.wire import commands
from twisted_dist.wire.dial import let_go, skip_amp
from twisted_dist.wire.membership import Authority
from twisted_dist.wire.refusals import Refusals
from twisted_dist.wire.tls import (
    ALERT_PROTOCOL_VERSION,
    HANDSHAKE_RECORD,
    NOT_KNOWN_THERE,
    TLSFactory,
    peer_certificate,
    tls_problem,
)

#: seconds from connecting to `Hello`; a silent connection costs nothing after it
HELLO_DEADLINE_S: Final = 10.0
#: connections that have not said hello, at most; the oldest gives way to a new one. Members
#: need milliseconds for it, so whoever is oldest among so many is none
MAX_STRANGERS: Final = 1000
#: share of the files that this process may open that strangers can take
STRANGERS_SHARE: Final = 0.25
#: bytes of one AMP box: the largest `commands.Chunked` argument and everything beside it
MAX_BOX_BYTES: Final = commands.MAX_CHUNKED_BYTES + 64 * 1024
#: bytes that may come before the hello is there; a hello takes a hundred or two
MAX_EARLY_BYTES: Final = 4096


def _refuse_unknown(name: bytes, box: Any) -> Any:
    """AMP's answer to a command that there is not; the name may be long, and is the peer's."""
    raise amp.RemoteAmpError(amp.UNHANDLED_ERROR_CODE, f"there is no command {name[:40]!r}")


@frozen
class Responder:
    """What answers a command.

    Attributes:
        function: called with the protocol and the command's arguments. What it refuses, it
            refuses by RefusedError, in less words than an AMP value holds.
        roles: who may ask.
    """

    function: Callable[..., Any]
    roles: frozenset[str]


class ControlProtocol(amp.AMP):
    """One accepted connection while it speaks AMP.

    Args:
        factory: whose connection it is.

    Attributes:
        certificate: the peer's, from the hello on; None without TLS.
        role: what the peer may do, from the hello on.
        when_lost: what is called once the connection is lost, for a command that is not
            answered at once: there is nobody to answer then.
    """

    log = Logger()
    transport: Any

    def __init__(self, factory: ControlFactory) -> None:
        super().__init__()
        self._owner = factory
        self._deadline: Any = None
        self._undigested = 0
        self._refused = False
        self.greeted = False
        self.certificate: Certificate | None = None
        self.role = ""
        self.when_lost: list[Callable[[], None]] = []

    def connectionMade(self) -> None:
        """Start the hello deadline."""
        super().connectionMade()
        self._deadline = self._owner.clock.callLater(HELLO_DEADLINE_S, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        self.turn_away(f"no hello within {HELLO_DEADLINE_S:g} s")

    def turn_away(self, why: str) -> None:
        """End a connection that is not, or no longer, welcome."""
        if not self._refused:
            self._refused = True
            self._owner.refusals.note(self.transport.getPeer(), why)
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """AMP's bytes, in bounds; what breaks them ends this connection and nothing else."""
        if self.innerProtocol is not None or self._is_in_bounds(data):
            super().dataReceived(data)
            skip_amp(self)

    def _is_in_bounds(self, data: bytes) -> bool:
        if self._refused:
            return False
        begins = not self.greeted and not self._undigested
        if begins and self._owner.authority.insecure and data[0] == HANDSHAKE_RECORD:
            self.transport.write(ALERT_PROTOCOL_VERSION)
            self.transport.loseConnection()
            self._refused = True
            self._owner.refusals.note(
                self.transport.getPeer(), "it speaks TLS, and here is none (--insecure)"
            )
            return False
        self._undigested += len(data)
        if self._undigested > (MAX_BOX_BYTES if self.greeted else MAX_EARLY_BYTES):
            self.turn_away("a message without end")
            return False
        return True

    def ampBoxReceived(self, box: Any) -> None:
        """A whole message has come: the next one may be as long.

        AMP itself raises on answers to what nobody asked.
        """
        self._undigested = 0
        if self._refused:
            return
        if amp.COMMAND in box and amp.ASK in box and not (amp.ANSWER in box or amp.ERROR in box):
            super().ampBoxReceived(box)
        else:
            self.turn_away("a message that asks nothing")

    def lengthLimitExceeded(self, length: int) -> None:
        """What AMP calls for bytes that are none of its."""
        self.turn_away("bytes that are not our protocol")

    def locateResponder(self, name: bytes) -> Any:
        """AMP's look-up: refuses everything before a hello, and unknown names by name."""
        if name == commands.Hello.commandName:
            return self._wrapped(commands.Hello, self._hello)
        if not self.greeted:
            return self._wrapped(commands.Ping, self._refuse_early)
        for command, responder in self._owner.responders.items():
            if command.commandName == name:  # type: ignore[attr-defined]
                if self._owner.authority.insecure or self.role in responder.roles:
                    return self._wrapped(command, partial(responder.function, self))
                return self._wrapped(command, partial(self._refuse_role, command, responder))
        return partial(_refuse_unknown, name)

    def _wrapped(self, command: Any, function: Callable[..., Any]) -> Any:
        respond = self._wrapWithSerialization(function, command)

        def checked(box: Any) -> Any:
            try:
                return respond(box)
            except Exception as problem:  # arguments that are none; the function's go elsewhere
                why = f"{command.__name__} with arguments that are none: {type(problem).__name__}"
                raise amp.RemoteAmpError(b"REFUSED", why) from None

        return checked

    def _refuse_early(self, **_arguments: Any) -> Any:
        raise RefusedError("say hello first")

    def _refuse_role(self, command: Any, responder: Responder, **_arguments: Any) -> Any:
        needed = " or ".join(sorted(responder.roles))
        raise RefusedError(
            f"{command.__name__} needs a credential for {needed}, and this one is for {self.role}"
        )

    def _hello(self, oldest: int, newest: int, role: str, software: str) -> dict[str, Any]:
        service = self._owner.service
        self.certificate = peer_certificate(self.transport)
        try:
            self.role = self._owner.authority.role(self.certificate)
            if newest < commands.OLDEST_VERSION or oldest > commands.NEWEST_VERSION:
                raise RefusedError(
                    f"this {service} ({VERSION}) speaks protocol versions "
                    f"{commands.OLDEST_VERSION} to {commands.NEWEST_VERSION}, the {role[:40]} "
                    f"({software[:40]}) {oldest} to {newest}: install the same twisted-dist on both"
                )
        except RefusedError as problem:
            self._owner.refusals.note(self.transport.getPeer(), str(problem))
            raise
        self.greeted = True
        self._cancel_deadline()
        self._owner.has_greeted(self)
        version = min(newest, commands.NEWEST_VERSION)
        return {"version": version, "service": service, "software": VERSION}

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
        problem = tls_problem(reason.value)
        if problem == NOT_KNOWN_THERE:
            problem = f"it takes this {self._owner.service}'s key for another's"
        if not self.greeted and not self._refused and (problem or self._undigested):
            # who says nothing looks whether somebody is there: a scheduler whether its worker is
            self._owner.refusals.note(self.transport.getPeer(), problem or "it left without a word")
        super().connectionLost(reason)
        self._owner.has_gone(self)
        for each in self.when_lost:
            each()
        self.when_lost.clear()
        let_go(self)


def most_strangers() -> int:
    """How many connections without a hello this process can afford."""
    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MAX_STRANGERS, int(files * STRANGERS_SHARE)))


class ControlFactory(Factory):
    """Makes a `ControlProtocol` for each accepted connection and remembers it.

    Args:
        service: ``scheduler``, ``worker`` or ``nanny``; told to whoever says hello.
        responders: what answers each command, by command class.
        clock: for deadlines.
        authority: says what a peer may do.
    """

    noisy = False

    def __init__(
        self,
        service: str,
        responders: Mapping[type, Responder],
        clock: IReactorTime,
        authority: Authority,
    ) -> None:
        self.service = service
        self.responders = responders
        self.clock = clock
        self.authority = authority
        self.refusals = Refusals(clock, service)
        self.connections: set[ControlProtocol] = set()
        #: those that have not said hello, the oldest first
        self._strangers: dict[ControlProtocol, None] = {}
        self._emptied: list[Callable[[], None]] = []

    def buildProtocol(self, addr: object) -> ControlProtocol:
        """One more connection; the oldest stranger goes where there are too many."""
        most = most_strangers()
        if len(self._strangers) >= most:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.turn_away(f"more than {most} connections without a hello")
        protocol = ControlProtocol(self)
        self.connections.add(protocol)
        self._strangers[protocol] = None
        return protocol

    def has_greeted(self, protocol: ControlProtocol) -> None:
        """A connection is no stranger's any more."""
        self._strangers.pop(protocol, None)

    def has_gone(self, protocol: ControlProtocol) -> None:
        """A connection is lost."""
        self._strangers.pop(protocol, None)
        self.connections.discard(protocol)
        if not self.connections:
            for each in self._emptied:
                each()
            self._emptied.clear()

    def end_unwelcome(self) -> None:
        """End the connections of those whose credential does not count any more."""
        for each in list(self.connections):
            if not each.greeted:
                continue
            try:
                self.authority.role(each.certificate)
            except RefusedError as problem:
                each.turn_away(str(problem))

    def when_empty(self, function: Callable[[], None]) -> None:
        """Call *function* once no connection is left; at once if none is."""
        if self.connections:
            self._emptied.append(function)
        else:
            function()


class Door(Factory):
    """Takes connections in once the authority can answer them, by TLS where it says so."""

    noisy = False

    def __init__(self, inner: ControlFactory) -> None:
        self._inner = inner
        self._tls = TLSFactory(inner.authority.context, inner)

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """One more connection; None, which closes it, while nobody can be known yet."""
        authority = self._inner.authority
        if not authority.ready():
            return None
        factory: Any = self._inner if authority.insecure else self._tls
        protocol: Protocol | None = factory.buildProtocol(addr)
        return protocol
