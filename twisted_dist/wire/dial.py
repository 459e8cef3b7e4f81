"""Dialling a daemon: connect, perhaps by TLS, say hello, and perhaps switch."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet import defer
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from twisted_dist.address import parse_address
from twisted_dist.errors import AccessError, ConnectError, RefusedError, TwistedDistError
from twisted_dist.version import VERSION
from twisted_dist.wire import commands
from twisted_dist.wire.membership import Entry
from twisted_dist.wire.tls import (
    ALERT_RECORD,
    NO_TLS,
    NOT_KNOWN_HERE,
    NOT_KNOWN_THERE,
    TLSProtocol,
    peer_certificate,
    tls_problem,
)
from twisted_dist.wire.transports import hear_directly

#: seconds to connect and to be greeted
DIAL_S: Final = 10.0


def skip_amp(proto: amp.AMP) -> None:
    """Once a connection was switched, let its bytes go straight to the other protocol."""
    if proto.innerProtocol is not None:
        proto.dataReceived = proto.innerProtocol.dataReceived  # type: ignore[method-assign]


def let_go(proto: amp.AMP) -> None:
    """Let go of what a lost connection holds, itself among it.

    AMP's protocols refer to themselves: they, and what had come of a message, would stay
    until the collector runs, which is seldom in a daemon.
    """
    proto.boxReceiver = proto.locator = proto.boxSender = None
    proto.innerProtocol = None
    proto.__dict__.pop("dataReceived", None)


class Dialled(amp.AMP):
    """The dialling side of a connection while it speaks AMP.

    Attributes:
        secured: fires when the TLS handshake is done, fails when it cannot be.
        met_tls: whether the other side spoke TLS where this one does not.
    """

    transport: Any

    def __init__(self, reactor: Any, *, tls: bool) -> None:
        super().__init__()
        self._reactor = reactor
        self._tls = tls
        self.met_tls = False
        self.secured: defer.Deferred[None] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        """AMP, unless it is TLS's word that TLS is spoken there."""
        if not self._tls and not self.met_tls and data[0] == ALERT_RECORD:
            self.met_tls = True
            self.transport.abortConnection()
        elif not self.met_tls:
            super().dataReceived(data)
            skip_amp(self)

    def ampBoxReceived(self, box: Any) -> None:
        """An answer to what was asked; AMP itself raises on anything else."""
        answers = amp.ERROR if amp.ERROR in box else amp.ANSWER
        whole = answers is amp.ANSWER or (amp.ERROR_CODE in box and amp.ERROR_DESCRIPTION in box)
        if whole and box.get(answers) in self._outstandingRequests:
            super().ampBoxReceived(box)
        else:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whatever is waited for fails."""
        if self._tls and not self.secured.called:
            self.secured.errback(reason)
        super().connectionLost(reason)
        let_go(self)

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
        except defer.CancelledError:
            self.transport.abortConnection()
            raise
        except Exception as problem:
            self.transport.abortConnection()
            why = str(problem) or type(problem).__name__
            raise ConnectError(f"no answer to {command.__name__}: {why}") from None


async def dial(
    reactor: Any,
    address: str,
    role: str,
    entry: Entry | None,
    timeout_s: float = DIAL_S,
    connect_s: float | None = None,
) -> Dialled:
    """Connect to a daemon and say hello.

    Args:
        reactor: to connect with.
        address: of the daemon.
        role: what the caller is, for the daemon's log.
        entry: the way in; None without TLS.
        timeout_s: for each step.
        connect_s: for the first, in which the other host's kernel answers; *timeout_s* by default.

    Raises:
        ConnectError: nothing answered, or not our protocol.
        AccessError: it is not the daemon that *entry* is for, or one of the two speaks TLS
            and the other does not.
        RefusedError: it does not know the credential, or versions do not meet; the message
            says what to do.
    """
    host, port = parse_address(address)
    first_s = timeout_s if connect_s is None else connect_s
    endpoint = HostnameEndpoint(reactor, host, port, timeout=first_s)
    proto = Dialled(reactor, tls=entry is not None)
    outer: Protocol = proto
    if entry is not None:
        secured = proto.secured
        outer = TLSProtocol(
            entry.context, proto, answers=False, secured=lambda: secured.callback(None)
        )
    try:
        await endpoint.connect(SwitchFactory(outer))
        hear_directly(outer.transport, outer)
        if entry is not None:
            await proto.secured.addTimeout(timeout_s, reactor)
            _check(proto, entry)
        hello = proto.callRemote(
            commands.Hello,
            oldest=commands.OLDEST_VERSION,
            newest=commands.NEWEST_VERSION,
            role=role,
            software=VERSION,
        )
        await hello.addTimeout(timeout_s, reactor)
    except RefusedError as problem:
        proto.transport.loseConnection()
        raise RefusedError(f"{address} refused: {problem}") from None
    except Exception as problem:
        if proto.transport is not None:
            proto.transport.abortConnection()
        if isinstance(problem, (defer.CancelledError, ConnectingCancelledError)):
            raise defer.CancelledError from None  # by the caller: the daemon is all right
        raise _explained(problem, address, proto, entry) from None
    return proto


def _check(proto: Dialled, entry: Entry) -> None:
    """OpenSSL has looked already, in its way: here it is one of ours, byte for byte."""
    if peer_certificate(proto.transport) not in entry.accepted:
        raise AccessError("its certificate was not checked")


def _explained(
    problem: Exception, address: str, proto: Dialled, entry: Entry | None
) -> TwistedDistError:
    """Why a connection came to nothing, as the error that a user should see."""
    if isinstance(problem, AccessError):
        return problem
    if proto.met_tls:
        return AccessError(f"{address} speaks TLS: leave --insecure (insecure=True) out")
    why = tls_problem(problem)
    if why == NOT_KNOWN_HERE and entry is not None:
        return AccessError(
            f"{address} is not {entry.what}: its key is another's. If it was set up anew, copy "
            "its access file again"
        )
    if why == NOT_KNOWN_THERE:
        return RefusedError(
            f"{address} does not know this credential: the network was set up anew, or it is "
            "another one; copy the access file again, or ask for a new one (daccess make)"
        )
    if why == NO_TLS:
        return AccessError(
            f"{address} does not speak TLS: if it was started with --insecure, this needs "
            "--insecure (insecure=True) too"
        )
    return ConnectError(f"cannot reach {address}: {why or problem or type(problem).__name__}")


class SwitchFactory(Factory):
    """What AMP and endpoints ask for the one protocol of a connection."""

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
