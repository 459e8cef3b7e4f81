"""`Access`: what a member holds to enter a network, as a file and as a join string."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import msgpack
from attrs import field, frozen

from twisted_dist.access.credential import SEED_BYTES, Certificate, Credential, is_certificate
from twisted_dist.access.roles import ROLES
from twisted_dist.errors import AccessError

#: begins a join string; a new form gets a new number
JOIN_PREFIX: Final = "tdist1."
#: of an access file or join string: one of today's takes less than a tenth of it
MAX_ACCESS_BYTES: Final = 64 * 1024
#: what a file of ours says it is
FORMAT: Final = "twisted_dist access 1"


@frozen
class Access:
    """Enough to reach a scheduler, to know it and its workers, and to be known there.

    Attributes:
        addresses: ``host:port`` under which the scheduler may be dialled, best first.
        machine: name of the machine that the scheduler runs on; there, loopback addresses
            are its own too.
        scheduler: its certificate.
        workers: certificates that workers have when this is made; the scheduler tells of
            later ones.
        credentials: ``{role: credential}``; one, or, at the scheduler's owner, all.
    """

    addresses: tuple[str, ...]
    machine: str
    scheduler: Certificate = field(repr=False)
    workers: frozenset[Certificate] = field(repr=False)
    credentials: Mapping[str, Credential] = field(repr=lambda c: f"<{', '.join(c)}>")

    def credential(self, *roles: str) -> Credential:
        """The first of *roles* that is held here.

        Raises:
            AccessError: none of them.
        """
        for role in roles:
            found = self.credentials.get(role)
            if found is not None:
                return found
        raise AccessError(
            f"this access is for {' and '.join(self.credentials)}, and {' or '.join(roles)} is "
            f"needed: ask for one made by  daccess make {roles[-1]} {self.addresses[0]}"
        )

    # -- as text

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "addresses": list(self.addresses),
            "machine": self.machine,
            "scheduler": self.scheduler,
            "workers": sorted(self.workers),
            "credentials": {role: each.reveal() for role, each in self.credentials.items()},
        }

    def dump(self) -> str:
        """The content of an access file: JSON that a person can look at."""
        return json.dumps(self._content(), indent=1, default=encode) + "\n"

    def join_string(self) -> str:
        """The same in one word, for an environment variable."""
        return JOIN_PREFIX + encode(msgpack.packb(self._content(), use_bin_type=True))

    @classmethod
    def load(cls, text: str) -> Access:
        """From the content of a file, or a join string.

        Raises:
            AccessError: it is neither; the message does not repeat it.
        """
        text = text.strip()
        if len(text) > MAX_ACCESS_BYTES:
            raise AccessError(f"an access of more than {MAX_ACCESS_BYTES} bytes is none of ours")
        try:
            if text.startswith(JOIN_PREFIX):
                content = msgpack.unpackb(decode(text.removeprefix(JOIN_PREFIX), None), raw=False)
            else:
                content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError
            credentials = {
                role: Credential(role, decode(secret, SEED_BYTES))
                for role, secret in content["credentials"].items()
                if role in ROLES
            }
            addresses = tuple(map(str, content["addresses"]))
            if not credentials or not addresses:
                raise ValueError
            return cls(
                addresses,
                str(content["machine"]),
                decode_certificate(content["scheduler"]),
                frozenset(map(decode_certificate, content["workers"])),
                credentials,
            )
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            msgpack.UnpackException,
        ):
            raise AccessError(
                "this is no access file and no join string of this version of twisted_dist; "
                "make one with  daccess make"
            ) from None


def encode(data: bytes) -> str:
    """Bytes as text that needs no quoting anywhere."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: Any, size: int | None) -> bytes:
    """Bytes, encoded by `encode` or not; ValueError unless there are *size* of them."""
    if isinstance(text, bytes):
        data = text
    else:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if size is not None and len(data) != size:
        raise ValueError("not of its size")
    return data


def decode_certificate(text: Any) -> Certificate:
    """A certificate that `encode` encoded; ValueError where it is none."""
    data = decode(text, None)
    if not is_certificate(data):
        raise ValueError("not a certificate")
    return data
