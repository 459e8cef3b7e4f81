"""TLS 1.3 where each end knows the other by the pin of its key (`access.credential`).

An end that is asked refuses, within the handshake, whoever does not hold a key that it
knows: a stranger gets a TLS alert and no byte of this package's protocol. An end that asks
checks the other's key before it says anything. Nothing of a certificate counts but its key,
so neither names nor authorities nor dates are looked at. Sessions are not resumed: each
connection proves anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_dist.access.credential import Credential, Pin, pin_of
from twisted_dist.wire.transports import PromptTransport

#: of TLS 1.3's, in order: AES-128 costs least where processors help with it, and is enough
_SUITES: Final = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
#: what a fatal alert "protocol version" is on the wire (RFC 8446, section 6): the answer to
#: a peer that speaks TLS where none is spoken
ALERT_PROTOCOL_VERSION: Final = b"\x15\x03\x03\x00\x02\x02\x46"
#: first byte of a TLS record with a handshake, and of one with an alert
HANDSHAKE_RECORD, ALERT_RECORD = 0x16, 0x15


class _Prompt(TLSMemoryBIOProtocol):
    """TLS on a transport that writes at once; what is written here is batched already."""

    def makeConnection(self, transport: Any) -> None:
        """Put the prompt transport between."""
        super().makeConnection(PromptTransport(transport))


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS below the protocols of another factory."""

    protocol = _Prompt

    def __init__(self, ends: Ends, wrapped: Factory, clock: IReactorTime) -> None:
        super().__init__(ends, ends.asks, wrapped, clock)


class PinnedTLS:
    """TLS as the holder of one credential."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def asking(self, accepts: Callable[[Pin], bool]) -> Ends:
        """For one dialled connection to a daemon whose pin *accepts* takes."""
        return Ends(self._credential, accepts, asks=True)

    def answering(self, accepts: Callable[[Pin], bool]) -> Ends:
        """For all connections that a daemon accepts, of peers whose pin *accepts* takes."""
        return Ends(self._credential, accepts, asks=False)


#: a chain is one certificate: the peer's own, self-signed
_LEAF: Final = 0


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Ends:
    """Makes the TLS side of connections.

    Attributes:
        refused: pin of the last peer that was not accepted.
    """

    def __init__(
        self, credential: Credential, accepts: Callable[[Pin], bool], *, asks: bool
    ) -> None:
        self._accepts = accepts
        self.asks = asks
        self.refused: Pin | None = None
        self._context = context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(_SUITES)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.use_certificate(credential.certificate())
        context.use_privatekey(credential.private_key())
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)

    def _verify(
        self, connection: SSL.Connection, certificate: Any, error: int, depth: int, ok: int
    ) -> bool:
        """OpenSSL's question about a certificate; its own opinion of it does not matter."""
        pin = pin_of(certificate.to_cryptography())
        if depth == _LEAF and self._accepts(pin):
            return True
        self.refused = pin
        return False

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """The asking side of one connection (Twisted's interface)."""
        return SSL.Connection(self._context, None)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """The answering side of one connection (Twisted's interface)."""
        return SSL.Connection(self._context, None)


def peer_pin(transport: Any) -> Pin | None:
    """Pin of the key that the peer has proven to hold; None where there is no TLS."""
    get = getattr(transport, "getPeerCertificate", None)
    certificate = get() if get is not None else None
    return None if certificate is None else pin_of(certificate.to_cryptography())


#: what OpenSSL says, in parts, and what it means; the first that fits
_MEANINGS: Final = (
    (("unknown ca", "bad certificate"), "it does not know this credential"),
    (("certificate required", "peer did not return a certificate"), "it showed no credential"),
    (("certificate verify failed",), "its credential is not one of this network"),
    (("http request", "https proxy request"), "it speaks HTTP"),
    (
        ("protocol version", "wrong version", "unsupported protocol", "packet length"),
        "it does not speak TLS 1.3",
    ),
)


def tls_problem(failure: Failure) -> str | None:
    """In words, what ended a TLS connection; None where it was not TLS that did."""
    problem = failure.value
    if not isinstance(problem, SSL.Error):
        return None
    parts = [str(part) for each in (problem.args[0] if problem.args else ()) for part in each]
    said = "; ".join(part for part in parts if part)
    for signs, meaning in _MEANINGS:
        if any(sign in said for sign in signs):
            return meaning
    return f"TLS failed: {said or 'no reason given'}"
