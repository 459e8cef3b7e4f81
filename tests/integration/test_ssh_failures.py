"""What a user is told of hosts that cannot be entered, and that nothing is left of the attempt."""

import socket

import pytest
from attrs import evolve
from twisted.internet import defer, task
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.support.sshd import available, free_port, serving
from tests.support.sshlogin import Wait, client, run, settings
from twisted_dist import ReactorThread
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.settings import HostSettings, Strictness

pytestmark = pytest.mark.slow
NEEDS_SSHD = pytest.mark.skipif(not available(), reason="needs OpenSSH's server")


@pytest.fixture
def loop():
    """A reactor, which is left without a timer and without a socket of ours."""
    with ReactorThread() as running:
        readers = set(running.call(running.reactor.getReaders))
        yield running
        assert running.call(running.reactor.getDelayedCalls) == []
        assert set(running.call(running.reactor.getReaders)) <= readers


def somewhere(**others):
    """A host that is not known of."""
    return HostSettings(**{"alias": "web", "host": "127.0.0.1", "user": "ann", **others})


def refused(loop, settings):
    """The error that entering a host ends with."""
    entry = client(loop.reactor)
    with pytest.raises(SSHError) as caught:
        loop.call(entry.connect, settings)
    assert "\n" not in str(caught.value)
    return caught.value


class Says(Protocol):
    """A server that says something, and perhaps hangs up."""

    def connectionMade(self):
        self.factory.connections.append(self)
        self.transport.write(self.factory.words)
        if self.factory.hangs_up:
            self.transport.loseConnection()

    def dataReceived(self, data):
        self.transport.write(self.factory.answer)

    def connectionLost(self, reason=None):
        self.factory.connections.remove(self)


def saying(loop, words, *, answer=b"", hangs_up=True, **how):
    """What is told of a port that says *words*."""
    factory = Factory.forProtocol(Says)
    factory.words, factory.answer, factory.hangs_up = words, answer, hangs_up
    factory.connections = []
    port = loop.call(TCP4ServerEndpoint(loop.reactor, 0, interface="127.0.0.1").listen, factory)
    try:
        return refused(loop, somewhere(port=port.getHost().port, **how))
    finally:
        loop.call(lambda: task.deferLater(loop.reactor, 0.05))
        assert factory.connections == []
        loop.call(port.stopListening)


@pytest.mark.parametrize(
    ("words", "kind", "is_passing", "part"),
    [
        (b"", "refused", True, "MaxStartups"),
        (b"Exceeded MaxStartups\r\n", "refused", True, "MaxStartups"),
        (b"Not allowed at this time\r\n", "refused", True, "PerSourcePenalties"),
        (b"220 mail.example ESMTP\r\n", "protocol", False, "220 mail.example ESMTP"),
        (b"SSH-1.5-old\r\n", "protocol", False, "1.5"),
        (b"SSH-2.0-x\r\n", "lost", True, "while keys were exchanged"),
        (b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff", "protocol", False, "packet length"),
        (b"SSH-2.0-x\r\n\0\0\0\x0c\x04\x14abcdefghijklmno", "protocol", False, "breaks the"),
        (b"\x1b[31mevil\x07\r\n" * 2000, "protocol", False, "[31mevil"),
    ],
)
def test_other_than_ssh(loop, words, kind, is_passing, part):
    """What a port says that is no sshd's, or of an sshd that does not want to."""
    error = saying(loop, words)
    assert (error.kind, error.is_passing) == (kind, is_passing)
    assert str(error).startswith("web: ")
    assert part in str(error)
    assert "\x1b" not in str(error)


def test_web_server(loop):
    """A web server is told as such, from its answer."""
    error = saying(loop, b"", answer=b"HTTP/1.1 400 Bad Request\r\n\r\n", hangs_up=False)
    assert error.kind == "protocol"
    assert "a web server answers" in str(error)


@pytest.mark.parametrize(
    ("words", "part"), [(b"", "said nothing"), (b"SSH-2.0-x\r\n", "while keys were exchanged")]
)
def test_silence(loop, words, part):
    """A port that is silent is left in time, and how far it was is told."""
    error = saying(loop, words, hangs_up=False, connect_timeout_s=0.3)
    assert (error.kind, error.is_passing) == ("unreachable", True)
    assert "not entered within 0.3 s" in str(error)
    assert part in str(error)


def test_nobody_listens(loop):
    """A refused port is told as such."""
    port = free_port("127.0.0.1")
    error = refused(loop, somewhere(port=port))
    assert (error.kind, error.is_passing) == ("refused", True)
    assert f"nobody listens at 127.0.0.1 port {port}" in str(error)


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", "bad host", "ä" * 70])
def test_name(loop, name):
    """A name that does not resolve, or cannot, is told as such."""
    error = refused(loop, somewhere(host=name))
    assert (error.kind, error.is_passing) == ("name", False)


def test_no_route(loop):
    """An address that nothing leads to is told as such."""
    error = refused(loop, somewhere(host="255.255.255.255"))
    assert (error.kind, error.is_passing) == ("unreachable", True)


def test_backlog_is_full(loop):
    """A port whose machine does not answer is given up in time."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(address)
        error = refused(loop, somewhere(port=address[1], connect_timeout_s=0.3))
        for each in fillers:
            each.close()
    assert error.kind == "unreachable"
    assert "nothing answers" in str(error)


def test_proxy_command(loop):
    """A ProxyCommand is not run, and who runs it is named; in a bastion's settings too."""
    proxied = somewhere(proxy_command="nc %h %p")
    for each in (proxied, somewhere(jumps=(proxied,))):
        error = refused(loop, each)
        assert (error.kind, "--ssh-command ssh" in str(error)) == ("settings", True)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com", ["aes256-gcm@", "aes256-ctr"]),
        ("MACs hmac-sha2-256-etm@openssh.com", ["hmac-sha2-256-etm@", "hmac-sha2-512"]),
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", ["sntrup761", "curve25519-sha256"]),
        ("HostKeyAlgorithms ssh-rsa", ["ssh-rsa", "rsa-sha2-512"]),
    ],
)
@NEEDS_SSHD
def test_nothing_in_common(loop, tmp_path, line, names):
    """A server with which nothing is in common is told by what both have, and what will do."""
    with serving(tmp_path / "d", 1, lines=[line], host_keys=("rsa",)) as sshds:
        error = refused(loop, settings(sshds, sshds[1]))
    assert error.kind == "protocol"
    assert all(each in str(error) for each in [*names, "--ssh-command ssh"])


