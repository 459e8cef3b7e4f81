"""Hostile connections to the ports of daemons that are at work: nothing comes of them.

1,000 connections of every kind in `KINDS`; ``TWISTED_DIST_HOSTILE=10000`` in the environment
makes it ten times that.
"""

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psutil
import pytest
from twisted.protocols import amp

from tests.support.daemons import PATIENCE_S
from twisted_dist import Client
from twisted_dist.access.credential import Credential
from twisted_dist.access.find import find_access
from twisted_dist.access.roles import ADMIN
from twisted_dist.wire import commands
from twisted_dist.wire.control import HELLO_DEADLINE_S, MAX_BOX_BYTES
from twisted_dist.wire.tls import ALERT_RECORD, tls_context

pytestmark = pytest.mark.slow

CONNECTIONS = int(os.environ.get("TWISTED_DIST_HOSTILE", "1000"))
#: before memory is measured: what is allocated once is there then
WARM_UP = 100
#: connections that are made at a time, and that each attacker leaves open meanwhile
ATTACKERS = 4
LEFT_OPEN = 8
TASKS = 300
#: of a daemon's memory, by all of them; 50 KiB that stay of each would be four times that
MOST_GROWTH_BYTES = 10 * 2**20
#: seconds that one call of a hostile socket may take
SOCKET_S = 10.0
#: seconds to wait for the end of what was answered: some nonsense is the beginning of a
#: message, and its rest is waited for until the hello's deadline
HEARD_S = 1.0


def square(x):
    """Some work."""
    return x * x


# -- hostile connections


def box(**strings):
    """One AMP box, as bytes."""
    return amp.Box({key.encode(): value for key, value in strings.items()}).serialize()


HELLO = box(_ask=b"1", _command=b"Hello", oldest=b"1", newest=b"1", role=b"x", software=b"0")
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


# -- the network that is attacked


class Network:
    """A scheduler and a worker with its child, as processes."""

    def __init__(self, start):
        self.scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self.scheduler.address("^Start scheduler at")
        self.worker = start("dworker", self.address, "--nthreads", "1", "--host", "127.0.0.1")
        self.addresses = [self.address, self.worker.address("^Start worker at:")]
        self.worker.line("^Registered")
        self.access = find_access(self.address)
        self.daemons = [psutil.Process(each.process.pid) for each in (self.scheduler, self.worker)]

    def attacked(self, numbers, seed):
        """Hostile connections, several at a time; returns when all are closed at this end."""
        with ThreadPoolExecutor(ATTACKERS) as pool:
            running = [
                pool.submit(
                    Attacker(self.addresses, self.access, f"{seed}.{each}").attack,
                    numbers[each::ATTACKERS],
                )
                for each in range(ATTACKERS)
            ]
            for each in running:
                each.result()

    def children(self):
        """Pids of what the nanny has started."""
        return [each.pid for each in self.daemons[1].children(recursive=True)]

    def descriptors(self):
        """How many each daemon has open."""
        return [each.num_fds() for each in self.daemons]

    def rss(self):
        """Bytes of memory of each daemon."""
        return [each.memory_info().rss for each in self.daemons]

    def settles(self, descriptors):
        """Wait until no more descriptors are open than were."""
        deadline = time.monotonic() + PATIENCE_S
        while (now := self.descriptors()) != descriptors:
            assert time.monotonic() < deadline, f"{now} are open, and {descriptors} were"
            time.sleep(0.05)

    def end(self):
        """Ask both to end; they do, and have reported no failure."""
        for each in (self.worker, self.scheduler):
            each.process.terminate()
            assert each.wait() == 0
            for index, line in enumerate(each.output()):
                bad = "Traceback" in line or "Unhandled" in line
                assert not bad, "\n".join(each.lines[index : index + 30])


@pytest.fixture
def network(start):
    """A scheduler and a worker."""
    return Network(start)


class Work(threading.Thread):
    """Has a network work all the time; a context manager."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self._client = client
        self._over = threading.Event()
        self.answers = []

    def run(self):
        """Until it is over."""
        while not self._over.is_set():
            futures = self._client.map(square, range(len(self.answers), len(self.answers) + TASKS))
            self.answers.append(sum(self._client.gather(futures)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *problem):
        self._over.set()
        self.join(PATIENCE_S)

    def assert_right(self):
        """All answers came, and are right."""
        assert not self.is_alive()
        assert self.answers == [
            sum(x * x for x in range(first, first + TASKS)) for first in range(len(self.answers))
        ]


def test_hostile_connections(network):
    """`ControlProtocol` and `TLSProtocol` end hostile connections, and work goes on meanwhile."""
    with Client(network.address) as client:
        assert client.submit(square, 7).result(PATIENCE_S) == 49
        children = network.children()
        assert children
        before = network.descriptors()
        with Work(client) as work:
            network.attacked(range(WARM_UP), "warm-up")
            network.settles(before)
            rss = network.rss()
            done = len(work.answers)
            network.attacked(range(WARM_UP, CONNECTIONS), "attack")
            assert work.is_alive()
            assert len(work.answers) > done
            network.settles(before)
            growth = [now - then for now, then in zip(network.rss(), rss)]
        work.assert_right()
        assert max(growth) < MOST_GROWTH_BYTES, growth
        assert all(each.is_running() for each in network.daemons)
        assert network.children() == children
        assert client.submit(os.getpid).result(PATIENCE_S) in children
    network.end()


def test_silent_connections(network):
    """`ControlProtocol` ends connections that say nothing by the deadline; work goes on."""
    silent = [dialled(network.address) for _ in range(300)]
    began = time.monotonic()
    waiting = select.poll()
    opened = {each.fileno(): each for each in silent}
    for each in opened:
        waiting.register(each, select.POLLIN)
    with Client(network.address) as client:
        assert client.submit(square, 7).result(PATIENCE_S) == 49
        assert time.monotonic() - began < HELLO_DEADLINE_S
        while opened and time.monotonic() - began < 2 * HELLO_DEADLINE_S:
            for descriptor, _ in waiting.poll(1000):
                waiting.unregister(descriptor)
                assert heard(opened.pop(descriptor)) == b""
            assert client.submit(square, 8).result(PATIENCE_S) == 64
    assert not opened
    for each in silent:
        each.close()
    network.end()


@pytest.mark.parametrize("kind", ["nobody", "stranger"])
def test_strangers_hear_nothing(network, kind):
    """`TLSProtocol` gives no byte of our protocol to whoever has no credential of the network."""
    for address in network.addresses:
        context = getattr(Attacker([], network.access, 0), kind)
        with dialled(address) as sock:
            try:
                with context.wrap_socket(sock) as secured:
                    secured.sendall(HELLO)
                    received = secured.recv(1000)
            except TimeoutError:
                raise
            except OSError:  # TLS's alert, or a reset that was faster
                received = b""
            assert received == b""
    network.end()
