"""The system's ssh as a client: what only it can do, and how it fails."""

import getpass
import os
import signal
import socket
import subprocess
import sys
import threading

import psutil
import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred

from tests.support.daemons import PATIENCE_S, is_gone
from tests.support.misdeeds import until
from tests.support.sshd import available, serving
from tests.support.sshkeys import Agent, fingerprint, make_key, public
from twisted_dist import ReactorThread
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.config import Resolver
from twisted_dist.launchers.ssh.interface import How
from twisted_dist.launchers.ssh.openssh import OpenSSHClient
from twisted_dist.launchers.ssh.settings import Strictness

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
]


class Person:
    """Answers from a list, and remembers what was asked."""

    def __init__(self, *answers):
        self.asked = []
        self._answers = list(answers)

    async def secret(self, prompt):
        self.asked.append(prompt)
        return self._answers.pop(0) if self._answers else None

    async def confirm(self, question):
        self.asked.append(question)
        return bool(self._answers and self._answers.pop(0))


class Way:
    """Enters hosts as a configuration says."""

    def __init__(self, loop, sshds):
        self._loop = loop
        self._sshds = sshds
        #: whether the configuration has the key that is let in
        self.has_key = True

    def enter(self, name="h1", command="echo $TD_HOST", person=None, more=(), **how):
        """What *command* writes on a host, which is entered and left."""
        return self.enter_all([name], command, person, more, **how)[0]

    def enter_all(self, names, command="echo $TD_HOST", person=None, more=(), **how):
        """The same on some hosts at once."""
        config = self._sshds.directory / "config_now"
        config.write_text(self._sshds.config_text(*more, has_key=self.has_key), encoding="utf-8")

        async def one(client, resolver, name):
            settings = await resolver.resolve(name, **how)
            connection = await client.connect(settings)
            heard = []
            running = await connection.start(command, heard.append, heard.append)
            running.end_input()
            await running.ended()
            await connection.close()
            return b"".join(heard).decode().strip()

        async def work():
            reactor = self._loop.reactor
            client = OpenSSHClient(reactor, person, environ=os.environ)
            resolver = Resolver(reactor, environ=os.environ, config_file=str(config))
            waiting = [Deferred.fromCoroutine(one(client, resolver, name)) for name in names]
            try:
                return await defer.gatherResults(waiting, consumeErrors=True)
            except defer.FirstError as error:
                raise error.subFailure.value from None
            finally:
                await client.close()

        return self._loop.call(
            lambda: Deferred.fromCoroutine(work()).addTimeout(PATIENCE_S, self._loop.reactor)
        )

    def refused(self, name="h1", **how):
        """The error that entering ends with."""
        with pytest.raises(SSHError) as caught:
            self.enter(name, **how)
        assert str(caught.value).startswith(f"{name}: ")
        assert "\n" not in str(caught.value)
        return caught.value


@pytest.fixture(scope="module")
def sshds(tmp_path_factory):
    """Three hosts, the third of which has only what conch lacks."""
    hard = ("Ciphers aes256-gcm@openssh.com", "MACs hmac-sha2-256-etm@openssh.com")
    with serving(tmp_path_factory.mktemp("openssh") / "d", 3, lines_of={3: hard}) as found:
        yield found


@pytest.fixture
def way(sshds):
    """How to enter them."""
    with ReactorThread() as loop:
        yield Way(loop, sshds)
        until(lambda: not loop.call(loop.reactor.getDelayedCalls))


def test_hardened(way):
    """An sshd with only AES-GCM is entered."""
    assert way.enter("h3") == "h3"


def test_nothing_in_common(way):
    """Where both have no cipher in common, both lists are told."""
    error = way.refused("h3", more=["Ciphers aes128-ctr"])
    assert error.kind == "protocol"
    assert "no matching cipher found. Their offer: aes256-gcm@openssh.com" in str(error)


def test_jump(way):
    """ProxyJump is ssh's own, with hosts as they are configured."""
    more = ["Host far", " HostName 127.0.0.12", " ProxyJump h1"]
    more += [f" Port {way._sshds[2].port}"]
    assert way.enter("far", more=more) == "h2"
    way._sshds[1].log.write_text("", encoding="ascii")
    assert way.enter("far", "echo $SSH_CONNECTION", more=more).startswith("127.0.0.1 ")


def test_proxy_command(way):
    """ProxyCommand is run."""
    program = f"ssh -F {way._sshds.config} -W %h:%p h2"
    assert way.enter(more=["Match originalhost h1", f" ProxyCommand {program}"]) == "h1"


