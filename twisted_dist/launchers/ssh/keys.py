"""`Identity`: a private key's file, read without its passphrase as far as that goes."""

from __future__ import annotations

import binascii
import os
import stat
from pathlib import Path
from typing import Final

from attrs import field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
)
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.keys import BadKeyError, Key

from twisted_dist.launchers.ssh.algorithms import SIGNATURES

_OPENSSH: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_MAGIC: Final = b"openssh-key-v1\0"
#: a key's file is some kilobytes; a path to something else should not be read whole
FILE_BYTES: Final = 1 << 20


class UnusableKeyError(Exception):
    """A file has no key that can be used; the message says why."""


@frozen
class Identity:
    """A file of a private key, or of its public half where the agent has the other.

    Attributes:
        path: the file, as the user named it.
        public: the public key; None where it is known only with the passphrase.
        is_encrypted: whether there is a passphrase.
    """

    path: str
    public: Key | None
    is_encrypted: bool = False
    _private: bytes | None = field(default=None, repr=False)

    @property
    def has_private(self) -> bool:
        """Whether it can sign by itself."""
        return self._private is not None

    def open(self, passphrase: str | None) -> Key | None:
        """The private key; None where the passphrase is wrong.

        Takes some tenths of a second where there is a passphrase: that is what makes guessing
        slow.
        """
        if self._private is None:
            return None
        try:
            return _load(self._private, passphrase.encode() if passphrase else None)
        except (ValueError, TypeError):
            return None


def read_identity(path: str) -> Identity:
    """Read a file of a key.

    Raises:
        FileNotFoundError: neither it nor its public half is there.
        UnusableKeyError: it is there, and of no use.
    """
    file = Path(path).expanduser()
    public = _read_public(file.with_name(file.name + ".pub"))
    try:
        data = _read_private(file)
    except FileNotFoundError:
        if public is None:
            raise
        return Identity(path, public)
    if not data.lstrip().startswith(b"-----BEGIN"):
        return Identity(path, _public_of(data))
    if _OPENSSH in data:
        public, is_encrypted = _outside(data)
    else:
        is_encrypted = b"ENCRYPTED" in data
    if not is_encrypted:
        try:
            public = _load(data, None).public()
        except (ValueError, TypeError) as error:
            raise UnusableKeyError(f"it cannot be read: {error}") from error
    if public is not None and public.sshType() not in SIGNATURES:
        raise UnusableKeyError(f"keys of type {public.sshType().decode()} are not supported")
    return Identity(path, public, is_encrypted, data)


def _read_private(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            # ssh ignores such a key too
            if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077:
                start = stream.read(len(_OPENSSH))
                if start.startswith(b"-----BEGIN"):
                    raise UnusableKeyError("others may read it; chmod 600 it")
                stream.seek(0)
            return stream.read(FILE_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnusableKeyError(f"it cannot be read: {error.strerror}") from error


def _load(data: bytes, passphrase: bytes | None) -> Key:
    # cryptography's own readers know more forms than conch's: PKCS 8, and files whose cipher is
    # one of GCM or CBC
    load = load_ssh_private_key if _OPENSSH in data else load_pem_private_key
    try:
        return Key(load(data, passphrase))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error


def _outside(data: bytes) -> tuple[Key | None, bool]:
    """The public key that OpenSSH's form has in clear, and whether the rest is encrypted."""
    try:
        body = binascii.a2b_base64(b"".join(data.strip().splitlines()[1:-1]))
        if not body.startswith(_MAGIC):
            raise ValueError("not OpenSSH's form")
        cipher, _, _, rest = getNS(body[len(_MAGIC) :], 3)
        blob, _ = getNS(rest[4:])
    except Exception as error:  # whatever it is that struct and indices say of a broken file
        raise UnusableKeyError("it is broken") from error
    return parse_public(blob), cipher != b"none"


def _read_public(file: Path) -> Key | None:
    try:
        return _public_of(file.read_bytes()[:FILE_BYTES])
    except (OSError, UnusableKeyError):
        return None


def _public_of(data: bytes) -> Key | None:
    fields = data.split()
    if len(fields) > 1:
        try:
            key = parse_public(binascii.a2b_base64(fields[1]))
        except ValueError:
            key = None
        if key is not None:
            return key
    raise UnusableKeyError("it has no key that this client knows")


def parse_public(blob: bytes) -> Key | None:
    """A public key; None for kinds that cannot be used here.

    Those are certificates, keys of security tokens, and DSA.
    """
    try:
        key = Key.fromString(blob, type="blob")
        return key if key.sshType() in SIGNATURES else None
    except (BadKeyError, UnsupportedAlgorithm, ValueError):
        return None
    except Exception:  # struct.error, IndexError: a blob is what somebody sent
        return None
