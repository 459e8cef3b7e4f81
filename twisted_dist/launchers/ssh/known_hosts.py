"""known_hosts files: which keys a host is known by.

The rules are those of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": patterns with ``*`` and ``?``, a
``!`` that excludes, hashed names, ``[host]:port`` for another port than 22, and the markers
``@revoked`` and ``@cert-authority``. A line that cannot be read says nothing, as with ssh.

Unlike ssh, a line for a host without a port is not taken for another port of it: behind one
address with two ports there may be two machines.
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from hashlib import sha1, sha256
from pathlib import Path
from typing import Final

from attrs import frozen

_HASH_MAGIC: Final = "|1|"
#: patterns, type and key, with a marker before them
_FIELDS: Final = 3
_NO_FILE: Final = "none"


class Marker(Enum):
    """What a line is for."""

    NONE = ""
    REVOKED = "@revoked"
    #: its key signs certificates of hosts, which this client does not take: it is no host's key
    AUTHORITY = "@cert-authority"


@frozen
class Entry:
    """A line that speaks of a host.

    Attributes:
        marker: what it is for.
        key_type: such as ``ssh-ed25519``.
        blob: the key.
        source: ``file:line``.
    """

    marker: Marker
    key_type: bytes
    blob: bytes
    source: str


class Verdict(Enum):
    """What the files say of a key."""

    KNOWN = "known"
    #: nothing is known of this host
    UNKNOWN = "unknown"
    #: keys of other types are known, but none of this
    OTHER_TYPES = "other types"
    #: another key of this type is known
    CHANGED = "changed"
    REVOKED = "revoked"


def fingerprint(blob: bytes) -> str:
    """``SHA256:…`` of a public key, as ssh shows it."""
    digest = binascii.b2a_base64(sha256(blob).digest(), newline=False)
    return "SHA256:" + digest.decode("ascii").rstrip("=")


def _is_hash_of(pattern: str, name: str) -> bool:
    salt, _, digest = pattern[len(_HASH_MAGIC) :].partition("|")
    try:
        expected = binascii.a2b_base64(digest)
        found = hmac.new(binascii.a2b_base64(salt), name.encode(), sha1).digest()
    except ValueError:
        return False
    return hmac.compare_digest(found, expected)


def hashed(name: str, salt: bytes) -> str:
    """A name as files with ``HashKnownHosts`` have it; *salt* is 20 random bytes."""
    digest = hmac.new(salt, name.lower().encode(), sha1).digest()
    parts = [binascii.b2a_base64(each, newline=False).decode("ascii") for each in (salt, digest)]
    return _HASH_MAGIC + "|".join(parts)


def is_match(patterns: str, name: str) -> bool:
    """Whether a line's first field is for a host; case does not count."""
    name = name.lower()
    if patterns.startswith(_HASH_MAGIC):
        return _is_hash_of(patterns, name)
    found = False
    for each in patterns.lower().split(","):
        wanted = each.removeprefix("!")
        if wanted == name or (_WILD.search(wanted) and _as_regex(wanted).fullmatch(name)):
            if each.startswith("!"):
                return False
            found = True
    return found


_WILD: Final = re.compile(r"[*?]")


def _as_regex(pattern: str) -> re.Pattern[str]:
    # several stars mean the same as one, and would make the expression slow
    pieces = re.split(r"(\*+|\?)", pattern)
    return re.compile(
        "".join(
            ".*" if each.startswith("*") else "." if each == "?" else re.escape(each)
            for each in pieces
        ),
        re.DOTALL,
    )


def read_line(line: str, name: str, source: str) -> Entry | None:
    """What a line says of a host; None where it says nothing of it."""
    fields = line.split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = Marker.NONE
    if fields[0].startswith("@"):
        try:
            marker = Marker(fields.pop(0))
        except ValueError:
            return None
    if len(fields) < _FIELDS or not is_match(fields[0], name):
        return None
    try:
        blob = binascii.a2b_base64(fields[2])
    except ValueError:
        return None
    key_type = fields[1].encode("ascii", "replace")
    # the type is in the key too: a line that contradicts itself says nothing
    if not blob.startswith(len(key_type).to_bytes(4, "big") + key_type):
        return None
    return Entry(marker, key_type, blob, source)


def _lines(path: str) -> Iterator[str]:
    if path == _NO_FILE:
        return
    try:
        text = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError):
        return
    yield from text.decode("utf-8", "replace").splitlines()


def look_up(files: Iterable[str], name: str) -> list[Entry]:
    """All lines of *files* that speak of a host; files that cannot be read are empty."""
    found = []
    for path in files:
        for number, line in enumerate(_lines(path), 1):
            entry = read_line(line, name, f"{path}:{number}")
            if entry is not None:
                found.append(entry)
    return found


def is_hashing(path: str) -> bool:
    """Whether a file's names are hashed, so that new ones should be too."""
    return any(line.startswith(_HASH_MAGIC) for line in _lines(path))


def known_types(entries: Iterable[Entry]) -> list[bytes]:
    """Types of the keys that a host is known by."""
    return [each.key_type for each in entries if each.marker is Marker.NONE]


def judge(entries: Sequence[Entry], blob: bytes, key_type: bytes) -> tuple[Verdict, Entry | None]:
    """What a host's lines say of a key, and the line that says it."""
    keys = [each for each in entries if each.marker is Marker.NONE]
    for entry in entries:
        if entry.marker is Marker.REVOKED and entry.blob == blob:
            return Verdict.REVOKED, entry
    for entry in keys:
        if entry.blob == blob:
            return Verdict.KNOWN, entry
    for entry in keys:
        if entry.key_type == key_type:
            return Verdict.CHANGED, entry
    return (Verdict.OTHER_TYPES, keys[0]) if keys else (Verdict.UNKNOWN, None)