def test_unknown_host_key(way, tmp_path):
    """An unknown host key is refused, taken, or asked about, as one wants."""
    known = tmp_path / "known"
    more = [f"UserKnownHostsFile {known}"]
    error = way.refused(more=more)
    assert error.kind == "host-key"
    assert "--accept-new" in str(error)
    nay, yea = Person(False), Person(True)
    assert way.refused(more=more, person=nay).kind == "host-key"
    assert "authenticity of host" in nay.asked[0]
    assert not known.exists()
    assert way.enter(more=more, person=yea) == "h1"
    assert len(yea.asked) == 1
    known.unlink()
    assert way.enter(more=more, strictness=Strictness.ACCEPT_NEW) == "h1"
    assert known.read_text(encoding="ascii").startswith("[127.0.0.11]:")
    assert way.enter(more=more, strictness=Strictness.YES) == "h1"


def test_changed_host_key(way, tmp_path):
    """A changed host key is refused, whatever is wanted of unknown ones."""
    known = tmp_path / "known"
    other = way._sshds[2].known_lines().replace(way._sshds[2].known_name, way._sshds[1].known_name)
    known.write_text(other, encoding="ascii")
    for strictness in (Strictness.YES, Strictness.ACCEPT_NEW):
        error = way.refused(more=[f"UserKnownHostsFile {known}"], strictness=strictness)
        assert error.kind == "host-key-changed"
        assert "ITS HOST KEY HAS CHANGED. Somebody" in str(error)
        assert f"(in {known}:" in str(error)
        assert "ssh-keygen -R" in str(error)


def test_fingerprints(way):
    """Fingerprints that were named count instead of known_hosts."""
    more = ["UserKnownHostsFile none"]
    right = [fingerprint(each) for each in way._sshds[1].host_keys()]
    wrong = [fingerprint(each) for each in way._sshds[2].host_keys()]
    assert way.enter(more=more, fingerprints=right) == "h1"
    for one in right:
        assert way.enter(more=more, fingerprints=[one]) == "h1"
    error = way.refused(fingerprints=wrong)
    assert error.kind == "host-key"
    assert "none of the fingerprints" in str(error)


def test_wrong_key(way, tmp_path):
    """A key that is not let in."""
    way.has_key = False
    error = way.refused(key=str(make_key(tmp_path / "other")))
    assert error.kind == "auth"
    assert "Permission denied (publickey)" in str(error)
    assert not error.is_passing


def test_passphrase(way, tmp_path):
    """The passphrase of a key is asked for once, for all hosts; a wrong one again."""
    way.has_key = False
    key = make_key(tmp_path / "locked", passphrase="open sesame")
    way._sshds.let_in(key)
    person = Person("wrong", "open sesame")
    assert way.enter_all(["h1", "h2", "h3"], person=person, key=str(key)) == ["h1", "h2", "h3"]
    assert len(person.asked) == 2
    assert str(key) in person.asked[0]
    assert way.refused(person=Person(), key=str(key)).kind == "auth"


def test_passphrase_on_the_way(way, tmp_path):
    """A passphrase that was right for the host on the way is not asked for again behind it."""
    key = make_key(tmp_path / "locked", passphrase="open sesame")
    way._sshds.let_in(key)
    way.has_key = False
    person = Person("wrong", "open sesame")
    more = ["Match originalhost h2", " ProxyJump h1", "Match all", f"IdentityFile {key}"]
    assert way.enter("h2", person=person, more=more) == "h2"
    assert len(person.asked) == 2


def test_agent(way, tmp_path):
    """The agent that the configuration names is used."""
    way.has_key = False
    key = make_key(tmp_path / "id", "ecdsa")
    way._sshds.let_in(key)
    with Agent(tmp_path / "agent", key) as agent:
        more = [f"IdentityAgent {agent.path}", "IdentitiesOnly no"]
        assert way.enter(more=more) == "h1"


def _certify(authority, name, key, *how):
    """Have a key of a host's or user's signed: its certificate is beside it."""
    words = ["ssh-keygen", "-q", "-s", authority, "-I", name, "-n", name, *how, f"{key}.pub"]
    subprocess.run(list(map(str, words)), check=True, timeout=60)


def test_certificates(tmp_path):
    """A user is let in by a certificate, and a host known by one; without it, neither."""
    authority, key = make_key(tmp_path / "authority"), make_key(tmp_path / "id")
    lines = [f"TrustedUserCAKeys {authority}.pub"]
    with serving(tmp_path / "d", 1, lines_of={1: lines}) as sshds, ReactorThread() as loop:
        way, host = Way(loop, sshds), sshds[1]
        for each in host.host_keys():
            _certify(authority, host.address, each, "-h")
            lines.append(f"HostCertificate {each}-cert.pub")
        host.kill()
        sshds.start(1)
        way.has_key = False
        known = tmp_path / "known"
        known.write_text(f"@cert-authority * {public(authority)}\n", encoding="ascii")
        more = [f"UserKnownHostsFile {known}"]
        assert way.refused(key=str(key), more=more).kind == "auth"
        _certify(authority, getpass.getuser(), key)
        assert way.enter(key=str(key), more=more) == "h1"
        known.write_text("", encoding="ascii")
        assert way.refused(key=str(key), more=more).kind == "host-key"


