"""What this client offers a server of ciphers and keys, and what to say where nothing fits.

Conch has neither GCM nor ChaCha20 nor the encrypt-then-MAC forms. What it has and nobody should
want is left out here: CBC, 3DES, and whatever signs or authenticates with SHA-1 or MD5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.transport import SSHClientTransport

#: best first
CIPHERS: Final = tuple(
    each for each in (b"aes256-ctr", b"aes192-ctr", b"aes128-ctr")
    if each in SSHClientTransport.supportedCiphers
)  # fmt: skip
MACS: Final = (b"hmac-sha2-512", b"hmac-sha2-256")
KEY_EXCHANGES: Final = tuple(
    each for each in SSHClientTransport.supportedKeyExchanges if not each.endswith(b"-sha1")
)
#: of host keys, in the order of OpenSSH
HOST_KEYS: Final = (
    b"ssh-ed25519",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"rsa-sha2-512",
    b"rsa-sha2-256",
)
#: `{type of key: algorithms that sign with it, best first}`; a type that is not here is not used
SIGNATURES: Final = {
    b"ssh-ed25519": (b"ssh-ed25519",),
    b"ecdsa-sha2-nistp256": (b"ecdsa-sha2-nistp256",),
    b"ecdsa-sha2-nistp384": (b"ecdsa-sha2-nistp384",),
    b"ecdsa-sha2-nistp521": (b"ecdsa-sha2-nistp521",),
    b"ssh-rsa": (b"rsa-sha2-512", b"rsa-sha2-256"),
}
#: RFC 4253, 7.1: a cookie, then the lists
_COOKIE_BYTES: Final = 16


def type_name(key_type: bytes) -> str:
    """A type of key, as people know it: ``ED25519``."""
    if key_type.startswith(b"ecdsa-"):
        return "ECDSA"
    return key_type.removeprefix(b"ssh-").decode("ascii", "replace").upper()


def host_key_order(known: Iterable[bytes], without: Iterable[bytes] = ()) -> list[bytes]:
    """Algorithms of host keys to offer, those of *known* types first.

    Otherwise a host whose key is known would show another one, and one whose key has changed
    would pass for one that is new.
    """
    first = [each for key_type in known for each in SIGNATURES.get(key_type, ())]
    unwanted = {each for key_type in without for each in SIGNATURES.get(key_type, ())}
    ordered = dict.fromkeys([each for each in HOST_KEYS if each in first] + list(HOST_KEYS))
    return [each for each in ordered if each not in unwanted]


@frozen
class Offer:
    """What a side offers in its KEXINIT; each best first."""

    key_exchanges: Sequence[bytes]
    host_keys: Sequence[bytes]
    ciphers: Sequence[bytes]
    macs: Sequence[bytes]
    ciphers_back: Sequence[bytes]
    macs_back: Sequence[bytes]


def read_offer(packet: bytes) -> Offer:
    """What a KEXINIT says, without its message number."""
    lists = [each.split(b",") for each in getNS(packet[_COOKIE_BYTES:], 10)[:10]]
    return Offer(
        key_exchanges=lists[0], host_keys=lists[1], ciphers=lists[2], macs=lists[4],
        ciphers_back=lists[3], macs_back=lists[5],
    )  # fmt: skip


def nothing_in_common(theirs: Offer, our_host_keys: Sequence[bytes]) -> str:
    """Says in what a server has nothing that this client has; empty where all is well.

    All that is missing is named, by both sides' names, since whoever has to change the
    server's configuration should have to do so once.
    """
    parts = []
    for what, offered, ours in (
        ("key exchange", theirs.key_exchanges, KEY_EXCHANGES),
        ("host key", theirs.host_keys, our_host_keys),
        ("cipher", theirs.ciphers, CIPHERS),
        ("cipher", theirs.ciphers_back, CIPHERS),
        ("MAC", theirs.macs, MACS),
        ("MAC", theirs.macs_back, MACS),
    ):
        if not set(offered) & set(ours):
            part = (
                f"no common {what}: it offers {_listed(offered)}; this client has {_listed(ours)}"
            )
            if part not in parts:
                parts.append(part)
    return "; ".join(parts)


def _listed(names: Sequence[bytes]) -> str:
    # extension and strictness markers are not algorithms
    return ", ".join(
        each.decode("ascii", "replace")
        for each in names
        if not each.startswith((b"ext-info-", b"kex-strict-"))
    )
