"""What `SSHClient` promises, of both clients, against OpenSSH's server."""

import contextlib
import os
import tempfile

import psutil
import pytest
from attrs import evolve
from twisted.internet import defer, task
from twisted.internet.defer import Deferred

from tests.support.daemons import PATIENCE_S, is_gone
from tests.support.misdeeds import until
from tests.support.sshd import available, serving
from twisted_dist import ReactorThread
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.conch_client import ConchClient
from twisted_dist.launchers.ssh.config import Resolver
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.launchers.ssh.openssh import OpenSSHClient
from twisted_dist.launchers.ssh.secrets import Secrets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
]

#: sshd's own limit
MOST_SESSIONS = 10
MIB = 2**20


class Nobody:
    """There is no terminal."""

    async def secret(self, prompt):
        return None

    async def confirm(self, question):
        return False


def by_conch(reactor):
    """The client of our own."""
    return ConchClient(reactor, Secrets(Nobody()))


def by_openssh(reactor):
    """The system's ssh."""
    return OpenSSHClient(reactor, None, environ=os.environ)


class Heard:
    """What a command wrote."""

    def __init__(self):
        self.output = self.errors = b""
        self.begun = Deferred()

    def out(self, data):
        self.output += data
        if not self.begun.called:
            self.begun.callback(None)

    def err(self, data):
        self.errors += data


class World:
    """A client, hosts, and a reactor to run coroutines in."""

    def __init__(self, loop, sshds, make):
        self.loop = loop
        self.sshds = sshds
        self.client = loop.call(make, loop.reactor)
        self.resolver = Resolver(loop.reactor, environ=os.environ, config_file=str(sshds.config))
        self._connections = []

    def run(self, function, *arguments):
        """The result of a coroutine function."""
        limited = lambda: Deferred.fromCoroutine(function(*arguments)).addTimeout(  # noqa: E731
            PATIENCE_S, self.loop.reactor
        )
        return self.loop.call(limited)

    async def enter(self, number=1):
        """A connection to a host."""
        settings = await self.resolver.resolve(f"h{number}")
        connection = await self.client.connect(settings)
        self._connections.append(connection)
        return connection

    async def close(self):
        """Close everything."""
        for each in self._connections:
            await each.close()
        await self.client.close()

    async def ask(self, connection, command, text=b""):
        """How a command ended, what it wrote, and its errors."""
        heard = Heard()
        running = await connection.start(command, heard.out, heard.err)
        if text:
            running.write(text)
        running.end_input()
        return await running.ended(), heard.output, heard.errors


def left_behind():
    """What a client may leave: processes, descriptors, and directories."""
    children = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            # the tests' own servers stay
            if not each.name().startswith("sshd") and not is_gone(each):
                children.append(each.pid)
    places = os.listdir(tempfile.gettempdir())
    return sorted(children), len(os.listdir("/proc/self/fd")), places


@pytest.fixture(scope="module")
def sshds(tmp_path_factory):
    """Two hosts."""
    with serving(tmp_path_factory.mktemp("contract") / "d", 2) as found:
        yield found


@pytest.fixture
def place():
    """A directory for temporary files, which nobody else uses; its path is short, for sockets."""
    with tempfile.TemporaryDirectory(prefix="td-") as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", path)
        yield


@pytest.fixture(params=[by_conch, by_openssh], ids=["conch", "openssh"])
def world(request, sshds, place):
    """A client, which leaves nothing."""
    with ReactorThread() as loop:
        before = left_behind()
        world = World(loop, sshds, request.param)
        yield world
        world.run(world.close)
        until(lambda: left_behind() == before)
        assert loop.call(loop.reactor.getDelayedCalls) == []
    for each in sshds:
        until(lambda host=each: host.running() == [])


def test_output_and_errors(world):
    """`start` runs a command by the user's shell; output and errors come by their own ways."""

    async def work():
        connection = await world.enter()
        return await world.ask(connection, "cat; echo $TD_HOST; echo oops >&2", b"hello\n")

    ending, output, errors = world.run(work)
    assert ending.is_success
    assert (output, errors) == (b"hello\nh1\n", b"oops\n")


def test_host(world):
    """`connect` enters the host that the settings say."""

    async def work():
        return await world.ask(await world.enter(2), "echo $TD_HOST")

    assert world.run(work)[1] == b"h2\n"


@pytest.mark.parametrize("status", [0, 1, 127, 254, 255])
def test_status(world, status):
    """`ended` has the exit status, also the one that ``ssh`` has for its own failures."""

    async def work():
        return (await world.ask(await world.enter(), f"exit {status}"))[0]

    assert world.run(work) == Ending(How.EXITED, status=status)


def test_signalled(world):
    """A command that a signal ends is told from one that exits and from one that is lost."""

    async def work():
        return (await world.ask(await world.enter(), "kill -KILL $$"))[0]

    ending = world.run(work)
    assert ending.how is How.SIGNALLED
    assert ending.signal in {"KILL", ""}
    assert str(ending).startswith("was ended by ")


def test_much(world):
    """5 MiB go there and back whole, and the end of input is the end of the command."""
    text = os.urandom(5 * MIB)

    async def work():
        return await world.ask(await world.enter(), "cat", text)

    ending, output, errors = world.run(work)
    assert ending.is_success
    assert output == text
    assert errors == b""