@pytest.mark.skipif(os.geteuid() != 0, reason="accounts of hosts need root")
def test_password(tmp_path):
    """A password is asked for once a user, and tried on all hosts; a wrong one is asked again."""
    accounts = {"ann": "s3cret", "bob": "other"}
    with serving(tmp_path / "d", 3, passwords=accounts) as sshds, ReactorThread() as loop:
        way = Way(loop, sshds)
        more = ["PubkeyAuthentication no"]
        person = Person("wrong", "s3cret")
        names = ["h1", "h2", "h3"]
        assert way.enter_all(names, "id -un", person, more, user="ann") == ["ann"] * 3
        assert len(person.asked) == 2
        assert "ann@127.0.0.1" in person.asked[0]
        stubborn = Person("no", "no", "no")
        assert way.refused(person=stubborn, more=more, user="bob").kind == "auth"
        assert way.refused(more=more, user="bob").kind == "auth"


def test_names(way):
    """A name that does not resolve, and one that is none."""
    assert way.refused("nowhere.invalid").kind == "name"
    with pytest.raises(SSHError, match="hostname contains invalid characters"):
        way.enter("a;b")


def test_silent_server(way):
    """A port that accepts and says nothing is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        more = ["Host silent", " HostName 127.0.0.1", f" Port {silent.getsockname()[1]}"]
        more += [" ConnectTimeout 1"]
        error = way.refused("silent", more=more)
    assert error.kind == "unreachable"
    assert error.is_passing


def test_dropped(way):
    """An sshd that drops connections at once may do so for two reasons."""

    def speak(server):
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"Not allowed at this time\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak, args=(server,))
        thread.start()
        more = ["Host odd", " HostName 127.0.0.1", f" Port {server.getsockname()[1]}"]
        error = way.refused("odd", more=more)
        thread.join()
    assert error.kind == "refused"
    assert error.is_passing
    assert "PerSourcePenalties" in str(error)


def test_no_program(way):
    """Where there is no ssh, that is said."""
    config = way._sshds.config

    async def work():
        reactor = way._loop.reactor
        client = OpenSSHClient(reactor, None, environ=os.environ, words=("no-such-ssh",))
        settings = await Resolver(reactor, environ=os.environ, config_file=str(config)).resolve(
            "h1"
        )
        await client.connect(settings)

    with pytest.raises(SSHError, match="install the OpenSSH client"):
        way._loop.call(work)


def test_close_after_loss(way):
    """Closing waits for commands that learn late that their connection is lost."""

    def sessions():
        below = psutil.Process().children(recursive=True)
        return [each for each in below if "ControlMaster=no" in each.cmdline()]

    async def enter():
        reactor = way._loop.reactor
        client = OpenSSHClient(reactor, None, environ=os.environ)
        resolver = Resolver(reactor, environ=os.environ, config_file=str(way._sshds.config))
        connection = await client.connect(await resolver.resolve("h1"))
        return client, connection, await connection.start("cat", print, print)

    async def leave(client, connection, command):
        told = []
        command.ended().addCallback(told.append)
        await connection.lost().addTimeout(PATIENCE_S, way._loop.reactor)
        before = list(told)
        await client.close().addTimeout(PATIENCE_S, way._loop.reactor)
        return before, told

    held = way._loop.call(lambda: Deferred.fromCoroutine(enter()))
    (session,) = sessions()
    session.suspend()
    way._sshds[1].kill_sessions()
    before, told = way._loop.call(lambda: Deferred.fromCoroutine(leave(*held)))
    assert before == []
    assert [each.how for each in told] == [How.LOST]
    assert is_gone(session)


#: enters a host, starts something, and tells the processes of both sides
DYING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from twisted.internet import reactor
from twisted_dist.launchers.ssh.config import Resolver
from twisted_dist.launchers.ssh.openssh import OpenSSHClient

async def main():
    client = OpenSSHClient(reactor, None, environ=os.environ)
    settings = await Resolver(reactor, environ=os.environ, config_file=sys.argv[1]).resolve("h1")
    connection = await client.connect(settings)
    await connection.start("echo on; cat", lambda data: print("on", flush=True), print)

from twisted.internet.defer import Deferred
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_killed(sshds, tmp_path, kind):
    """Killed with -9, or by a Ctrl-C, it leaves no ssh, no directory, and nothing on the host."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, str(sshds.config)],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    assert process.stdout.readline() == b"on\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert sum(each.name() == "ssh" for each in family) == 2
    assert len(list(temporary.iterdir())) == 1
    assert len(sshds[1].running()) >= 1
    # as a terminal does it: to the whole group
    os.killpg(process.pid, kind)
    process.wait(PATIENCE_S)
    process.stdout.close()
    until(lambda: all(map(is_gone, family)))
    until(lambda: not list(temporary.iterdir()))
    until(lambda: not sshds[1].running())
