"""`JumpEndpoint`: a host behind another one, by a channel that the latter forwards."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.channel import PACKET_BYTES, WINDOW_BYTES
from twisted_dist.launchers.ssh.connection import ConchConnection
from twisted_dist.launchers.ssh.failures import forward_error
from twisted_dist.launchers.ssh.multiplexer import Multiplexer
from twisted_dist.launchers.ssh.quiet import QUIET
from twisted_dist.launchers.ssh.settings import HostSettings


class JumpChannel(SSHChannel):
    """A connection that a bastion makes for us, as the transport of another protocol."""

    name = b"direct-tcpip"
    conn: Multiplexer
    _log = QUIET

    def __init__(
        self,
        reactor: Any,
        conn: Multiplexer,
        settings: HostSettings,
        bastion: str,
        factory: IProtocolFactory,
    ) -> None:
        super().__init__(localWindow=WINDOW_BYTES, localMaxPacket=PACKET_BYTES, conn=conn)
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self.abortConnection())
        self._reactor = reactor
        self._settings = settings
        self._bastion = bastion
        self._factory = factory
        self._protocol: IProtocol | None = None
        self._address = HostnameAddress(settings.host.encode(), settings.port)
        self._is_aborted = False

    # -- conch's channel --

    def channelOpen(self, specificData: bytes) -> None:
        """The bastion has connected."""
        protocol = None if self._is_aborted else self._factory.buildProtocol(self._address)
        if protocol is None:
            self.loseConnection()
            return
        self._protocol = protocol
        protocol.makeConnection(self)
        self.opened.callback(protocol)

    def openFailed(self, reason: Any) -> None:
        """The bastion could not, or would not."""
        problem: Any = reason.value if isinstance(reason, Failure) else reason
        if self.opened.called:
            return
        if self.conn.is_running:
            error = forward_error(self._settings, self._bastion, problem)
        else:
            words = f"{self._settings.alias}: its bastion is lost: {self.conn.reason}"
            error = SSHError(words, "lost", is_passing=True)
        self.opened.errback(error)

    def dataReceived(self, data: bytes) -> None:
        """From the host behind."""
        if self._protocol is not None and not self._is_aborted:
            self._protocol.dataReceived(data)

    def eofReceived(self) -> None:
        """The host behind has closed its side; SSH has no use for half of a connection."""
        self.loseConnection()

    def closed(self) -> None:
        """The bastion has closed it, or is lost itself."""
        words = self.conn.reason or f"closed by way of {self._bastion}"
        self._tell(Failure(ConnectionLost(words)))

    # -- a transport --

    def abortConnection(self) -> None:
        """End it without waiting for the bastion; told as TCP does, a turn of the reactor later."""
        if not self._is_aborted:
            self._is_aborted = True
            self.buf = b""
            if self in self.conn.channelsToRemoteChannel:
                self.loseConnection()
            self._reactor.callLater(0, self._tell, Failure(ConnectionAborted()))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """The bastion's matter."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """The bastion's matter."""

    def getPeer(self) -> IAddress:
        """The host behind."""
        return self._address

    def getHost(self) -> IAddress:
        """There is no address of ours that the host behind would see."""
        return self._address

    def writeSequence(self, data: Sequence[bytes]) -> None:
        """As of any transport."""
        self.write(b"".join(data))

    def _tell(self, reason: Failure) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)


@implementer(IStreamClientEndpoint)
class JumpEndpoint:
    """Connects to a host by way of one that was entered already."""

    def __init__(
        self, reactor: Any, connection: ConchConnection, bastion: str, settings: HostSettings
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._bastion = bastion
        self._settings = settings

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fails with `SSHError`; cancelled, it leaves no channel."""
        multiplexer = self._connection.multiplexer
        channel = JumpChannel(
            self._reactor, multiplexer, self._settings, self._bastion, protocolFactory
        )
        if not multiplexer.is_running:
            channel.openFailed(ConnectionLost())
            return channel.opened
        # RFC 4254, 7.2: the host, and who asks for it, which is nobody with an address
        host, port = self._settings.host.encode(), self._settings.port
        details = NS(host) + struct.pack(">L", port) + NS(b"127.0.0.1") + struct.pack(">L", 0)
        multiplexer.openChannel(channel, details)
        return channel.opened
