"""Commands and connections of the own SSH client: how they end, and what they carry."""

import hashlib
import os
import signal
from contextlib import contextmanager

import pytest
from attrs import evolve
from twisted.internet import defer, task

from tests.support.sshd import available, serving
from tests.support.sshlogin import Answers, Output, client, run, settings
from twisted_dist import ReactorThread
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Ending, How

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def sshds(tmp_path_factory):
    """Hosts whose keys are renewed after each megabyte; the first is a bastion for the others."""
    lines = ["RekeyLimit 1M", "MaxSessions 3"]
    with serving(tmp_path_factory.mktemp("sshds") / "d", 3, lines=lines) as found:
        yield found


@pytest.fixture
def loop():
    """A reactor, which is left without a timer."""
    with ReactorThread() as running:
        yield running
        assert running.call(running.reactor.getDelayedCalls) == []


@contextmanager
def entered(loop, sshds, host, **how):
    """A connection to *host*, closed afterwards."""
    entry = client(loop.reactor)
    connection = loop.call(entry.connect, settings(sshds, host, **how))
    try:
        yield connection
    finally:
        loop.call(connection.close)
        loop.call(entry.close)


def started(loop, connection, command, output=None):
    """A command that runs, and has said so by a line."""
    heard = output or Output()

    async def start():
        spoken = defer.Deferred()

        def out(data):
            heard.out(data)
            if not spoken.called:
                spoken.callback(None)

        running = await connection.start(f"echo ready; {command}", out, heard.err)
        await spoken
        return running

    return loop.call(start)


def soon(condition):
    """Whether something comes true within seconds."""
    for _ in range(500):
        if condition():
            return True
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    return False


def test_much_both_ways(loop, sshds):
    """Much input and output come whole, by many changes of keys, and the end not before them."""
    data = os.urandom(MEGABYTE) * 20
    with entered(loop, sshds, sshds[1]) as connection:

        async def work():
            return await run(connection, "cat", [data[:100], data[100:]])

        ending, output, errors = loop.call(work)
    assert (ending.status, errors) == (0, b"")
    assert hashlib.sha256(output).digest() == hashlib.sha256(data).digest()


def test_end_of_input_comes_last(loop, sshds):
    """Input that waits for a slow reader is read to its end."""
    data = b"x" * (8 * MEGABYTE)
    with entered(loop, sshds, sshds[1]) as connection:

        async def work():
            return await run(connection, "sleep 0.3; wc -c", [data])

        assert int(loop.call(work)[1]) == len(data)


def test_input_that_nobody_reads(loop, sshds):
    """What a command does not read is kept up to a bound, beyond which nothing is taken."""
    with entered(loop, sshds, sshds[1]) as connection:
        running = started(loop, connection, "exec sleep 60")
        piece = b"x" * (40 * MEGABYTE)
        loop.call(running.write, piece)
        with pytest.raises(SSHError, match="does not read its input"):
            loop.call(running.write, piece)


def test_dropped_connection(loop, sshds):
    """A connection that is dropped ends its commands as lost, and says so."""
    with entered(loop, sshds, sshds[2]) as connection:
        running = started(loop, connection, "exec cat")
        lost = loop.call(lambda: [connection.lost()])[0]
        sshds[2].kill_sessions()
        ending = loop.call(running.ended)
        assert ending.how is How.LOST
        assert ending.reason.startswith("h2: the connection was lost")
        assert loop.call(lambda: lost) == ending.reason
        with pytest.raises(SSHError) as caught:
            loop.call(connection.start, "true", bytes, bytes)
        assert (caught.value.kind, caught.value.is_passing) == ("lost", True)


