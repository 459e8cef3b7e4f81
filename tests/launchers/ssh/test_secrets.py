"""`Secrets`: one question at a time, and none twice."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.sshkeys import make_key
from tests.support.sshlogin import Answers, Wait
from twisted_dist.launchers.ssh.keys import read_identity
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import PROMPTS, Secrets


@pytest.fixture
def identity(tmp_path):
    """A key whose passphrase is ``s3cret``."""
    return read_identity(str(make_key(tmp_path / "key", passphrase="s3cret")))


def opening(secrets, identity, found):
    """Somebody who wants the key."""
    patience = Patience(Clock(), 1.0)
    return Deferred.fromCoroutine(secrets.open_key(identity, patience)).addBoth(found.append)


def test_asked_once(identity):
    """`Secrets.open_key` asks once for all who want a key."""
    person, found = Wait(), []
    secrets = Secrets(person)
    for _ in range(3):
        opening(secrets, identity, found)
    assert found == []
    person.answer("s3cret")
    assert [each.public() for each in found] == [identity.public] * 3


def test_asked_in_vain(identity):
    """Nobody is asked again for a passphrase that they did not know."""
    for answers, count in ((("a", "b", "c", "d"), PROMPTS), ((), 1), (("", "s3cret"), 1)):
        person, found = Answers(*answers), []
        secrets = Secrets(person)
        opening(secrets, identity, found)
        opening(secrets, identity, found)
        assert found == [None, None]
        assert len(person.prompts) == count


def test_whoever_asks_may_leave(identity):
    """Where the one whose turn it is leaves, the next one asks."""
    person, found = Wait(), []
    secrets = Secrets(person)
    first = opening(secrets, identity, found)
    opening(secrets, identity, found)
    person.asked = Deferred()
    first.cancel()
    assert person.asked.called
    assert len(found) == 1


def test_turns():
    """`Secrets.turn` is one's own; time does not pass while it is somebody else's."""
    secrets = Secrets(Answers())
    clock = Clock()
    patience, log, held = Patience(clock, 5.0), [], Deferred()

    async def work(name, until):
        async with secrets.turn(patience):
            log.append(name)
            if until is not None:
                await until

    Deferred.fromCoroutine(work("first", held))
    second = patience.limit(Deferred.fromCoroutine(work("second", None)))
    clock.advance(100.0)
    assert log == ["first"]
    held.callback(None)
    assert log == ["first", "second"]
    assert second.called
    assert clock.getDelayedCalls() == []
