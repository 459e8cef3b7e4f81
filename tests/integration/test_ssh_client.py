"""The own SSH client against OpenSSH's server."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
from twisted.internet import defer, task

from tests.support.sshd import available, serving
from tests.support.sshkeys import Agent, fingerprint, make_key, public
from tests.support.sshlogin import Answers, Output, client, run, settings
from twisted_dist import ReactorThread
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.launchers.ssh.settings import Strictness

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
]


@pytest.fixture(scope="module")
def sshds(tmp_path_factory):
    """Two hosts with keys of all types; the first forwards."""
    with serving(
        tmp_path_factory.mktemp("sshds") / "d", 3, host_keys=("ed25519", "ecdsa", "rsa")
    ) as found:
        yield found


@pytest.fixture
def loop():
    """A reactor, which is left without a timer."""
    with ReactorThread() as running:
        yield running
        assert running.call(running.reactor.getDelayedCalls) == []


def entering(loop, sshds, host, work, asker=None, **how):
    """Enter *host* and return what *work* makes of the connection, which is closed then."""

    async def enter():
        entry = client(loop.reactor, asker)
        connection = await entry.connect(settings(sshds, host, **how))
        try:
            return await work(connection)
        finally:
            await connection.close()
            await entry.close()

    return loop.call(enter)


def refused(loop, sshds, host, asker=None, **how):
    """The error that entering *host* ends with."""
    with pytest.raises(SSHError) as caught:
        entering(loop, sshds, host, lambda _: None, asker, **how)
    return caught.value


def test_command(loop, sshds):
    """A command's output, errors and status come, each by its own way."""

    async def work(connection):
        return await run(connection, "cat; echo oops >&2; exit 3", [b"hello ", b"there"])

    ending, output, errors = entering(loop, sshds, sshds[1], work)
    assert (ending, output, errors) == (Ending(How.EXITED, status=3), b"hello there", b"oops\n")


async def greet(connection):
    """What a host calls itself."""
    return (await run(connection, "echo $TD_HOST"))[1].decode().strip()


# -- keys --


@pytest.mark.parametrize("form", ["", "PEM", "PKCS8"])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_key_file(loop, sshds, tmp_path, kind, form):
    """Keys of each type and form log in, RSA by SHA-2."""
    key = make_key(tmp_path / "key", kind, form=form)
    sshds.let_in(key)
    assert entering(loop, sshds, sshds[1], greet, identity_files=(str(key),)) == "h1"


@pytest.mark.parametrize("form", ["", "PEM", "PKCS8"])
def test_encrypted_key(loop, sshds, tmp_path, form):
    """A passphrase is asked for, again where it was wrong, and the prompt names the file."""
    key = make_key(tmp_path / "key", "ecdsa", passphrase="s3cret", form=form)
    sshds.let_in(key)
    person = Answers("wrong", "s3cret")
    name = entering(loop, sshds, sshds[1], greet, person, identity_files=(str(key),))
    assert name == "h1"
    assert person.prompts[0] == f"Enter passphrase for key '{key}': "
    assert len(person.prompts) == 2


def test_encrypted_key_without_public_half(loop, sshds, tmp_path):
    """An old form's public key is only known with the passphrase."""
    key = make_key(tmp_path / "key", "rsa", passphrase="s3cret", form="PEM")
    sshds.let_in(key)
    Path(f"{key}.pub").unlink()
    person = Answers("s3cret")
    assert entering(loop, sshds, sshds[1], greet, person, identity_files=(str(key),)) == "h1"


def test_passphrase_is_not_asked_for_in_vain(loop, sshds, tmp_path):
    """A key that the server does not take is not opened."""
    stranger = make_key(tmp_path / "stranger", passphrase="s3cret")
    person = Answers("s3cret")
    files = (str(stranger), str(sshds.key))
    assert entering(loop, sshds, sshds[1], greet, person, identity_files=files) == "h1"
    assert person.prompts == []


def test_passphrase_once_for_all_hosts(loop, sshds, tmp_path):
    """Hosts entered at once share one question."""
    key = make_key(tmp_path / "key", passphrase="s3cret")
    sshds.let_in(key)
    person = Answers("s3cret")

    async def enter_all():
        entry = client(loop.reactor, person)
        how = {"identity_files": (str(key),)}
        connections = await defer.gatherResults(
            [defer.Deferred.fromCoroutine(entry.connect(settings(sshds, h, **how))) for h in sshds]
        )
        names = [await greet(each) for each in connections]
        await defer.gatherResults([each.close() for each in connections])
        return names

    assert loop.call(enter_all) == ["h1", "h2", "h3"]
    assert len(person.prompts) == 1


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_agent(loop, sshds, tmp_path, kind):
    """The agent signs with keys of each type."""
    key = make_key(tmp_path / "key", kind)
    sshds.let_in(key)
    with Agent(tmp_path / "agent", key) as agent:
        name = entering(loop, sshds, sshds[1], greet, identity_files=(), agent=str(agent.path))
    assert name == "h1"


