"""`Multiplexer`: the service ``ssh-connection``, by which commands share a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.conch.ssh.connection import SSHConnection

from twisted_dist.launchers.ssh.quiet import QUIET


class Multiplexer(SSHConnection):
    """Conch's, that says when it is there and why it has gone.

    Attributes:
        reason: why the connection ended, once it has.
        is_running: whether channels can be opened.
    """

    transport: Any
    _log = QUIET

    def __init__(self, started: Callable[[], None]) -> None:
        super().__init__()
        self.reason = ""
        self.is_running = False
        self._started = started

    def serviceStarted(self) -> None:
        """Channels can be opened."""
        super().serviceStarted()
        self.is_running = True
        self._started()

    def serviceStopped(self) -> None:
        """The connection is lost: channels end, and questions that were open fail."""
        self.is_running = False
        super().serviceStopped()

    def ask_alive(self) -> None:
        """Ask the server for anything; a refusal is the sign of life that is wanted."""
        self.sendGlobalRequest(b"keepalive@openssh.com", b"", wantReply=1).addErrback(
            lambda _: None
        )
