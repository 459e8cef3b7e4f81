"""known_hosts files: what they say of hosts, and how they are written."""

import base64
import fnmatch
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.launchers.ssh.known_hosts import (
    Entry,
    Marker,
    Verdict,
    fingerprint,
    hashed,
    is_match,
    judge,
    known_types,
    look_up,
    read_line,
)
from twisted_dist.launchers.ssh.learning import learn

ED25519, RSA = b"ssh-ed25519", b"ssh-rsa"


def key(kind=ED25519, seed=b"a"):
    """The bytes of some key."""
    return len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + seed * 32


def line(names, blob=None, kind=ED25519, marker=""):
    """A line of a file."""
    words = [
        marker,
        names,
        kind.decode(),
        base64.b64encode(blob or key(kind)).decode(),
        "a comment",
    ]
    return " ".join(each for each in words if each)


def entry(blob, kind=ED25519, marker=Marker.NONE):
    """What a line says."""
    return Entry(marker, kind, blob, "f:1")


@pytest.mark.parametrize(
    ("patterns", "name", "is_one"),
    [
        ("web", "web", True),
        ("Web", "wEB", True),
        ("web", "webs", False),
        ("db,web,10.0.0.1", "web", True),
        ("web", "[web]:2222", False),
        ("[web]:2222", "[web]:2222", True),
        ("[web]:2222", "web", False),
        ("*.example", "a.example", True),
        ("*.example", "example", False),
        ("w?b", "web", True),
        ("w?b", "wb", False),
        ("*,!web", "web", False),
        ("!web,*", "web", False),
        ("*,!web", "db", True),
        ("!web", "db", False),
        ("[*]:2222", "[web]:2222", True),
        ("w.b", "web", False),
        ("w[e]b", "web", False),
        ("[fe80::1]:22", "[fe80::1]:22", True),
        ("", "web", False),
        ("|1|", "web", False),
        ("|1|a|b", "web", False),
        ("|1|YQ==|ä", "web", False),
    ],
)
def test_match(patterns, name, is_one):
    """`is_match` follows sshd(8)."""
    assert is_match(patterns, name) is is_one


@given(st.text("ab*?.", max_size=12), st.text("ab.", max_size=12))
def test_wildcards(pattern, name):
    """Wildcards mean what they mean to a shell."""
    assert is_match(pattern, name) is fnmatch.fnmatchcase(name, pattern)


@given(st.text("abc.[]:1", min_size=1), st.binary(min_size=20, max_size=20))
def test_hashes(name, salt):
    """A hashed name is matched by itself, and by no other."""
    assert is_match(hashed(name, salt), name)
    assert not is_match(hashed(name, salt), name + "x")


def test_openssh_hashes(tmp_path):
    """Names that ssh-keygen hashed are found."""
    file = tmp_path / "k"
    file.write_text(line("[web]:2222") + "\n")
    if os.system(f"ssh-keygen -q -H -f {file}") != 0:
        pytest.skip("needs ssh-keygen")
    assert "web" not in file.read_text()
    assert [each.blob for each in look_up([str(file)], "[web]:2222")] == [key()]
    assert look_up([str(file)], "web") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# a comment",
        "web",
        "web ssh-ed25519",
        "web ssh-ed25519 !!!",
        "web ssh-rsa " + base64.b64encode(key(ED25519)).decode(),
        "@other web ssh-ed25519 " + base64.b64encode(key()).decode(),
        "@revoked",
        "web 35 65537 1234",
    ],
)
def test_lines_that_say_nothing(text):
    """Lines that are no keys of this host are passed over."""
    assert read_line(text, "web", "f:1") is None


@given(st.binary(max_size=200))
def test_any_file(tmp_path_factory, data):
    """Whatever is in a file, reading it does no harm."""
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(data)
    assert look_up([str(file)], "a-host-that-chance-does-not-write") == []


def test_files(tmp_path):
    """Files are read in order; one that is not there is empty."""
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("\n" + line("web", key(seed=b"1")))
    second.write_text(line("w*", key(RSA), RSA))
    found = look_up([str(first), str(tmp_path / "0"), "none", str(second)], "web")
    assert [each.source for each in found] == [f"{first}:2", f"{second}:1"]
    assert known_types(found) == [ED25519, RSA]


@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ([], Verdict.UNKNOWN),
        ([entry(key())], Verdict.KNOWN),
        ([entry(key(seed=b"b"))], Verdict.CHANGED),
        ([entry(key(seed=b"b")), entry(key())], Verdict.KNOWN),
        ([entry(key(RSA), RSA)], Verdict.OTHER_TYPES),
        ([entry(key()), entry(key(), marker=Marker.REVOKED)], Verdict.REVOKED),
        ([entry(key(seed=b"b"), marker=Marker.REVOKED)], Verdict.UNKNOWN),
        ([entry(key(), marker=Marker.AUTHORITY)], Verdict.UNKNOWN),
    ],
)
def test_judge(entries, verdict):
    """`judge` says of a key what its host's lines say."""
    assert judge(entries, key(), ED25519)[0] is verdict


def test_fingerprint():
    """`fingerprint` has no padding, as ssh shows it."""
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


def test_learn(tmp_path):
    """`learn` makes file and directory for their user alone, and what it writes is found."""
    file = tmp_path / "new" / "k"
    learn(str(file), "web", ED25519, key(), os.urandom)
    learn(str(file), "[db]:2222", RSA, key(RSA), os.urandom)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.blob for each in look_up([str(file)], "web")] == [key()]
    assert [each.blob for each in look_up([str(file)], "[db]:2222")] == [key(RSA)]


def test_learn_after_half_a_line(tmp_path):
    """A last line without an end stays a line of its own."""
    file = tmp_path / "k"
    file.write_text(line("db"))
    learn(str(file), "web", ED25519, key(), os.urandom)
    assert len(look_up([str(file)], "web")) == len(look_up([str(file)], "db")) == 1


def test_learn_as_the_file_does(tmp_path):
    """In a file with hashed names, a new name is hashed."""
    file = tmp_path / "k"
    file.write_text(line(hashed("db", b"s" * 20)) + "\n")
    learn(str(file), "web", ED25519, key(), os.urandom)
    assert "web" not in file.read_text()
    assert len(look_up([str(file)], "web")) == 1
