"""TLS between two ends in memory: who is let in, what is said to whom, nothing lost."""

import random
import ssl

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.test.iosim import connect, makeFakeClient, makeFakeServer

from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import WORKER
from twisted_dist.wire.tls import (
    ALERT_PROTOCOL_VERSION,
    NO_TLS,
    NOT_KNOWN_HERE,
    NOT_KNOWN_THERE,
    TLSFactory,
    TLSProtocol,
    peer_certificate,
    tls_context,
    tls_problem,
)

SERVER, MEMBER, OTHER, STRANGER = (Credential.make(WORKER) for _ in range(4))


class Talker(Protocol):
    """Notes all that happens to it."""

    def __init__(self):
        self.heard = b""
        self.ended = None

    def dataReceived(self, data):
        """Collect."""
        self.heard += data

    def connectionLost(self, reason):
        """Note why."""
        self.ended = reason.value


class Pair:
    """A dialling and an answering end; with *greet*, the handshake is done at once."""

    def __init__(
        self, client=MEMBER, expects=(SERVER,), knows=(MEMBER, OTHER), newest=None, greet=True
    ):
        context = tls_context(SERVER, [c.certificate for c in knows], answers=True)
        factory = Factory.forProtocol(Talker)
        self.outer = TLSFactory(lambda: context, factory).buildProtocol(None)
        self.there = self.outer._inner
        self.here = Talker()
        self.secured = []
        own = tls_context(client, [c.certificate for c in expects], answers=False)
        if newest is not None:
            own.minimum_version = own.maximum_version = newest
        dialling = TLSProtocol(
            own, self.here, answers=False, secured=lambda: self.secured.append(True)
        )
        self._pump = connect(
            self.outer, makeFakeServer(self.outer), dialling, makeFakeClient(dialling), greet=greet
        )

    def pump(self):
        """Move all bytes."""
        self._pump.flush()


def test_each_knows_the_other():
    """`TLSProtocol` proves both ends, byte for byte of their certificates."""
    pair = Pair()
    pair.pump()
    assert pair.secured == [True]
    assert peer_certificate(pair.here.transport) == SERVER.certificate
    assert peer_certificate(pair.there.transport) == MEMBER.certificate
    assert peer_certificate(Talker().transport) is None


def test_bytes_arrive_in_order():
    """`TLSProtocol` carries what is written before and after the handshake, of any length."""
    pair = Pair()
    chance = random.Random(5)
    sent = {pair.here: b"", pair.there: b""}
    for size in (1, 0, 16384, 16385, 3, 1_000_000, 7, 65536):
        for end in sent:
            piece = chance.randbytes(size)
            end.transport.write(piece)
            sent[end] += piece
        if size == 16385:
            pair.pump()
    pair.here.transport.writeSequence([b"a", b"bc"])
    pair.pump()
    assert pair.there.heard == sent[pair.here] + b"abc"
    assert pair.here.heard == sent[pair.there]


@pytest.mark.parametrize("early", [True, False])
def test_close_sends_what_was_written(early):
    """`TLSProtocol.loseConnection` loses nothing written before it, handshake done or not."""
    pair = Pair()
    if not early:
        pair.pump()
    pair.here.transport.write(b"last words" * 10_000)
    pair.here.transport.loseConnection()
    pair.here.transport.write(b"too late")
    pair.pump()
    assert pair.there.heard == b"last words" * 10_000
    assert pair.here.ended is not None
    assert pair.there.ended is not None
    assert tls_problem(pair.there.ended) is None


def test_nothing_is_kept_that_nobody_will_read():
    """`TLSProtocol` lets go of what still comes when it is closing or has given up."""
    for end in (TLSProtocol.loseConnection, TLSProtocol.abortConnection):
        pair = Pair()
        pair.pump()
        end(pair.outer)
        pair.outer.dataReceived(b"x" * 100_000)
        assert pair.outer._incoming.pending == 0
    pair = Pair(client=STRANGER)
    pair.pump()
    rest = pair.outer._incoming.pending
    pair.outer.dataReceived(b"x" * 100_000)
    assert pair.outer._incoming.pending == rest


def test_abort():
    """`TLSProtocol.abortConnection` ends both ends."""
    pair = Pair()
    pair.pump()
    pair.there.transport.abortConnection()
    pair.pump()
    assert pair.here.ended is not None
    assert pair.there.ended is not None


@pytest.mark.parametrize(
    ("ends", "here", "there"),
    [
        ({"client": STRANGER}, NOT_KNOWN_THERE, NOT_KNOWN_HERE),
        ({"expects": (OTHER,)}, NOT_KNOWN_HERE, NOT_KNOWN_THERE),
        ({"knows": ()}, NOT_KNOWN_THERE, NOT_KNOWN_HERE),
    ],
    ids=["stranger", "another scheduler", "nobody known"],
)
def test_refusals(ends, here, there):
    """`tls_problem` says at each end what was wrong; nothing of the inner protocol passes."""
    pair = Pair(**ends)
    pair.there.transport.write(b"secret")
    pair.pump()
    assert tls_problem(pair.here.ended) == here
    assert tls_problem(pair.there.ended) == there
    assert pair.here.heard == b""
    assert pair.there.heard == b""


