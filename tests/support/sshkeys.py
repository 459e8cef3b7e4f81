"""Key files, as people have them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: bits of RSA keys: the least that sshd takes, since they are made while a test waits
RSA_BITS = 2048


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "", form: str = "") -> Path:
    """A private key in *path*, and the public one beside it, unless they are there.

    Args:
        path: where.
        kind: ``ed25519``, ``ecdsa`` or ``rsa``.
        passphrase: what it is encrypted with.
        form: ``PEM`` for the old form.
    """
    if not path.exists():
        size = ("-b", str(RSA_BITS)) if kind == "rsa" else ()
        words = ("-q", "-t", kind, *size, "-N", passphrase, "-C", path.name, "-f", str(path))
        form_words = ("-m", form) if form else ()
        subprocess.run(["ssh-keygen", *words, *form_words], check=True, timeout=60)
    return path


def public(path: Path) -> str:
    """The public half of a key: its type and its bytes, without the comment."""
    return " ".join(Path(f"{path}.pub").read_text(encoding="ascii").split()[:2])


def fingerprint(path: Path) -> str:
    """``SHA256:…`` of a key."""
    told = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{path}.pub"], check=True, timeout=30, stdout=subprocess.PIPE
    )
    return told.stdout.decode().split()[1]


class Agent:
    """An ``ssh-agent`` with some keys; a context manager.

    Attributes:
        path: its socket.
    """

    def __init__(self, path: Path, *keys: Path) -> None:
        self.path = path
        self._keys = keys
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Agent:
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self.path)], stdout=subprocess.PIPE
        )
        # its first words come once it listens
        self._process.stdout.readline()
        for each in self._keys:
            self.add(each)
        return self

    def add(self, key: Path) -> None:
        """Give it a key that is not encrypted."""
        subprocess.run(
            ["ssh-add", "-q", str(key)],
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "SSH_AUTH_SOCK": str(self.path)},
        )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._process.stdout.close()
        self.path.unlink(missing_ok=True)
