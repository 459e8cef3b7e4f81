"""`ClientTransport`, `Authentication` and `ExecChannel` against a server in memory."""

import struct

import pytest
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.userauth import MSG_USERAUTH_INFO_REQUEST, MSG_USERAUTH_PK_OK
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from tests.support.sshkeys import make_key
from tests.support.sshlogin import Answers, Output, Wait
from tests.support.sshserver import HOST_KEY, SUCCESS, Line, ServerTransport, refusal
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.launchers.ssh.settings import Strictness


def questions(*prompts):
    """What keyboard-interactive asks; each prompt with whether its answer may be seen."""
    body = NS(b"") * 3 + struct.pack(">L", len(prompts))
    body += b"".join(NS(text) + bytes([is_shown]) for text, is_shown in prompts)
    return MSG_USERAUTH_INFO_REQUEST, body


def answers(packet):
    """What was answered."""
    (count,) = struct.unpack(">L", packet[:4])
    found, rest = [], packet[4:]
    for _ in range(count):
        size = int.from_bytes(rest[:4], "big")
        found.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    return found


def started(line, command="true"):
    """A command, what it has written, and the server's side of it."""
    heard = Output()
    result = []
    starting = Deferred.fromCoroutine(line.entered().start(command, heard.out, heard.err))
    starting.addBoth(result.append)
    line.flush()
    return result[0], heard, line.sessions.opened[-1] if line.sessions.opened else None


def ending(running):
    """How it ended, or an empty list."""
    found = []
    running.ended().addCallback(found.append)
    return found


# -- the exchange of keys --


def test_entered():
    """`ClientTransport.ready` fires once commands can be run; what is weak is not offered."""
    line = Line()
    assert line.outcome == [None]
    offered = line.server.otherKexInitPayload
    for weak in (b"-cbc", b"3des", b"hmac-sha1", b"md5", b"ssh-rsa", b"ssh-dss", b"-sha1", b"zlib"):
        assert weak not in offered


def test_quiet():
    """What conch tells of each packet is not for the user's log."""
    told = []
    globalLogPublisher.addObserver(told.append)
    try:
        line = Line()
        started(line)
        line.entered().close()
        line.flush()
    finally:
        globalLogPublisher.removeObserver(told.append)
    # the server in memory is conch's own
    ours = [each for each in told if each["log_source"] in (line.client, line.client.multiplexer)]
    assert ours == []
    assert told != []


def test_keys_are_renewed_while_commands_run():
    """A new exchange of keys asks nobody, logs nobody in, and loses nothing."""
    line = Line()
    running, heard, session = started(line)
    for side in (line.client, line.server, line.client):
        side.sendKexInit()
        session.write(b"x")
        running.write(b"y")
        line.flush()
    assert (heard.output, session.received) == (b"xxx", b"yyy")
    assert line.login.methods == [b"none"]


def test_another_key_when_keys_are_renewed():
    """A server that shows another key in mid-course is no server to talk to."""
    line = Line()
    other = Key._fromEd25519Components(HOST_KEY.blob()[-32:], b"k" * 32)
    other = Key(other._keyObject)
    line.server.factory.publicKeys = {b"ssh-ed25519": other.public()}
    line.server.factory.privateKeys = {b"ssh-ed25519": other}
    line.server.sendKexInit()
    line.flush()
    assert line.client.error.kind == "protocol"
    assert "changed its host key in mid-course" in str(line.client.error)


class LyingKey:
    """A host key whose signatures say that they are of another kind."""

    def sign(self, data, **_):
        right = HOST_KEY.sign(data)
        return NS(b"ssh-rsa") + right[4 + len(b"ssh-ed25519") :]


class LyingServer(ServerTransport):
    """Signs by another algorithm than was agreed on."""

    def __init__(self, login, connection):
        super().__init__(login, connection)
        self.factory.privateKeys = {b"ssh-ed25519": LyingKey()}


def test_signature_of_another_kind():
    """A server may not sign by another algorithm than was agreed on, such as one with SHA-1."""
    line = Line(server=LyingServer)
    assert line.error().kind == "protocol"
    assert "not of the type that it agreed on" in str(line.error())


class WronglySigning(ServerTransport):
    """Has the public key of another host, and not its private one."""

    def __init__(self, login, connection):
        super().__init__(login, connection)
        other = Key._fromEd25519Components(HOST_KEY.blob()[-32:], b"k" * 32)
        self.factory.privateKeys = {b"ssh-ed25519": Key(other._keyObject)}


def test_wrong_signature():
    """Whoever shows a key has to have it."""
    error = Line(server=WronglySigning).error()
    assert (error.kind, "bad signature" in str(error)) == ("protocol", True)


