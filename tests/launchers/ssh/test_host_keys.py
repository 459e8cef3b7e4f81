"""`HostKeyCheck`: what is taken of the keys that hosts show."""

import base64
import os
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.launchers.ssh.test_known_hosts import ED25519, RSA, key, line
from tests.support.sshlogin import Answers, Wait
from twisted_dist.launchers.ssh.host_keys import HostKeyCheck
from twisted_dist.launchers.ssh.known_hosts import fingerprint
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings, Strictness


def check(strictness, *files, secrets=None, **how):
    """A check of the host ``web``."""
    settings = HostSettings(
        alias="w", host="web", user="ann", known_hosts=files, strictness=strictness, **how
    )
    secrets = secrets or Secrets(Answers())
    return HostKeyCheck(settings, secrets, Patience(Clock(), 1.0), random_bytes=os.urandom)


def verdict(made, blob=None, kind=ED25519):
    """What came of a key: ``ok``, or the kind of error."""
    found = []
    verifying = Deferred.fromCoroutine(made.verify(blob or key(kind), kind))
    verifying.addCallbacks(lambda _: found.append("ok"), lambda why: found.append(why.value.kind))
    return found[0] if found else None


def file_of(tmp_path, *lines):
    """A known_hosts file."""
    file = tmp_path / "k"
    file.write_text("".join(f"{each}\n" for each in lines))
    return str(file)


NONE, KNOWN = (), (line("web"),)
OTHER_TYPE, CHANGED = (line("web", key(RSA), RSA),), (line("web", key(seed=b"b")),)
REVOKED = (line("web"), line("*", marker="@revoked"))


@pytest.mark.parametrize(
    ("lines", "yes", "ask", "accept_new", "no"),
    [
        (KNOWN, "ok", "ok", "ok", "ok"),
        (NONE, "host-key", "host-key", "ok", "ok"),
        (OTHER_TYPE, "host-key", "host-key", "host-key-changed", "ok"),
        (CHANGED, *["host-key-changed"] * 3, "ok"),
        (REVOKED, *["host-key-changed"] * 4),
    ],
)
def test_strictness(tmp_path, lines, yes, ask, accept_new, no):
    """Each strictness, without a person, takes what it says and no more."""
    for strictness, expected in zip(Strictness, (yes, ask, accept_new, no)):
        file = file_of(tmp_path, *lines)
        assert verdict(check(strictness, file)) == expected


def test_trust(tmp_path):
    """A key that was taken though it has changed is not trusted with passwords."""
    for lines, is_trusted in ((KNOWN, True), (NONE, True), (CHANGED, False), (OTHER_TYPE, False)):
        made = check(Strictness.NO, file_of(tmp_path, *lines))
        assert verdict(made) == "ok"
        assert made.is_trusted is is_trusted


def test_what_is_learnt(tmp_path):
    """New keys are written where they are taken, and nothing else is."""
    for strictness, lines, is_written in (
        (Strictness.ACCEPT_NEW, NONE, True),
        (Strictness.NO, NONE, True),
        (Strictness.YES, NONE, False),
        (Strictness.ASK, NONE, False),
        (Strictness.ACCEPT_NEW, KNOWN, False),
        (Strictness.NO, CHANGED, False),
    ):
        file = file_of(tmp_path, *lines)
        before = Path(file).read_text()
        verdict(check(strictness, file))
        assert (Path(file).read_text() != before) is is_written


def test_file_that_cannot_be_written(tmp_path):
    """A key that cannot be written down is taken all the same, as by ssh."""
    for file in (str(tmp_path), "none", "/proc/no/such"):
        assert verdict(check(Strictness.ACCEPT_NEW, file)) == "ok"
    assert verdict(check(Strictness.ACCEPT_NEW)) == "ok"


def test_question_of_another_type(tmp_path):
    """A person is told where a host is known by a key that it does not show."""
    person = Answers(yes=True)
    made = check(Strictness.ASK, file_of(tmp_path, *OTHER_TYPE), secrets=Secrets(person))
    assert verdict(made) == "ok"
    assert "known by a key of another type, RSA" in person.prompts[0]
    assert "The authenticity of host 'w (web)'" in person.prompts[0]


def test_one_question_for_a_host(tmp_path):
    """A host that is entered twice at once is asked about once."""
    file, person = file_of(tmp_path), Wait()
    secrets = Secrets(person)
    found = []
    for _ in range(2):
        made = check(Strictness.ASK, file, secrets=secrets)
        Deferred.fromCoroutine(made.verify(key(), ED25519)).addCallback(found.append)
    person.answer("yes")
    assert found == [None, None]
    assert Path(file).read_text().count("ssh-ed25519") == 1


def test_fingerprints(tmp_path):
    """Where fingerprints are named, nothing else counts."""
    named = {"fingerprints": {fingerprint(key())}}
    assert verdict(check(Strictness.YES, **named)) == "ok"
    file = file_of(tmp_path, line("web", key(seed=b"b")))
    made = check(Strictness.NO, file, **named)
    assert verdict(made, key(seed=b"b")) == "host-key"


def test_algorithms(tmp_path):
    """Types of keys that are known are offered first."""
    assert check(Strictness.YES).algorithms()[0] == b"ssh-ed25519"
    made = check(Strictness.YES, file_of(tmp_path, *OTHER_TYPE))
    assert made.algorithms()[:3] == [b"rsa-sha2-512", b"rsa-sha2-256", b"ssh-ed25519"]
    authority = file_of(tmp_path, line("web", key(RSA), RSA, "@cert-authority"))
    assert check(Strictness.YES, authority).algorithms()[0] == b"ssh-ed25519"


def test_key_is_shown_in_full():
    """A key that is not known is told with its type and fingerprint."""
    made = check(Strictness.YES)
    found = []
    Deferred.fromCoroutine(made.verify(key(), ED25519)).addErrback(found.append)
    assert f"ED25519 {fingerprint(key())}" in str(found[0].value)
    assert base64.b64encode(key()).decode() not in str(found[0].value)
