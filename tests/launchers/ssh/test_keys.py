"""`read_identity`: files of keys, whatever is in them."""

import base64
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sshkeys import make_key
from twisted_dist.launchers.ssh.keys import UnusableKeyError, parse_public, read_identity

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


def file_of(path, data):
    """A file for its user alone."""
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("form", ["", "PEM", "PKCS8"])
@pytest.mark.parametrize("passphrase", ["", "s3cret"])
def test_forms(tmp_path, form, passphrase):
    """`Identity.open` reads each form, and says None to a wrong passphrase."""
    path = make_key(tmp_path / "key", "ecdsa", passphrase, form)
    identity = read_identity(str(path))
    assert identity.is_encrypted is bool(passphrase)
    assert identity.public is not None
    opened = identity.open(passphrase or None)
    assert opened.public() == identity.public
    if passphrase:
        assert identity.open("wrong") is None
        assert identity.open(None) is None


@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-cbc", "aes256-gcm@openssh.com"])
def test_ciphers_of_files(tmp_path, cipher):
    """Files with each of OpenSSH's common ciphers can be opened, which conch's reader cannot."""
    key = make_key(tmp_path / "key")
    words = ["ssh-keygen", "-q", "-p", "-N", "s3cret", "-Z", cipher, "-f", str(key)]
    subprocess.run(words, check=True, timeout=30)
    assert read_identity(str(key)).open("s3cret") is not None


def test_public_half_alone(tmp_path):
    """A file may be of the public half, or only that be there: the agent has the other."""
    key = make_key(tmp_path / "key")
    for path in (f"{key}.pub", str(key)):
        identity = read_identity(path)
        assert identity.public is not None
        assert identity.has_private is (path == str(key))
    key.unlink()
    identity = read_identity(str(key))
    assert (identity.has_private, identity.open(None)) == (False, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"ssh-ed25519 AAAA",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_useless(tmp_path, data):
    """A file that is no key is of no use, and says so."""
    with pytest.raises(UnusableKeyError):
        read_identity(file_of(tmp_path / "key", data))


@given(st.binary(max_size=120))
def test_any_key(tmp_path_factory, data):
    """Whatever is in a file of a key's form, it is a key or of no use."""
    text = b"openssh-key-v1\0" + data
    lines = [b"-----BEGIN OPENSSH PRIVATE KEY-----", base64.b64encode(text)]
    path = tmp_path_factory.getbasetemp() / "any"
    try:
        read_identity(file_of(path, b"\n".join([*lines, b"-----END OPENSSH PRIVATE KEY-----"])))
    except UnusableKeyError:
        pass


@given(st.binary(max_size=120))
def test_any_public(data):
    """Whatever an agent or a host calls a public key, it is one or None."""
    assert parse_public(data) is None or parse_public(data).blob()


@pytest.mark.parametrize(
    "kind", [b"ssh-dss", b"sk-ssh-ed25519@openssh.com", b"ssh-ed25519-cert-v01@openssh.com"]
)
def test_kinds_that_are_of_no_use(kind):
    """Certificates, tokens' keys and DSA are passed over."""
    assert parse_public(len(kind).to_bytes(4, "big") + kind + b"\0\0\0\x20" + b"k" * 200) is None


def test_missing_and_forbidden(tmp_path):
    """A file that is not there is told from one that cannot be read."""
    with pytest.raises(FileNotFoundError):
        read_identity(str(tmp_path / "none"))
    with pytest.raises(UnusableKeyError, match="directory"):
        read_identity(str(tmp_path))
    key = make_key(tmp_path / "key")
    key.chmod(0o640)
    with pytest.raises(UnusableKeyError, match="chmod 600"):
        read_identity(str(key))