def test_question_about_the_key():
    """While a person is asked about the key, packets wait; then all goes on."""
    person = Wait()
    line = Line(person=person, fingerprints=(), strictness=Strictness.ASK)
    assert person.asked.called
    assert line.outcome == []
    person.answer("yes")
    line.flush()
    assert line.outcome == [None]


def test_lost_during_the_question():
    """A connection that ends while a person thinks needs no answer."""
    person = Wait()
    line = Line(person=person, fingerprints=(), strictness=Strictness.ASK)
    line.server.transport.loseConnection()
    line.flush()
    assert line.error().kind == "lost"
    assert line.clock.getDelayedCalls() == []


def test_nonsense_while_the_key_is_judged():
    """A server that floods while a person thinks is left."""
    line = Line(person=Wait(), fingerprints=(), strictness=Strictness.ASK)
    line.client.dataReceived(b"x" * 100_000)
    assert line.error().kind == "protocol"


# -- the login --


def test_interactive_password():
    """keyboard-interactive works as a password does, with a last round that has no question."""
    rounds = [questions((b"Password: ", False)), questions()]
    given = []

    def answer(method, details):
        if method == b"none":
            return refusal(b"publickey", b"keyboard-interactive")
        if method == b"answer":
            given.append(answers(details))
        return rounds.pop(0) if rounds else SUCCESS

    person = Answers("s3cret")
    line = Line(answer, person)
    assert line.outcome == [None]
    assert given == [[b"s3cret"], []]
    assert person.prompts == ["(ann@web) Password: "]
    assert line.secrets.worked("ann") == "s3cret"


def test_interactive_codes():
    """Other questions are asked as they are, and their answers are not kept."""

    def answer(method, details):
        if method == b"none":
            return refusal(b"keyboard-interactive")
        if method == b"keyboard-interactive":
            return questions((b"Code:\x1b[2J ", True), (b"Again:", False))
        return SUCCESS if answers(details) == [b"123", b"456"] else refusal()

    person = Answers("123", "456")
    line = Line(answer, person)
    assert line.outcome == [None]
    assert person.prompts == ["(ann@web) Code: [2J ", "(ann@web) Again: "]
    assert line.secrets.worked("ann") is None


def test_interactive_without_questions():
    """A server that offers keyboard-interactive and asks nothing is not asked again for ever."""

    def answer(method, details):
        return SUCCESS if method == b"password" else refusal(b"keyboard-interactive", b"password")

    line = Line(answer, Answers("s3cret"))
    assert line.login.methods == [b"none", b"keyboard-interactive", b"password"]
    assert line.outcome == [None]


def test_endless_questions():
    """A server that asks for ever is left."""
    line = Line(
        lambda method, _: refusal(b"keyboard-interactive") if method == b"none" else questions()
    )
    assert line.error().kind == "protocol"


def test_password_has_expired():
    """A password that has to be changed is the user's own matter."""

    def answer(method, details):
        if method == b"none":
            return refusal(b"password")
        return MSG_USERAUTH_PK_OK, NS(b"too old") + NS(b"")

    error = Line(answer, Answers("s3cret")).error()
    assert (error.kind, "has expired" in str(error)) == ("auth", True)


def test_no_password_where_the_key_has_changed(tmp_path):
    """`Strictness.NO` takes a changed key, and then sends no password, as ssh does not."""
    file = tmp_path / "known_hosts"
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIHVuZGVmaW5lZHVuZGVmaW5lZHVuZGVmaW5lZHVuZGU="
    file.write_text(f"web ssh-ed25519 {other}\n")
    person = Answers("s3cret")
    how = {"fingerprints": (), "known_hosts": (str(file),), "strictness": Strictness.NO}
    line = Line(lambda *_: refusal(b"password"), person, **how)
    assert "no password since its host key has changed" in str(line.error())
    assert person.prompts == []


def test_sha1_only(tmp_path):
    """A server that takes RSA keys by SHA-1 only is told as such, and gets no such signature."""
    key = make_key(tmp_path / "key", "rsa")

    class Old(ServerTransport):
        def ssh_NEWKEYS(self, packet):
            super().ssh_NEWKEYS(packet)
            self.sendExtInfo([(b"server-sig-algs", b"ssh-rsa,ssh-ed25519")])

    line = Line(lambda *_: refusal(b"publickey"), server=Old, identity_files=(str(key),))
    assert "takes RSA keys by SHA-1 only" in str(line.error())
    assert line.login.methods == [b"none"]


def test_server_says_why():
    """What a server says as it ends a connection reaches the user, fit for a terminal."""
    line = Line(lambda *_: None)
    line.server.sendDisconnect(2, b"Too many authentication failures\x1b[1m for ann")
    line.flush()
    assert line.error().kind == "auth"
    assert "MaxAuthTries" in str(line.error())
    line = Line(lambda *_: None)
    line.server.sendDisconnect(2, b"go\x07away")
    line.flush()
    assert str(line.error()).endswith("ended the connection during the login: go away")


