"""TLS 1.3 where each end knows the other by its certificate (`access.credential`).

A daemon refuses, within the handshake, whoever does not hold the key of a certificate that
it knows: a stranger gets a TLS alert and no byte of this package's protocol. An end that
dials takes only the certificates that it expects. Sessions are not resumed: each connection
proves anew.

The TLS is OpenSSL's, by the standard library's `ssl` on buffers in memory; here it is put
between a Twisted transport and a protocol. Twisted's own such layer goes through pyOpenSSL
and gathers writes for the reactor's next turn, which costs a lone message twice as much
(docs/decisions/0009).
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, Final

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_dist.access.credential import Certificate, Credential
from twisted_dist.wire.transports import notice_silence, send_at_once, write_now

#: what a fatal alert "protocol version" is on the wire (RFC 8446, section 6): the answer to
#: a peer that speaks TLS where none is spoken
ALERT_PROTOCOL_VERSION: Final = b"\x15\x03\x03\x00\x02\x02\x46"
#: first byte of a TLS record with a handshake, and of one with an alert
HANDSHAKE_RECORD, ALERT_RECORD = 0x16, 0x15
#: bytes that are decrypted at a time; a record has 16 KiB at most
_READ_BYTES: Final = 64 * 1024


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which `ssl`, which takes keys from files only, finds *content*.

    A file in memory where the system has such; else one that only this user can read, for
    as long as it takes.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("twisted_dist", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp(prefix="twisted_dist-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        os.unlink(path)


def tls_context(
    credential: Credential, trusted: Iterable[Certificate], *, answers: bool
) -> ssl.SSLContext:
    """What connections are made with.

    Args:
        credential: who this end is.
        trusted: certificates of whom the other end may be; the key of one of them is proven.
        answers: whether this end accepts connections, or dials.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if answers else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a certificate has no name that matters
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    if answers:
        context.num_tickets = 0
    known = b"".join(trusted)
    if known:
        context.load_verify_locations(cadata=known)
    with _as_file(credential.pem()) as path:
        context.load_cert_chain(path)
    return context