def test_one_member_cannot_vouch_for_another():
    """A certificate signed by a member's key is not let in (`Credential` is no authority)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    forged = Credential.make(WORKER)
    own = x509.load_der_x509_certificate(forged.certificate)
    issuer = x509.load_der_x509_certificate(MEMBER.certificate)
    signed = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(2)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .sign(load_pem_private_key(MEMBER.pem(), None), algorithm=None)
    )
    from cryptography.hazmat.primitives.serialization import Encoding

    forged.certificate = signed.public_bytes(Encoding.DER)
    pair = Pair(client=forged)
    pair.pump()
    assert tls_problem(pair.there.ended) is not None
    assert peer_certificate(pair.there.transport) is None


@pytest.mark.parametrize(
    ("sent", "meaning"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it speaks HTTP"),
        (b"\x00\x04_ask\x00\x01a\x00\x00", NO_TLS),
        (b"\x16\x03\x01\xff\xff" + b"x" * 100, NO_TLS),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NO_TLS),
    ],
    ids=["http", "amp", "oversized record", "ssh"],
)
def test_what_is_no_tls(sent, meaning):
    """`TLSProtocol` answers what is no TLS with an alert, and ends the connection."""
    context = tls_context(SERVER, [MEMBER.certificate], answers=True)
    there = Talker()
    outer = TLSProtocol(context, there, answers=True)
    plain = Talker()
    pump = connect(outer, makeFakeServer(outer), plain, makeFakeClient(plain))
    plain.transport.write(sent)
    pump.flush()
    assert tls_problem(there.ended) == meaning
    assert plain.heard[:1] == ALERT_PROTOCOL_VERSION[:1]
    assert plain.ended is not None


def test_older_versions_are_refused():
    """`tls_context` answers TLS 1.3 and nothing older, from a member too."""
    pair = Pair(newest=ssl.TLSVersion.TLSv1_2)
    pair.pump()
    assert tls_problem(pair.there.ended) == NO_TLS
    assert not pair.secured


def test_no_sessions_are_resumed():
    """A connection of `TLSProtocol` gives no ticket by which another could skip its proof."""
    pair = Pair()
    pair.pump()
    pair.there.transport.write(b"x")
    pair.pump()
    assert pair.here.heard == b"x"
    dialled = pair.here.transport._tls
    assert dialled.session is None or not dialled.session.has_ticket
    assert dialled.session_reused is False


class Source:
    """A producer that notes what is asked of it."""

    def __init__(self):
        self.asked = []
        self.pauseProducing = lambda: self.asked.append("pause")
        self.resumeProducing = lambda: self.asked.append("resume")
        self.stopProducing = lambda: self.asked.append("stop")


@pytest.mark.parametrize(("streaming", "early"), [(True, ["pause"]), (False, [])])
def test_a_producer_waits_for_the_handshake(streaming, early):
    """`TLSProtocol.registerProducer` asks for nothing before bytes can leave, then as TCP does."""
    pair = Pair(greet=False)
    source = Source()
    pair.there.transport.registerProducer(source, streaming)
    assert source.asked == early
    with pytest.raises(RuntimeError):
        pair.there.transport.registerProducer(Source(), streaming)
    pair.pump()
    assert source.asked[: len(early) + 1] == [*early, "resume"]
    assert pair.outer.transport.producer is source
    pair.there.transport.unregisterProducer()
    assert pair.outer.transport.producer is None


def test_a_producer_that_leaves_early():
    """`TLSProtocol.unregisterProducer` before the handshake leaves none behind."""
    pair = Pair(greet=False)
    source = Source()
    pair.there.transport.registerProducer(source, True)
    pair.there.transport.unregisterProducer()
    pair.pump()
    assert source.asked == ["pause"]
    assert pair.outer.transport.producer is None


@pytest.mark.parametrize("early", [True, False])
def test_a_producer_does_not_hold_a_connection(early):
    """`TLSProtocol.loseConnection` closes with a producer registered, which is told to stop."""
    pair = Pair(greet=not early)
    source = Source()
    pair.there.transport.registerProducer(source, True)
    pair.there.transport.loseConnection()
    assert pair.outer.transport.producer is None
    pair.pump()
    assert pair.there.ended is not None
    assert source.asked[-1] == "stop"
    pair.there.transport.unregisterProducer()


def test_a_pause_lets_the_handshake_go_on():
    """`TLSProtocol.pauseProducing` stops reading once the handshake is done, not before."""
    pair = Pair(greet=False)
    asked = []
    pair.outer.transport.pauseProducing = lambda: asked.append("pause")
    pair.outer.transport.resumeProducing = lambda: asked.append("resume")
    pair.there.transport.pauseProducing()
    assert asked == []
    pair.pump()
    assert pair.secured == [True]
    assert asked == ["pause"]
    pair.there.transport.resumeProducing()
    assert asked == ["pause", "resume"]
