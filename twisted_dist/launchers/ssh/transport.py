"""`ClientTransport`: SSH's transport, up to where commands can be run.

On conch's `SSHClientTransport`, which leaves to its subclasses what to offer, whose key to take
and what to say when it fails. Four things of it are put right here:

* text before SSH is taken for a packet (`greeting`);
* packets that come while the host's key is judged are read with the wrong cipher, so that
  nobody could be asked: they wait;
* the type of the key, and of its signature, need not be what was agreed on;
* ``connectionSecure`` is called after each exchange of keys, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHClientTransport
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.algorithms import (
    CIPHERS,
    KEY_EXCHANGES,
    MACS,
    SIGNATURES,
    nothing_in_common,
    read_offer,
)
from twisted_dist.launchers.ssh.authentication import Authentication
from twisted_dist.launchers.ssh.failures import USE_SYSTEM_SSH, printable
from twisted_dist.launchers.ssh.greeting import Greeting
from twisted_dist.launchers.ssh.host_keys import HostKeyCheck
from twisted_dist.launchers.ssh.login import Login
from twisted_dist.launchers.ssh.multiplexer import Multiplexer
from twisted_dist.launchers.ssh.outcome import Outcome
from twisted_dist.launchers.ssh.quiet import QUIET

#: what a server may send while its key is judged; it has nothing to say then but that the keys
#: are in use and which signatures it knows
HELD_BYTES: Final = 1 << 16


class Phase(Enum):
    """How far it is; the value says what was being done."""

    GREETING = "it accepted the connection, and said nothing (no sshd?)"
    KEY_EXCHANGE = "it began SSH, and stopped while keys were exchanged"
    LOGIN = "it did not finish the login"
    RUNNING = "it is entered"


class ClientTransport(SSHClientTransport):
    """A connection to one host.

    Attributes:
        ready: fires once commands can be run; fails with the `SSHError` that kept it from that.
        phase: how far it is.
        has_heard: set when a packet comes; whoever watches takes it back.
        error: why it ended, or is about to.
        multiplexer: runs commands, once it is ready.
    """

    transport: Any
    _log = QUIET

    def __init__(self, login: Login, host_key: HostKeyCheck) -> None:
        self.ready: Deferred[None] = Deferred()
        self.phase = Phase.GREETING
        self.has_heard = False
        self.error: SSHError | None = None
        self.multiplexer = Multiplexer(self._served)
        self.supportedCiphers = list(CIPHERS)
        self.supportedMACs = list(MACS)
        self.supportedKeyExchanges = list(KEY_EXCHANGES)
        self.supportedCompressions = [b"none"]
        # smaller groups can be broken, and no server has only those (RFC 8270)
        self._dhMinimalGroupSize = 2048
        self._dhPreferredGroupSize = 3072
        self.supportedPublicKeys = host_key.algorithms()
        self._login = login
        self._host = login.alias
        self._host_key = host_key
        self._greeting = Greeting(login.alias)
        self._authentication = Authentication(login, self._logged_in, self.fail)
        #: the key that was judged, and is not judged again when keys are renewed
        self._accepted: bytes | None = None
        self._judging: Deferred[None] | None = None
        self._is_closing = False
        self._loss: Outcome[str] = Outcome()

    # -- for those who have the connection --

    def lost(self) -> Deferred[str]:
        """A new Deferred that fires with the reason once the socket is closed."""
        return self._loss.when_known()

    @property
    def reason(self) -> str:
        """Why it ended, in words."""
        return str(self.error) if self.error is not None else f"{self._host}: it was closed"

    def fail(self, error: SSHError) -> None:
        """End it at once, for this reason."""
        if self.error is None and not self._is_closing:
            self.error = error
        self._tell_ready()
        self.transport.abortConnection()

    def close(self) -> None:
        """End it politely; whoever wants it to be sure calls `abort` after a while."""
        self._is_closing = True
        self.sendDisconnect(DISCONNECT_BY_APPLICATION, b"disconnected by user")

    def abort(self) -> None:
        """End it at once."""
        self._is_closing = True
        self.transport.abortConnection()

    def connectionMade(self) -> None:
        """Begin; small packets should not wait for others."""
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        super().connectionMade()

    # -- what the server sends --

    def dataReceived(self, data: bytes) -> None:
        """Any bytes; those that are not SSH end it, with a reason."""
        try:
            if not self.gotVersion:
                said = self._greeting.take(data)
                if said is None:
                    return
                data = said
                self.phase = Phase.KEY_EXCHANGE
            super().dataReceived(data)
            if self._judging is not None and len(self.buf) > HELD_BYTES:
                raise SSHError(f"{self._host}: it does not wait for its key", "protocol")
        except SSHError as error:
            self.fail(error)
        except Exception as error:  # conch parses with struct, and trusts
            self._log.debug("{host}: {error!r}", host=self._host, error=error)
            self.fail(SSHError(f"{self._host}: its sshd breaks the protocol", "protocol"))

    def getPacket(self) -> bytes | None:
        """The next packet; none while the key is judged that is to secure it."""
        if self._judging is not None or self.error is not None:
            return None
        packet: bytes | None = super().getPacket()
        return packet

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """Any packet is a sign of life."""
        self.has_heard = True
        super().dispatchMessage(messageNum, payload)

    def ssh_KEXINIT(self, packet: bytes) -> None:
        """What the server offers."""
        missing = nothing_in_common(read_offer(packet), self.supportedPublicKeys)
        if missing:
            raise SSHError(
                f"{self._host}: nothing in common with its sshd: {missing}; {USE_SYSTEM_SSH}",
                "protocol",
            )
        super().ssh_KEXINIT(packet)

    def ssh_KEX_DH_GEX_GROUP(self, packet: bytes) -> None:
        """The server's key and signature; in one kind of exchange, its group."""
        if self.kexAlg.startswith(b"diffie-hellman-group-exchange-"):
            super().ssh_KEX_DH_GEX_GROUP(packet)
        else:
            self._judge(packet, super().ssh_KEX_DH_GEX_GROUP)

    def ssh_KEX_DH_GEX_REPLY(self, packet: bytes) -> None:
        """The server's key and signature, in that kind of exchange."""
        self._judge(packet, super().ssh_KEX_DH_GEX_REPLY)

    def _judge(self, packet: bytes, go_on: Callable[[bytes], Deferred[None]]) -> None:
        # key, what the server adds to the exchange, signature: the same three in all kinds
        blob, _, signature, _ = getNS(packet, 3)
        if getNS(signature)[0] != self.keyAlg or self.keyAlg not in SIGNATURES.get(
            getNS(blob)[0], ()
        ):
            raise SSHError(
                f"{self._host}: its key is not of the type that it agreed on", "protocol"
            )
        going = go_on(packet)
        if self._judging is not None:
            going.addBoth(lambda _: self.dataReceived(b""))

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[None]:
        """Conch asks: is that the host's key?"""
        judging = self._judging = Deferred.fromCoroutine(self._verify(hostKey))
        return judging.addBoth(self._judged)

    async def _verify(self, blob: bytes) -> None:
        if self._accepted is None:
            await self._host_key.verify(blob, getNS(blob)[0])
            self._accepted = blob
        elif self._accepted != blob:
            raise SSHError(f"{self._host}: it changed its host key in mid-course", "protocol")

    def _judged(self, result: object) -> Any:
        self._judging = None
        if isinstance(result, Failure):
            error = result.value
            if isinstance(error, SSHError):
                self.fail(error)
            elif not isinstance(error, CancelledError):
                self.fail(
                    SSHError(f"{self._host}: its key could not be judged: {error!r}", "host-key")
                )
        return result

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """The server says why it ends the connection."""
        if self.error is None:
            said = printable(description)
            if self.phase is Phase.LOGIN:
                self.error = self._authentication.explain(said)
            else:
                self.error = SSHError(
                    f"{self._host}: its sshd ended the connection: {said}", "lost", is_passing=True
                )

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """Conch ends the connection."""
        if self.error is None and not self._is_closing:
            self.error = SSHError(f"{self._host}: {printable(desc)}", "protocol")
        super().sendDisconnect(reason, desc)

    # -- how it goes on --

    def connectionSecure(self) -> None:
        """Keys are exchanged, for the first time or again."""
        if self.phase is Phase.KEY_EXCHANGE:
            self.phase = Phase.LOGIN
            self.requestService(self._authentication)

    def _logged_in(self) -> None:
        self._login.close()
        self.setService(self.multiplexer)

    def _served(self) -> None:
        self.phase = Phase.RUNNING
        self._tell_ready()

    def _tell_ready(self) -> None:
        if not self.ready.called:
            if self.phase is Phase.RUNNING:
                self.ready.callback(None)
            else:
                self.ready.errback(self.error or self._explain(None))

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        """Nothing comes any more; everybody is told."""
        if self.error is None and not self._is_closing:
            self.error = self._explain(reason)
        if self._judging is not None:
            self._judging.cancel()
        self._login.close()
        self.multiplexer.reason = self.reason
        super().connectionLost(reason)
        self._tell_ready()
        self._loss.tell(self.reason)

    def _explain(self, reason: Failure | None) -> SSHError:
        if self.phase is Phase.GREETING:
            return self._greeting.ended()
        if self.phase is Phase.LOGIN:
            return self._authentication.explain("")
        done = "was lost" if self.phase is Phase.RUNNING else "ended while keys were exchanged"
        why = "" if reason is None else f": {printable(reason.getErrorMessage())}"
        return SSHError(f"{self._host}: the connection {done}{why}", "lost", is_passing=True)