@NEEDS_SSHD
def test_startups(loop, tmp_path):
    """A real sshd with too many logins at a time says so."""
    with serving(tmp_path / "d", 1, lines=["MaxStartups 1:100:1"]) as sshds:
        with socket.create_connection((sshds[1].address, sshds[1].port)) as first:
            assert first.recv(100)
            error = refused(loop, settings(sshds, sshds[1]))
    assert (error.kind, error.is_passing) == ("refused", True)
    assert "MaxStartups" in str(error)


@NEEDS_SSHD
def test_grace_time(loop, tmp_path):
    """A server that does not wait for a person's answer is told from one that says no."""
    with serving(tmp_path / "d", 1, lines=["LoginGraceTime 1"]) as sshds:
        person = Wait()
        how = {"known_hosts": (str(tmp_path / "k"),), "strictness": Strictness.ASK}
        entry = client(loop.reactor, person)
        with pytest.raises(SSHError) as caught:
            loop.call(entry.connect, settings(sshds, sshds[1], **how))
    assert (caught.value.kind, caught.value.is_passing) == ("lost", True)


@NEEDS_SSHD
def test_cancelled(loop, tmp_path):
    """An attempt that is cancelled, however far it is, leaves no socket."""
    with serving(tmp_path / "d", 1) as sshds:
        way = settings(sshds, sshds[1])

        async def give_up(seconds, asker=None):
            entering = defer.Deferred.fromCoroutine(client(loop.reactor, asker).connect(way))
            loop.reactor.callLater(seconds, entering.cancel)
            try:
                connection = await entering
            except defer.CancelledError:
                return False
            await connection.close()
            return True

        for milliseconds in range(0, 100, 4):
            loop.call(give_up, milliseconds / 1000)
        person = Wait()
        way = evolve(way, known_hosts=(), strictness=Strictness.ASK)
        assert not loop.call(give_up, 0.5, person)


@NEEDS_SSHD
def test_six(loop, tmp_path):
    """A host may have an address of IPv6."""
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    try:
        port = free_port_of_six()
    except OSError:
        pytest.skip("needs IPv6")
    lines = [f"ListenAddress [::1]:{port}"]
    with serving(tmp_path / "d", 1, lines=lines) as sshds:
        file = tmp_path / "known"
        text = sshds.known_hosts.read_text(encoding="ascii")
        file.write_text(text.replace(sshds[1].known_name, f"[::1]:{port}"), encoding="ascii")
        way = settings(sshds, sshds[1], host="::1", port=port, known_hosts=(str(file),))

        async def work():
            connection = await client(loop.reactor).connect(way)
            ending = (await run(connection, "exit 4"))[0]
            await connection.close()
            return ending.status

        assert loop.call(work) == 4


def free_port_of_six():
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return probe.getsockname()[1]
