"""Hostile connections: what strangers and members may send to a port, and what they hear."""

import contextlib
import socket
import ssl
import struct
from collections import deque
from random import Random

from twisted.protocols import amp

from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import ADMIN
from twisted_dist.wire import commands
from twisted_dist.wire.control import MAX_BOX_BYTES
from twisted_dist.wire.tls import ALERT_RECORD, tls_context

#: connections that each attacker leaves open meanwhile
LEFT_OPEN = 8
#: seconds that one call of a hostile socket may take
SOCKET_S = 10.0
#: seconds to wait for the end of what was answered: some nonsense is the beginning of a
#: message, and its rest is waited for until the hello's deadline
HEARD_S = 1.0


def box(**strings):
    """One AMP box, as bytes."""
    return amp.Box({key.encode(): value for key, value in strings.items()}).serialize()


HELLO = box(_ask=b"1", _command=b"Hello", oldest=b"3", newest=b"3", role=b"x", software=b"0")
assert commands.Hello.commandName == b"Hello"
IDENTITY = box(_ask=b"2", _command=b"Identity")
#: of a TLS 1.3 ClientHello, as far as its cipher suites; what follows is missing
CLIENT_HELLO = bytes.fromhex(
    "1603010200010001fc0303" + "5a" * 32 + "20" + "a5" * 32 + "0008130213031301"
)


def heard(sock, most=2**20):
    """What comes until the other end closes; at most *most* bytes of it."""
    data = b""
    sock.settimeout(HEARD_S)
    with contextlib.suppress(OSError):  # a reset, an alert or nothing more in time
        while len(data) < most and (more := sock.recv(2**16)):
            data += more
    return data


def assert_no_more_than_an_alert(sock):
    """What comes until the other end closes is nothing but TLS's word that something is wrong."""
    assert heard(sock)[:1] in (b"", bytes([ALERT_RECORD]))


def dialled(address):
    """A connected socket."""
    host, port = address.split(":")
    sock = socket.create_connection((host, int(port)), SOCKET_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # 40 ms in each handshake
    return sock


class Attacker:
    """Makes hostile connections, one after the other.

    Args:
        addresses: of the daemons, in turn.
        access: a member's.
        seed: of all that is random.
    """

    def __init__(self, addresses, access, seed):
        self.addresses = addresses
        self.random = Random(seed)
        self.member = tls_context(access.credential(ADMIN), (), answers=False)
        self.stranger = tls_context(Credential.make(ADMIN), (), answers=False)
        self.nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for each in (self.member, self.stranger, self.nobody):
            each.check_hostname = False
            each.verify_mode = ssl.CERT_NONE
        self._open = deque()

    def attack(self, numbers):
        """One connection for each of *numbers*, which says of what kind and where."""
        try:
            for number in numbers:
                turn, kind = divmod(number, len(KINDS))
                sock = dialled(self.addresses[turn % len(self.addresses)])
                self._open.append(sock)
                with contextlib.suppress(OSError):  # they close it while it still talks
                    KINDS[kind](self, sock)
                if len(self._open) > LEFT_OPEN:
                    self._open.popleft().close()
        finally:
            for each in self._open:
                each.close()
            self._open.clear()

    # -- without TLS

    def random_bytes(self, sock):
        """Bytes of no protocol."""
        sock.sendall(self.random.randbytes(self.random.randint(1, 3000)))
        if self.random.random() < 0.5:
            assert_no_more_than_an_alert(sock)

    def truncated_client_hello(self, sock):
        """The beginning of a handshake, and then nothing."""
        sock.sendall(CLIENT_HELLO[: self.random.randint(1, len(CLIENT_HELLO))])

    def oversized_record(self, sock):
        """A TLS record that is longer than any may be."""
        sock.sendall(b"\x16\x03\x01\xff\xff" + self.random.randbytes(2000))
        assert_no_more_than_an_alert(sock)

    def garbled_record(self, sock):
        """A TLS record of a right length with nonsense in it."""
        sock.sendall(b"\x16\x03\x01\x02\x00" + self.random.randbytes(512))
        assert_no_more_than_an_alert(sock)

    def plain_amp(self, sock):
        """Our protocol without TLS."""
        sock.sendall(HELLO)
        assert_no_more_than_an_alert(sock)

    def http(self, sock):
        """A browser."""
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert_no_more_than_an_alert(sock)

    def one_byte(self, sock):
        """One byte, and the connection stays for a while."""
        sock.sendall(self.random.randbytes(1))

    def reset(self, sock):
        """Connected, and reset at once."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    # -- with TLS, as a stranger

    def without_certificate(self, sock):
        """A handshake without a credential, and then our protocol."""
        assert self._say(self.nobody, sock, HELLO) == b""

    def unknown_certificate(self, sock):
        """A handshake with a credential that nobody was given."""
        assert self._say(self.stranger, sock, HELLO) == b""

    def _say(self, context, sock, *parts):
        with context.wrap_socket(sock) as secured:
            for each in parts:
                secured.sendall(each)
            return heard(secured)

    # -- with TLS, as a member

    def member_with_garbage(self, sock):
        """What is not AMP."""
        self._say(self.member, sock, self.random.randbytes(self.random.randint(1, 3000)) + b"\xff")

    def member_with_no_question(self, sock):
        """AMP boxes that are nothing, or answer what was not asked."""
        answer = box(_answer=b"1"), box(_error=b"1"), box(), box(x=b"y")
        self._say(self.member, sock, HELLO, self.random.choice(answer))

    def member_with_bad_arguments(self, sock):
        """A hello that is none."""
        bad = box(_ask=b"1", _command=b"Hello"), HELLO.replace(b"newest\0\1" + b"1", b"newest\0\1x")
        with self.member.wrap_socket(sock) as secured:
            secured.sendall(self.random.choice(bad))
            secured.recv(1000)

    def member_without_hello(self, sock):
        """A question before the hello: refused."""
        with self.member.wrap_socket(sock) as secured:
            secured.sendall(IDENTITY)
            assert b"say hello first" in secured.recv(1000)

    def member_without_end(self, sock):
        """A first box that goes on for ever."""
        pairs = IDENTITY[:-2] + b"".join(
            b"\0\4%04d\0\6string" % each for each in range(self.random.randint(500, 3000))
        )
        assert self._say(self.member, sock, pairs) == b""

    def member_without_end_after_hello(self, sock):
        """A later box that goes on for ever, in large strings; seldom, as it takes a while."""
        pairs = b"".join(b"\0\4%04d\xff\xff" % each + bytes(65535) for each in range(8))
        much = self.random.random() < 0.1
        rest = [pairs] * (MAX_BOX_BYTES // len(pairs) + 2 if much else 1)
        with self.member.wrap_socket(sock) as secured:
            for each in (HELLO, *rest):
                secured.sendall(each)
            if much:
                heard(secured)


KINDS = [
    Attacker.random_bytes,
    Attacker.truncated_client_hello,
    Attacker.oversized_record,
    Attacker.garbled_record,
    Attacker.plain_amp,
    Attacker.http,
    Attacker.one_byte,
    Attacker.reset,
    Attacker.without_certificate,
    Attacker.unknown_certificate,
    Attacker.member_with_garbage,
    Attacker.member_with_no_question,
    Attacker.member_with_bad_arguments,
    Attacker.member_without_hello,
    Attacker.member_without_end,
    Attacker.member_without_end_after_hello,
]