class TLSProtocol(Protocol):
    """Speaks TLS on its transport, and is the transport of another protocol.

    What is written leaves at once. Nothing waits for the other side's farewell when the
    connection is closed: frames have lengths, so that nothing cut off is taken for whole.

    Args:
        context: of `tls_context`.
        inner: whose bytes are to be protected.
        answers: whether this end accepted the connection.
        secured: called when the handshake is done and the peer's key proven.

    Attributes:
        lock: held for whatever is done with OpenSSL's object, which is of one thread at a
            time, and until what comes of it is written.
    """

    transport: Any

    def __init__(
        self,
        context: ssl.SSLContext,
        inner: Any,
        *,
        answers: bool,
        secured: Callable[[], None] | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=answers)
        self.lock = RLock()
        self._inner = inner
        self._secured = secured
        self._is_secure = False
        #: written before the handshake was done
        self._early: list[bytes] = []
        #: of what is written here, with whether it pushes; the transport's own from the
        #: handshake to the end
        self._producer: tuple[Any, bool] | None = None
        self._is_handed_down = False
        #: nothing is to be read, once the handshake is done
        self._is_paused = False
        self._problem: ssl.SSLError | None = None
        self.disconnecting = False

    # -- as a protocol

    def connectionMade(self) -> None:
        """Begin the handshake."""
        send_at_once(self.transport)
        notice_silence(self.transport)
        self._inner.makeConnection(self)
        self._shake_hands()

    def dataReceived(self, data: bytes) -> None:
        """Decrypt, and hand on what comes out."""
        if self.disconnecting and not self._early:
            return  # nobody will read it
        self._incoming.write(data)
        if not self._is_secure:
            self._shake_hands()
            if not self._is_secure:
                return
        lock, tls, incoming, inner = self.lock, self._tls, self._incoming, self._inner
        try:
            while not self.disconnecting:
                with lock:
                    plain = tls.read(_READ_BYTES)
                    more = incoming.pending or tls.pending()
                if not plain:  # the other end's farewell
                    self.loseConnection()
                    return
                inner.dataReceived(plain)
                if not more:
                    break  # as a rule: an exception to learn that costs as much as the rest
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as problem:
            self._fail(problem)
        if self._outgoing.pending:  # TLS's own: an alert, a new key
            self._flush()

    def _shake_hands(self) -> None:
        try:
            with self.lock:
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as problem:
            self._fail(problem)
            return
        self._is_secure = True
        self._flush()
        if self._secured is not None:
            self._secured()
        early, self._early = self._early, []
        if early:
            closing, self.disconnecting = self.disconnecting, False
            self.write(b"".join(early))
            if closing:
                self.loseConnection()
        if self._is_paused:
            self.transport.pauseProducing()
        if self._producer is not None and not self.disconnecting:
            producer, streaming = self._producer
            self._hand_down()
            if streaming:
                producer.resumeProducing()

    def _flush(self) -> None:
        with self.lock:
            if self._outgoing.pending:
                write_now(self.transport, self._outgoing.read())

    def _fail(self, problem: ssl.SSLError) -> None:
        self._problem = self._problem or problem.with_traceback(None)  # which would hold all this
        if not self._is_secure and not self._outgoing.pending:
            # OpenSSL has no word for what is no TLS at all
            write_now(self.transport, ALERT_PROTOCOL_VERSION)
        self._flush()  # the alert that says why
        self._take_back()
        self._early.clear()
        self.disconnecting = True
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass it on; where TLS ended it, with TLS's reason."""
        self.disconnecting = True
        if self._producer is not None and not self._is_handed_down:  # else it was told
            self._producer[0].stopProducing()
        inner, self._inner = self._inner, _Nobody()
        inner.connectionLost(reason if self._problem is None else Failure(self._problem))

    # -- as a transport

    def write(self, data: bytes) -> None:
        """Encrypt and send, at once where the kernel takes it."""
        if self.disconnecting:
            return
        if not self._is_secure:
            self._early.append(data)
            return
        try:
            with self.lock:
                self._tls.write(data)
                write_now(self.transport, self._outgoing.read())
        except ssl.SSLError as problem:
            self._fail(problem)

    def encrypt(self, data: bytes, records: list[bytes]) -> bool:
        """Encrypt for a thread that sends by itself (`wire.direct`), and holds `lock`.

        Returns:
            False where that cannot be, and nothing was done; the reactor's thread learns why.
        """
        if not self._is_secure or self.disconnecting or self._outgoing.pending:
            return False
        try:
            self._tls.write(data)
            records.extend(iter(self._outgoing.read, b""))
        except ssl.SSLError:
            return False
        except BaseException:  # of a signal's handler: once more, for it may have come before
            records.extend(iter(self._outgoing.read, b""))
            raise
        return True

    def writeSequence(self, parts: Iterable[bytes]) -> None:
        """Write several."""
        self.write(b"".join(parts))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause *producer* while much waits to be sent; until the handshake is done, at once.

        What is written is the transport's at once, so it is the transport that knows.
        """
        if self._producer is not None:
            raise RuntimeError("another producer is registered")
        self._producer = producer, streaming
        if self._is_secure and not self.disconnecting:
            self._hand_down()
        elif streaming:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._take_back()
        self._producer = None

    def _hand_down(self) -> None:
        assert self._producer is not None
        self._is_handed_down = True
        self.transport.registerProducer(*self._producer)

    def _take_back(self) -> None:
        """A transport that waits for a producer's bytes does not close."""
        if self._is_handed_down:
            self._is_handed_down = False
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read nothing for now, but for the handshake: that goes on."""
        self._is_paused = True
        if self._is_secure:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._is_paused = False
        if self._is_secure:
            self.transport.resumeProducing()

    def loseConnection(self) -> None:
        """Close, after what was written."""
        if self.disconnecting:
            return
        self.disconnecting = True
        if self._is_secure:
            self._say_farewell()
        elif not self._early:
            self.transport.loseConnection()

    def _say_farewell(self) -> None:
        with self.lock:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it would wait for the other side's
            self._flush()
            self._take_back()
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self._early.clear()
        self.disconnecting = True
        self.transport.abortConnection()

    def getPeer(self) -> Any:
        """The other end's address."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """This end's address."""
        return self.transport.getHost()

    def peer_certificate(self) -> Certificate | None:
        """The certificate whose key the peer has proven to hold; None before."""
        return self._tls.getpeercert(binary_form=True) if self._is_secure else None


class _Nobody(Protocol):
    """Hears nothing."""


class TLSFactory(Factory):
    """Puts TLS below the protocols of another factory, for accepted connections.

    Args:
        context: called for each connection.
        wrapped: makes the protocols.
    """

    noisy = False

    def __init__(self, context: Callable[[], ssl.SSLContext], wrapped: Factory) -> None:
        self._context = context
        self._wrapped = wrapped

    def buildProtocol(self, addr: Any) -> TLSProtocol:
        """One more connection."""
        return TLSProtocol(self._context(), self._wrapped.buildProtocol(addr), answers=True)


def peer_certificate(transport: Any) -> Certificate | None:
    """What the peer has proven to hold the key of; None where there is no TLS."""
    return transport.peer_certificate() if isinstance(transport, TLSProtocol) else None


NOT_KNOWN_THERE: Final = "it does not know this credential"
NOT_KNOWN_HERE: Final = "its credential is not one of this network"
NO_TLS: Final = "it does not speak TLS 1.3"
#: what OpenSSL says, in parts, and what it means; the first that fits
_MEANINGS: Final = (
    (("UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN"), NOT_KNOWN_THERE),
    (("CERTIFICATE_REQUIRED", "DID_NOT_RETURN_A_CERTIFICATE"), "it showed no credential"),
    (("CERTIFICATE_VERIFY_FAILED",), NOT_KNOWN_HERE),
    (("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"), "it speaks HTTP"),
    (("VERSION", "UNSUPPORTED_PROTOCOL", "PACKET_LENGTH", "RECORD_LAYER"), NO_TLS),
)


def tls_problem(problem: object) -> str | None:
    """In words, what ended a TLS connection; None where it was not TLS that did."""
    if not isinstance(problem, ssl.SSLError):
        return None
    said = f"{problem.reason or problem}"
    for signs, meaning in _MEANINGS:
        if any(sign in said for sign in signs):
            return meaning
    return f"TLS failed: {said}"
