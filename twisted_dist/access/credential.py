"""A credential: an Ed25519 key that is its holder's name and proof.

Nothing here is invented. Both ends of a connection present a self-signed certificate (RFC
5280) for their key (RFC 8032), TLS 1.3 (RFC 8446) proves that they hold it, and each knows
the other's certificate, byte for byte. So there is no authority, no chain, and nothing in
a certificate that matters but its key; whether a credential still counts is the scheduler's
to say (`access.network`).

A certificate follows from its key: Ed25519 signs without randomness, and all else in it is
fixed. So a credential is kept as the 32 bytes that its key is made from.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from typing import Any, Final, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

#: in DER, about 250 bytes: public
Certificate: TypeAlias = bytes

SEED_BYTES: Final = 32
#: of a certificate that is read; ours have a quarter of it
MAX_CERTIFICATE_BYTES: Final = 1024
#: "no expiration date" of RFC 5280, 4.1.2.5: how long a credential counts, its network says
_NEVER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59)
_EVER: Final = datetime.datetime(2000, 1, 1)


def fingerprint(certificate: Certificate) -> str:
    """A short name of a certificate, for people: the beginning of its SHA-256."""
    return hashlib.sha256(certificate).hexdigest()[:12]


def is_certificate(data: bytes) -> bool:
    """Whether *data* is one certificate, of a size as ours have."""
    try:
        return len(data) <= MAX_CERTIFICATE_BYTES and bool(x509.load_der_x509_certificate(data))
    except ValueError:
        return False


class Credential:
    """A secret key with its role. Does not show itself, and cannot be pickled.

    Args:
        role: of `access.roles`, or ``scheduler``.
        seed: the 32 secret bytes of the key.
    """

    __slots__ = ("_key", "_seed", "certificate", "role")

    def __init__(self, role: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.role = role
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        # named by the key, which says nothing to strangers: OpenSSL finds certificates by
        # name, and takes two of one name for each other
        called = hashlib.sha256(public).hexdigest()[:32]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(_EVER)
            .not_valid_after(_NEVER)
            # who holds it may not vouch for others
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        signed = builder.sign(self._key, algorithm=None)
        self.certificate: Certificate = signed.public_bytes(Encoding.DER)

    @classmethod
    def make(cls, role: str) -> Credential:
        """A new one, from the system's randomness."""
        return cls(role, os.urandom(SEED_BYTES))

    def reveal(self) -> bytes:
        """The secret, for a file that only its owner can read."""
        return self._seed

    def pem(self) -> bytes:
        """Key and certificate as TLS libraries take them: a secret."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = x509.load_der_x509_certificate(self.certificate)
        return key + public.public_bytes(Encoding.PEM)

    def __repr__(self) -> str:
        return f"<Credential {self.role} {fingerprint(self.certificate)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential is not sent anywhere")

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Credential) and self.certificate == other.certificate

    def __hash__(self) -> int:
        return hash(self.certificate)
