"""Writing a host's key down, where it is to be known from now on."""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twisted_dist.launchers.ssh.known_hosts import hashed, is_hashing

#: as ssh-keygen -H has it
SALT_BYTES: Final = 20


def learn(
    path: str, name: str, key_type: bytes, blob: bytes, random_bytes: Callable[[int], bytes]
) -> None:
    """Add a line to a known_hosts file, which is made where it is not there.

    One ``write`` to a file that is open for appending: others that write at the same time,
    another of these programs or ssh, lose nothing, and a reader sees the line or does not.

    Raises:
        OSError: it could not be written.
    """
    file = Path(path).expanduser()
    if not file.parent.exists():
        file.parent.mkdir(mode=0o700, parents=True)
    shown = hashed(name, random_bytes(SALT_BYTES)) if is_hashing(path) else name
    key = binascii.b2a_base64(blob, newline=False).decode("ascii")
    line = f"{shown} {key_type.decode('ascii')} {key}\n"
    number = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _ends_its_line(number):
            line = "\n" + line
        os.write(number, line.encode())
    finally:
        os.close(number)


def _ends_its_line(number: int) -> bool:
    size = os.fstat(number).st_size
    return size == 0 or os.pread(number, 1, size - 1) == b"\n"