def test_key_of_agent_needs_no_passphrase(loop, sshds, tmp_path):
    """A file whose key the agent has is not opened."""
    clear = make_key(tmp_path / "clear")
    sshds.let_in(clear)
    person = Answers()
    with Agent(tmp_path / "agent", clear) as agent:
        encrypted = tmp_path / "encrypted"
        encrypted.write_bytes(clear.read_bytes())
        encrypted.chmod(0o600)
        os.system(f"ssh-keygen -q -p -N s3cret -f {encrypted}")
        how = {"identity_files": (str(encrypted),), "identities_only": True}
        name = entering(loop, sshds, sshds[1], greet, person, agent=str(agent.path), **how)
    assert (name, person.prompts) == ("h1", [])


def test_identities_only(loop, sshds, tmp_path):
    """Keys of the agent that are in no identity file are not tried then."""
    key = make_key(tmp_path / "key")
    stranger = make_key(tmp_path / "stranger")
    sshds.let_in(key)
    with Agent(tmp_path / "agent", key) as agent:
        how = {"identity_files": (str(stranger),), "agent": str(agent.path)}
        assert entering(loop, sshds, sshds[1], greet, **how) == "h1"
        error = refused(loop, sshds, sshds[1], identities_only=True, **how)
    assert error.kind == "auth"
    assert str(stranger) in str(error)


def test_agent_that_is_gone(loop, sshds, tmp_path):
    """An agent that does not answer is no obstacle for keys in files, and is told otherwise."""
    path = str(tmp_path / "gone")
    assert entering(loop, sshds, sshds[1], greet, agent=path) == "h1"
    error = refused(loop, sshds, sshds[1], agent=path, identity_files=())
    assert f"no agent answers at {path}" in str(error)


def test_too_many_keys(loop, sshds, tmp_path):
    """Where sshd gives up, what was tried is named, and what to do."""
    keys = [make_key(tmp_path / f"key{number}") for number in range(7)]
    with Agent(tmp_path / "agent", *keys) as agent:
        error = refused(loop, sshds, sshds[1], agent=str(agent.path), identity_files=())
    assert error.kind == "auth"
    assert "MaxAuthTries" in str(error)
    assert "key0 (agent)" in str(error)


def test_denied(loop, sshds, tmp_path):
    """A wrong key is named, with what the server takes."""
    stranger = make_key(tmp_path / "stranger")
    error = refused(loop, sshds, sshds[1], identity_files=(str(stranger),))
    assert (error.kind, error.is_passing) == ("auth", False)
    assert f"its sshd takes publickey; tried {stranger}" in str(error)


def test_unreadable_keys(loop, sshds, tmp_path):
    """Keys that others may read are not used, and a key that was demanded has to be there."""
    open_to_all = make_key(tmp_path / "open")
    open_to_all.chmod(0o644)
    error = refused(loop, sshds, sshds[1], identity_files=(str(open_to_all),))
    assert "others may read it" in str(error)
    missing = (str(tmp_path / "missing"), str(sshds.key))
    assert entering(loop, sshds, sshds[1], greet, identity_files=missing) == "h1"
    error = refused(loop, sshds, sshds[1], identity_files=missing, identities_demanded=True)
    assert error.kind == "settings"


def test_two_keys(loop, tmp_path):
    """Servers that want two keys get them, one after the other."""
    lines = ["AuthenticationMethods publickey,publickey"]
    with serving(tmp_path / "d", 1, lines=lines) as sshds:
        second = make_key(tmp_path / "second")
        files = (str(sshds.key), str(second))
        error = refused(loop, sshds, sshds[1], identity_files=files)
        sshds.let_in(second)
        assert entering(loop, sshds, sshds[1], greet, identity_files=files) == "h1"
    assert error.kind == "auth"


# -- host keys --


def known(tmp_path, *lines):
    """A known_hosts file."""
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"{each}\n" for each in lines), encoding="ascii")
    return (str(file),)


def host_key(host, kind):
    """The public key of a host, of one type."""
    return public(host.directory / f"host_key_{kind}")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_known_type_is_asked_for(loop, sshds, tmp_path, kind):
    """Whichever type of a host's keys is known is the one that it shows."""
    host = sshds[1]
    files = known(tmp_path, f"{host.known_name} {host_key(host, kind)}")
    assert entering(loop, sshds, host, greet, known_hosts=files) == "h1"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("strictness", [Strictness.YES, Strictness.ASK, Strictness.ACCEPT_NEW])
def test_changed_key(loop, sshds, tmp_path, kind, strictness):
    """A changed key is refused, whatever is taken of new ones, with the line and the cure."""
    host, person = sshds[1], Answers(yes=True)
    files = known(tmp_path, "", f"{host.known_name} {host_key(sshds[2], kind)}")
    error = refused(loop, sshds, host, person, known_hosts=files, strictness=strictness)
    assert error.kind == "host-key-changed"
    assert f"{files[0]}:2" in str(error)
    assert f"ssh-keygen -f '{files[0]}' -R '{host.known_name}'" in str(error)
    assert person.prompts == []