def test_partition(loop, sshds):
    """A host that says nothing any more is noticed, after the silence that was agreed on."""
    how = {"alive_interval_s": 0.3, "alive_count": 2}
    with entered(loop, sshds, sshds[2], **how) as connection:
        running = started(loop, connection, "exec cat")
        for each in sshds[2].sessions():
            each.suspend()
        try:
            begun = loop.reactor.seconds()
            ending = loop.call(running.ended)
            waited = loop.reactor.seconds() - begun
        finally:
            sshds[2].kill_sessions()
    assert (ending.how, "no sign of life for 0.9 s" in ending.reason) == (How.LOST, True)
    assert 0.6 < waited < 5


def test_idle_connection_stays(loop, sshds):
    """A host that answers is left alone, however long nothing is to be said."""
    how = {"alive_interval_s": 0.05, "alive_count": 1}
    with entered(loop, sshds, sshds[1], **how) as connection:
        loop.call(lambda: task.deferLater(loop.reactor, 1.0))

        async def work():
            return await run(connection, "exit 7")

        assert loop.call(work)[0].status == 7


def test_close(loop, sshds):
    """`Connection.close` ends what runs, leaves no socket, and may be called again."""
    entry = client(loop.reactor)
    connection = loop.call(entry.connect, settings(sshds, sshds[2]))
    running = started(loop, connection, "exec cat")
    loop.call(connection.close)
    loop.call(connection.close)
    assert loop.call(running.ended).how is How.LOST
    assert loop.call(connection.lost) == "h2: it was closed"
    assert soon(lambda: not sshds[2].sessions())


def test_close_of_a_host_that_hangs(loop, sshds):
    """A host that does not close its side is not waited for."""
    entry = client(loop.reactor)
    connection = loop.call(entry.connect, settings(sshds, sshds[2]))
    for each in sshds[2].sessions():
        each.suspend()
    try:
        loop.call(connection.close)
    finally:
        sshds[2].kill_sessions()


def test_too_many_sessions(loop, sshds):
    """A server's limit of sessions is named, and the connection goes on."""
    with entered(loop, sshds, sshds[1]) as connection:
        running = [started(loop, connection, "exec cat") for _ in range(3)]
        with pytest.raises(SSHError, match="MaxSessions") as caught:
            loop.call(connection.start, "true", bytes, bytes)
        assert (caught.value.kind, caught.value.is_passing) == ("command", True)
        for each in running:
            loop.call(each.end_input)
            assert loop.call(each.ended).is_success


def test_faulty_sink(loop, sshds):
    """A sink that raises harms no command, its own included."""

    def faulty(data):
        raise ZeroDivisionError

    with entered(loop, sshds, sshds[1]) as connection:

        async def work():
            running = await connection.start("echo x; exit 5", faulty, bytes)
            return await running.ended()

        assert loop.call(work).status == 5


# -- jumps --


def behind(sshds, number, *through):
    """Settings of a host behind others."""
    jumps = tuple(settings(sshds, sshds[each]) for each in through)
    return settings(sshds, sshds[number], jumps=jumps)


@pytest.mark.parametrize("through", [(1,), (1, 2)])
def test_jump(loop, sshds, through):
    """A host behind bastions is entered through them, and they are left with it."""

    async def work():
        entry = client(loop.reactor)
        connection = await entry.connect(behind(sshds, 3, *through))
        name = (await run(connection, "echo $TD_HOST"))[1]
        await connection.close()
        await entry.close()
        return name

    assert loop.call(work) == b"h3\n"
    for each in sshds:
        assert soon(lambda each=each: not each.sessions())


def test_bastion_is_shared(loop, sshds):
    """All hosts behind a bastion share a connection to it, which goes with the last of them."""
    entry = client(loop.reactor)

    async def enter_all():
        ways = [behind(sshds, number, 1) for number in (2, 3, 2, 3)]
        entries = [defer.Deferred.fromCoroutine(entry.connect(each)) for each in ways]
        return await defer.gatherResults(entries)

    connections = loop.call(enter_all)
    log = sshds[1].log.read_text(encoding="utf-8")
    assert len(sshds[1].sessions()) <= 2  # of which one is without privileges
    assert log.count("Accepted publickey") >= 1
    for each in connections[:3]:
        loop.call(each.close)
    running = started(loop, connections[3], "exec cat")
    loop.call(connections[3].close)
    assert loop.call(running.ended).how is How.LOST
    loop.call(entry.close)
    assert soon(lambda: not sshds[1].sessions())


