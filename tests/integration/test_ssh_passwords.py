"""Passwords and signals of the own SSH client: accounts of their own, so for root only."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from twisted.internet import defer

from tests.support.sshd import available, serving
from tests.support.sshlogin import Answers, Output, client, run, settings
from twisted_dist import ReactorThread
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Ending, How

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd checks passwords for root only"),
]
USER, PASSWORD = "td-ann", "correct horse"


@pytest.fixture(scope="module")
def sshds():
    """Hosts with an account; the last wants a key and the password."""
    # not below pytest's directory: the account reads there which keys are let in
    base = Path(tempfile.mkdtemp(prefix="td-ssh-"))
    base.chmod(0o711)
    both = {3: ["AuthenticationMethods publickey,password"]}
    with serving(base / "d", 3, passwords={USER: PASSWORD}, lines_of=both) as found:
        found.directory.chmod(0o711)
        yield found
    shutil.rmtree(base)


@pytest.fixture
def loop():
    """A reactor, which is left without a timer."""
    with ReactorThread() as running:
        yield running
        assert running.call(running.reactor.getDelayedCalls) == []


def enter(loop, sshds, person, *numbers, keys=False):
    """Who one is on some hosts that are entered at once."""

    async def work():
        entry = client(loop.reactor, person)
        how = {"user": USER} if keys else {"user": USER, "identity_files": ()}
        connections = await defer.gatherResults(
            [
                defer.Deferred.fromCoroutine(entry.connect(settings(sshds, sshds[each], **how)))
                for each in numbers
            ],
            consumeErrors=True,
        )
        names = [(await run(each, "id -un"))[1].decode().strip() for each in connections]
        await defer.gatherResults([each.close() for each in connections])
        return names

    return loop.call(work)


def test_password(loop, sshds):
    """A password is asked for as ssh asks, up to three times."""
    person = Answers("wrong", "wrong too", PASSWORD)
    assert enter(loop, sshds, person, 1) == [USER]
    assert person.prompts == [f"{USER}@h1's password: "] * 3


def test_password_of_one_host_is_tried_at_the_next(loop, sshds):
    """Hosts with the same password ask once, also where they are entered at once."""
    person = Answers(PASSWORD)
    assert enter(loop, sshds, person, 1, 2, 1, 2) == [USER] * 4
    assert len(person.prompts) == 1


def test_wrong_passwords(loop, sshds):
    """Passwords that are all wrong are an error that has their number."""
    with pytest.raises(defer.FirstError) as caught:
        enter(loop, sshds, Answers("a", "b", "c", PASSWORD), 1)
    error = caught.value.subFailure.value
    assert error.kind == "auth"
    assert "tried no key, 3 passwords" in str(error)


def test_nobody_answers(loop, sshds):
    """Without a terminal, what is wanted is said, and nothing is waited for."""
    with pytest.raises(defer.FirstError) as caught:
        enter(loop, sshds, Answers(), 1)
    error = caught.value.subFailure.value
    assert (error.kind, error.is_passing) == ("auth", False)
    assert "nobody answers" in str(error)


def test_key_and_password(loop, sshds):
    """A server that wants both gets both."""
    person = Answers(PASSWORD)
    assert enter(loop, sshds, person, 3, keys=True) == [USER]
    assert person.prompts == [f"{USER}@h3's password: "]


def test_signals(loop, sshds):
    """A signal that ends a command is named, and is no exit."""
    entry = client(loop.reactor, Answers(PASSWORD))
    how = {"user": USER, "identity_files": ()}
    connection = loop.call(entry.connect, settings(sshds, sshds[1], **how))

    async def work():
        heard, ready = Output(), defer.Deferred()
        running = await connection.start("echo x; exec sleep 60", ready.callback, heard.err)
        await ready
        running.signal("TERM")
        ending = await running.ended()
        running.signal("KILL")
        return ending

    assert loop.call(work) == Ending(How.SIGNALLED, signal="TERM")
    loop.call(connection.close)


def test_user_that_is_not_there(loop, sshds):
    """A user that is not there is denied as others are."""
    how = {"user": "td-nobody-here", "identity_files": ()}
    with pytest.raises(SSHError, match="permission denied to td-nobody-here"):
        loop.call(
            client(loop.reactor, Answers("x", "y", "z")).connect,
            settings(sshds, sshds[1], **how),
        )