def test_changed_key_taken(loop, sshds, tmp_path):
    """`Strictness.NO` takes a changed key, as the user's configuration says of this host."""
    host = sshds[1]
    files = known(tmp_path, f"{host.known_name} {host_key(sshds[2], 'ed25519')}")
    how = {"known_hosts": files, "strictness": Strictness.NO}
    assert entering(loop, sshds, host, greet, **how) == "h1"


def test_port_counts(loop, sshds, tmp_path):
    """A line for a host without a port is not for another port of it."""
    host = sshds[1]
    files = known(tmp_path, f"{host.address} {host_key(host, 'ed25519')}")
    error = refused(loop, sshds, host, known_hosts=files)
    assert error.kind == "host-key"
    assert fingerprint(host.directory / "host_key_ed25519") in str(error)


def test_hashed_and_aliased(loop, sshds, tmp_path):
    """Hashed names and `HostKeyAlias` are looked up; nothing is written to what is known."""
    host = sshds[1]
    files = known(tmp_path, f"{host.known_name} {host_key(host, 'ed25519')}")
    os.system(f"ssh-keygen -q -H -f {files[0]}")
    before = Path(files[0]).read_bytes()
    assert before.startswith(b"|1|")
    how = {"known_hosts": files, "strictness": Strictness.ACCEPT_NEW}
    assert entering(loop, sshds, host, greet, **how) == "h1"
    assert Path(files[0]).read_bytes() == before
    alias = known(tmp_path, f"web {host_key(host, 'ecdsa')}")
    assert entering(loop, sshds, host, greet, known_hosts=alias, key_alias="web") == "h1"


def test_revoked(loop, sshds, tmp_path):
    """A revoked key is refused though it is known, and an authority's is nobody's key."""
    host = sshds[1]
    key = host_key(host, "ed25519")
    files = known(tmp_path, f"@revoked * {key}", f"{host.known_name} {key}")
    error = refused(loop, sshds, host, known_hosts=files, strictness=Strictness.NO)
    assert "revoked" in str(error)
    files = known(tmp_path, f"@cert-authority {host.known_name} {key}")
    assert refused(loop, sshds, host, known_hosts=files).kind == "host-key"


def test_new_keys_are_written(loop, sshds, tmp_path):
    """Keys of hosts that are entered at once are all written, in a form that ssh knows."""
    file = tmp_path / "new" / "known_hosts"

    async def enter_all():
        entry = client(loop.reactor)
        how = {"known_hosts": (str(file),), "strictness": Strictness.ACCEPT_NEW}
        connections = await defer.gatherResults(
            [
                defer.Deferred.fromCoroutine(entry.connect(settings(sshds, each, **how)))
                for each in [*sshds, *sshds]
            ]
        )
        await defer.gatherResults([each.close() for each in connections])

    loop.call(enter_all)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for each in sshds:
        assert os.system(f"ssh-keygen -F '{each.known_name}' -f {file} >/dev/null") == 0
        files = (str(file),)
        assert entering(loop, sshds, each, greet, known_hosts=files) == each.name


def test_person_takes_a_key(loop, sshds, tmp_path):
    """A person is shown the fingerprint; what they take is known from then on."""
    host, person = sshds[1], Answers(yes=True)
    files = (str(tmp_path / "known_hosts"),)
    how = {"known_hosts": files, "strictness": Strictness.ASK}
    assert refused(loop, sshds, host, **how).kind == "host-key"
    assert entering(loop, sshds, host, greet, person, **how) == "h1"
    assert "ED25519 key fingerprint is" in person.prompts[0]
    assert fingerprint(host.directory / "host_key_ed25519") in person.prompts[0]
    assert entering(loop, sshds, host, greet, **how) == "h1"


def test_person_takes_their_time(loop, sshds, tmp_path):
    """While a person thinks, the limit of time stands still, and no packet is read wrongly."""
    how = {"known_hosts": (str(tmp_path / "k"),), "strictness": Strictness.ASK}

    class Slow(Answers):
        async def confirm(self, question):
            await task.deferLater(loop.reactor, 1.5)
            return True

    name = entering(loop, sshds, sshds[1], greet, Slow(), connect_timeout_s=1.0, **how)
    assert name == "h1"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_fingerprint(loop, sshds, kind):
    """Any one fingerprint of a host will do, whatever is in files; another one will not."""
    host = sshds[1]
    right = fingerprint(host.directory / f"host_key_{kind}")
    how = {"known_hosts": (), "strictness": Strictness.ASK}
    assert entering(loop, sshds, host, greet, fingerprints={right}, **how) == "h1"
    error = refused(loop, sshds, sshds[2], fingerprints={right}, **how)
    assert error.kind == "host-key"
