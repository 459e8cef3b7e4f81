"""What a port says before SSH begins, and what to make of one that says something else.

Conch takes any line that ends for a packet, and reports ``bad packet length`` of text.
"""

from __future__ import annotations

from typing import Final

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import printable

#: lines that a server may send before its version (RFC 4253, 4.2); OpenSSH takes a thousand
GREETING_BYTES: Final = 16384


class Greeting:
    """Reads up to the line with the server's version."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._said = b""

    def take(self, data: bytes) -> bytes | None:
        """More of it: what there is from the version on, or None before that.

        Raises:
            SSHError: it is not SSH, or sshd says why it will not have us.
        """
        self._said += data
        start = 0
        while (end := self._said.find(b"\n", start)) >= 0:
            if self._said.startswith(b"SSH-", start):
                said, self._said = self._said[start:], b""
                return said
            self._judge(self._said[start:end])
            start = end + 1
        if len(self._said) > GREETING_BYTES:
            raise self._not_ssh()
        return None

    def ended(self) -> SSHError:
        """Why the connection ended before there was a version."""
        if self._said.strip():
            try:
                self._judge(self._said)
            except SSHError as error:
                return error
            return self._not_ssh()
        return SSHError(
            f"{self._host}: its sshd closed the connection before it said anything: too many at "
            "a time (MaxStartups), or it does not want this address",
            "refused",
            is_passing=True,
        )

    def _judge(self, line: bytes) -> None:
        if b"Exceeded MaxStartups" in line:
            raise SSHError(
                f"{self._host}: its sshd has too many connections that have not logged in yet "
                "(MaxStartups)",
                "refused",
                is_passing=True,
            )
        if b"Not allowed at this time" in line:
            raise SSHError(
                f"{self._host}: its sshd refuses this address for a while, after logins that "
                "failed (PerSourcePenalties): wait a minute, and look which key or password is "
                "wrong",
                "refused",
                is_passing=True,
            )
        if line.startswith(b"HTTP/"):
            raise SSHError(f"{self._host}: a web server answers at this port, no sshd", "protocol")

    def _not_ssh(self) -> SSHError:
        return SSHError(
            f"{self._host}: what answers at this port is no sshd; it said: "
            f"{printable(self._said)!r}",
            "protocol",
        )