def test_much_in_errors(world):
    """Errors may be as much as output."""

    async def work():
        command = f"head -c {MIB} /dev/zero >&2; head -c {MIB} /dev/zero"
        return await world.ask(await world.enter(), command)

    ending, output, errors = world.run(work)
    assert ending.is_success
    assert (len(output), len(errors)) == (MIB, MIB)


def test_many_commands(world):
    """Commands share a connection, and end each for itself."""

    async def work():
        connection = await world.enter()
        return await defer.gatherResults(
            Deferred.fromCoroutine(world.ask(connection, f"cat; exit {n}", b"x" * n))
            for n in range(8)
        )

    for number, (ending, output, _) in enumerate(world.run(work)):
        assert ending == Ending(How.EXITED, status=number)
        assert output == b"x" * number


def test_words_with_blanks(world):
    """A command reaches the shell as it is, whatever is in it."""

    async def work():
        command = """printf '%s|' "a  b" '$HOME' "it's" '-n' \\\\ 'é\n'"""
        return await world.ask(await world.enter(), command)

    assert world.run(work)[1].decode() == "a  b|$HOME|it's|-n|\\|é\n|"


def test_too_many_sessions(world):
    """`start` says so when the server opens no more sessions; the others go on."""

    async def work():
        connection = await world.enter()
        heard = Heard()
        running = [
            await connection.start("cat", heard.out, heard.err) for _ in range(MOST_SESSIONS)
        ]
        with pytest.raises(SSHError) as caught:
            await connection.start("echo no", heard.out, heard.err)
        for each in running:
            each.write(b"x")
            each.end_input()
        endings = await defer.gatherResults([each.ended() for each in running])
        return caught.value, endings, heard.output

    error, endings, output = world.run(work)
    assert error.kind == "command"
    assert error.is_passing
    assert "MaxSessions" in str(error)
    assert all(each.is_success for each in endings)
    assert output == b"x" * MOST_SESSIONS


def test_lost(world):
    """A connection that is cut off ends its commands as lost, and `lost` fires."""

    async def work():
        connection = await world.enter()
        heard = Heard()
        running = await connection.start("echo on; cat", heard.out, heard.err)
        await heard.begun
        world.sshds[1].kill_sessions()
        ending = await running.ended()
        reason = await connection.lost()
        with pytest.raises(SSHError) as caught:
            await connection.start("true", heard.out, heard.err)
        # what is late changes nothing
        running.write(b"x")
        running.signal("TERM")
        running.end_input()
        return ending, reason, caught.value

    ending, reason, error = world.run(work)
    assert ending.how is How.LOST
    assert ending.reason
    assert reason
    assert error.kind == "lost"


def test_silence(world):
    """A host that answers nothing any more is lost in the time that the settings give it."""

    async def work():
        settings = await world.resolver.resolve("h1")
        settings = evolve(settings, alive_interval_s=1, alive_count=2)
        connection = await world.client.connect(settings)
        heard = Heard()
        running = await connection.start("echo on; cat", heard.out, heard.err)
        await heard.begun
        stopped = world.sshds[1].sessions()
        began = world.loop.reactor.seconds()
        for each in stopped:
            each.suspend()
        try:
            return await running.ended(), world.loop.reactor.seconds() - began
        finally:
            for each in stopped:
                each.resume()
            await connection.close()

    ending, seconds = world.run(work)
    assert ending.how is How.LOST
    assert 1 < seconds < PATIENCE_S / 2


def test_close(world):
    """`close` ends the connection with what runs in it, and may be called again."""

    async def work():
        connection = await world.enter()
        heard = Heard()
        running = await connection.start("echo on; cat; echo off", heard.out, heard.err)
        await heard.begun
        await connection.close()
        await connection.close()
        await connection.lost()
        return await running.ended()

    assert world.run(work).how is How.LOST


def test_signal(world):
    """`signal` asks, and may be ignored, as sshd does for root; with the end of input it ends."""

    async def work():
        connection = await world.enter()
        heard = Heard()
        running = await connection.start("echo on; exec cat", heard.out, heard.err)
        await heard.begun
        for name in ("TERM", "KILL"):
            running.signal(name)
        running.end_input()
        return await running.ended()

    assert world.run(work)


def test_host_that_is_down(world):
    """Where nobody listens, `connect` says so, and that it may pass."""

    async def work():
        world.sshds[2].kill()
        try:
            with pytest.raises(SSHError) as caught:
                await world.enter(2)
        finally:
            await defer.maybeDeferred(world.sshds.start, 2)
        return caught.value

    error = world.run(work)
    assert error.kind == "refused"
    assert error.is_passing
    assert str(error).startswith("h2: ")


def test_cancelled(world):
    """`connect` that is cancelled leaves nothing, whenever that is."""

    async def work():
        for delay in (0, 0.01, 0.03, 0.1):
            entering = Deferred.fromCoroutine(world.enter())
            await task.deferLater(world.loop.reactor, delay)
            entering.cancel()
            await entering.addErrback(lambda failure: failure.trap(defer.CancelledError))

    world.run(work)