def test_bastion_is_lost(loop, sshds):
    """With a bastion, all behind it are lost, and the next one enters it anew."""
    entry = client(loop.reactor)
    connection = loop.call(entry.connect, behind(sshds, 3, 2))
    running = started(loop, connection, "exec cat")
    sshds[2].kill_sessions()
    assert loop.call(running.ended).how is How.LOST
    again = loop.call(entry.connect, behind(sshds, 3, 2))
    loop.call(again.close)
    loop.call(entry.close)


def test_much_through_a_bastion(loop, sshds):
    """Much comes whole by a connection within another."""
    data = os.urandom(MEGABYTE) * 5
    entry = client(loop.reactor)
    connection = loop.call(entry.connect, behind(sshds, 3, 1))

    async def work():
        return await run(connection, "cat", [data])

    assert loop.call(work)[1] == data
    loop.call(connection.close)


def test_bastion_cannot_be_entered(loop, sshds):
    """What is wrong with a bastion is said of the host behind it, of each."""
    entry = client(loop.reactor)
    bad = settings(sshds, sshds[1], identity_files=())

    async def enter_all():
        ways = [settings(sshds, sshds[each], jumps=(bad,)) for each in (2, 3)]
        entries = [defer.Deferred.fromCoroutine(entry.connect(each)) for each in ways]
        return await defer.DeferredList(entries, consumeErrors=True)

    for (_, failure), name in zip(loop.call(enter_all), ("h2", "h3")):
        assert failure.value.kind == "auth"
        assert str(failure.value).startswith(f"{name}: not reached by way of h1: h1: permission")


def test_nobody_behind_a_bastion(loop, sshds):
    """What a bastion finds behind it is told as if it were found from here."""
    entry = client(loop.reactor)
    way = behind(sshds, 3, 1)
    errors = []
    for others in ({"port": 1}, {"host": "no-such-host.invalid"}):
        with pytest.raises(SSHError) as caught:
            loop.call(entry.connect, evolve(way, **others))
        errors.append(caught.value)
    assert [each.kind for each in errors] == ["refused", "name"]
    assert str(errors[0]).startswith("h3: h1 cannot connect to 127.0.0.13 port 1")
    loop.call(entry.close)


def test_bastion_that_does_not_forward(loop, tmp_path):
    """A bastion that forbids forwarding is told from a host that is not there."""
    with serving(tmp_path / "d", 2, lines_of={1: ["AllowTcpForwarding no"]}) as sshds:
        entry = client(loop.reactor)
        with pytest.raises(SSHError, match="AllowTcpForwarding"):
            loop.call(entry.connect, behind(sshds, 2, 1))
        loop.call(entry.close)


def test_cancelled_behind_a_bastion(loop, sshds):
    """Whoever leaves while a bastion is entered leaves nothing; the others go on."""

    async def work():
        entry = client(loop.reactor)
        first, second = (
            defer.Deferred.fromCoroutine(entry.connect(behind(sshds, each, 1))) for each in (2, 3)
        )
        first.cancel()
        with pytest.raises(defer.CancelledError):
            await first
        connection = await second
        await connection.close()
        last = defer.Deferred.fromCoroutine(entry.connect(behind(sshds, 2, 1)))
        last.cancel()
        with pytest.raises(defer.CancelledError):
            await last
        await entry.close()

    loop.call(work)
    for each in sshds:
        assert soon(lambda each=each: not each.sessions())


def test_asker_is_not_needed(loop, sshds):
    """Keys and known hosts ask nobody."""
    person = Answers()
    entry = client(loop.reactor, person)
    loop.call(loop.call(entry.connect, settings(sshds, sshds[1])).close)
    assert person.prompts == []
