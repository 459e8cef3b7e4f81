"""A credential: an Ed25519 key that is its holder's name and proof.

Nothing here is invented. Both ends of a connection present a self-signed certificate (RFC
5280) for their key (RFC 8032), TLS 1.3 (RFC 8446) proves that they hold it, and each knows
the other by the SHA-256 of its public key, as in HTTP's public key pinning (RFC 7469). So
there is no authority, no chain, and nothing in a certificate that matters but its key;
whether a credential still counts is the scheduler's to say (`access.network`).
"""

from __future__ import annotations

import datetime
import hashlib
import os
from typing import Any, Final, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

#: SHA-256 of a key's SubjectPublicKeyInfo, 32 bytes: public
Pin: TypeAlias = bytes

SEED_BYTES: Final = 32
PIN_BYTES: Final = 32
#: certificates carry one name for all: it says nothing to strangers
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twisted_dist")])
#: "no expiration date" of RFC 5280, 4.1.2.5: how long a credential counts, its network says
_NEVER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59)
_EVER: Final = datetime.datetime(2000, 1, 1)


def pin_of(certificate: x509.Certificate) -> Pin:
    """The pin of the key in a certificate; what kind of key does not matter."""
    public = certificate.public_key()
    return hashlib.sha256(
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()


class Credential:
    """A secret key with its role. Does not show itself, and cannot be pickled.

    Args:
        role: of `access.roles`, or ``scheduler``.
        seed: the 32 secret bytes of the key.
    """

    __slots__ = ("_certificate", "_seed", "pin", "role")

    def __init__(self, role: str, seed: bytes) -> None:
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self.role = role
        self._seed = seed
        self._certificate: x509.Certificate | None = None
        public = key.public_key()
        self.pin: Pin = hashlib.sha256(
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).digest()

    @classmethod
    def make(cls, role: str) -> Credential:
        """A new one, from the system's randomness."""
        return cls(role, os.urandom(SEED_BYTES))

    def reveal(self) -> bytes:
        """The secret, for a file that only its owner can read."""
        return self._seed

    def private_key(self) -> Ed25519PrivateKey:
        """The key itself, for TLS."""
        return Ed25519PrivateKey.from_private_bytes(self._seed)

    def certificate(self) -> x509.Certificate:
        """A self-signed certificate for the key, for TLS."""
        if self._certificate is None:
            key = self.private_key()
            builder = (
                x509.CertificateBuilder()
                .subject_name(_NAME)
                .issuer_name(_NAME)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(_EVER)
                .not_valid_after(_NEVER)
            )
            self._certificate = builder.sign(key, algorithm=None)
        return self._certificate

    def __repr__(self) -> str:
        return f"<Credential {self.role} {self.pin.hex()[:8]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential is not sent anywhere")

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Credential) and (self.role, self.pin) == (other.role, other.pin)

    def __hash__(self) -> int:
        return hash((self.role, self.pin))