# -- commands --


def test_ends():
    """The three ways in which a command ends are told apart."""
    line = Line()
    endings = []
    for send in (
        lambda s: line.sessions.sendRequest(s, b"exit-status", struct.pack(">L", 3)),
        lambda s: line.sessions.sendRequest(
            s, b"exit-signal", NS(b"KILL") + b"\0" + NS(b"") + NS(b"")
        ),
        lambda s: None,
    ):
        running, heard, session = started(line)
        found = ending(running)
        send(session)
        session.write(b"late")
        session.loseConnection()
        line.flush()
        assert heard.output == b"late"
        endings += found + ending(running)
    assert (
        endings[:4]
        == [Ending(How.EXITED, status=3)] * 2 + [Ending(How.SIGNALLED, signal="KILL")] * 2
    )
    assert endings[4].how is How.LOST
    assert "closed the session without a word" in endings[4].reason


def test_lost():
    """A connection that is lost ends its commands as lost, and what is being started fails."""
    line = Line()
    running, _, _ = started(line)
    found = ending(running)
    connection = line.entered()
    failures = []
    starting = Deferred.fromCoroutine(connection.start("true", bytes, bytes))
    starting.addErrback(failures.append)
    line.server.transport.loseConnection()
    line.client.transport.loseConnection()
    line.flush()
    assert found[0].how is How.LOST
    assert found[0].reason == line.client.reason
    assert failures[0].value.kind == "lost"
    running.write(b"into the void")
    running.signal("TERM")
    running.end_input()


def test_refused_command():
    """A server that runs no commands is told as such."""
    line = Line()
    line.sessions.takes_commands = False
    failure, _, session = started(line)
    assert failure.value.kind == "command"
    assert session.remoteClosed


def test_no_start():
    """A server that never starts a command is not waited for, and the session is closed."""
    line = Line()
    line.sessions.channel_session = lambda *_: None
    failure, _, _ = started(line)
    assert (failure.value.kind, failure.value.is_passing) == ("command", True)
    del line.sessions.channel_session
    line.sessions.ssh_CHANNEL_OPEN = lambda packet: None
    result = []
    starting = Deferred.fromCoroutine(line.entered().start("true", bytes, bytes))
    starting.addErrback(result.append)
    line.flush()
    line.clock.advance(30.0)
    assert "has not started a command for 30 s" in str(result[0].value)


def test_input_waits_for_room():
    """Input is sent as the window allows, and its end comes after it."""
    line = Line()
    line.sessions.window = 100
    line.sessions.adjustWindow = lambda *_: None
    running, _, session = started(line)
    running.write(b"a" * 60)
    running.write(b"b" * 60)
    running.write(b"")
    running.end_input()
    running.end_input()
    running.write(b"after the end")
    line.flush()
    assert session.received == b"a" * 60 + b"b" * 40
    assert not session.has_ended
    del line.sessions.adjustWindow
    line.sessions.adjustWindow(session, 100)
    line.flush()
    assert session.received == b"a" * 60 + b"b" * 60
    assert session.has_ended


def test_bound_of_input():
    """What is not read is kept up to a bound; what is beyond it is not taken, not even in part."""
    line = Line()
    line.sessions.window = 10
    running, _, session = started(line)
    running.write(b"x" * (60 << 20))
    with pytest.raises(SSHError, match="does not read its input"):
        running.write(b"y" * (10 << 20))
    assert b"y" not in session.received


# -- signs of life --


def test_alive():
    """A server is asked after silence, and given up after as many answers that did not come."""
    line = Line(alive_interval_s=10.0, alive_count=2)
    connection = line.entered()
    lost = []
    connection.lost().addCallback(lost.append)
    line.clock.advance(10.0)  # the login was heard
    for _ in range(5):
        line.clock.advance(10.0)
        line.flush()
    assert set(line.sessions.asked) == {b"keepalive@openssh.com"}
    assert lost == []
    for _ in range(4):
        line.clock.advance(10.0)  # nothing is delivered any more
    line.client.transport.reportDisconnect()
    assert lost == ["web: no sign of life for 30 s: the link is cut, or the host is down"]
    assert line.clock.getDelayedCalls() == []


def test_close_that_is_not_answered():
    """`ConchConnection.close` waits for the server, though not for long."""
    line = Line(alive_interval_s=0)
    closing = line.entered().close()
    assert not closing.called
    line.clock.advance(2.0)
    line.client.transport.reportDisconnect()
    assert closing.called
    assert line.clock.getDelayedCalls() == []
