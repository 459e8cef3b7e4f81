"""`Supervisor`: what a daemon tells systemd, or whoever else has started it in that way.

By the protocol of sd_notify(3): lines ``NAME=value`` in a datagram to the UNIX socket that
``$NOTIFY_SOCKET`` names. ``READY=1`` once it listens, ``STATUS=`` for people, ``STOPPING=1``
with the time that it takes, and ``WATCHDOG=1`` at half of ``$WATCHDOG_USEC``. That comes from
the reactor, so that one which hangs is noticed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_USEC: Final = 1e6


class Supervisor:
    """Who watches this process, if anybody does.

    Args:
        reactor: for time.
        environ: where its variables are; they are taken out, as they are not for children.
    """

    log = Logger()

    def __init__(self, reactor: Any, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        is_mine = pid in ("", str(os.getpid()))
        #: seconds in which it wants to hear something; 0 where it does not
        self._patience_s = int(usec) / _USEC if is_mine and usec.isdigit() else 0.0
        self._beat = LoopingCall(self._tell, "WATCHDOG=1")
        self._beat.clock = reactor
        self._has_failed = False

    def ready(self, status: str) -> None:
        """The daemon is there for others; from now on it is watched."""
        self._tell("READY=1", f"STATUS={status}")
        if self._address and self._patience_s and not self._beat.running:
            ended = self._beat.start(self._patience_s / 2)
            ended.addErrback(lambda f: self.log.failure("watchdog failed", failure=f))

    def status(self, text: str) -> None:
        """What it is at, in a line."""
        self._tell(f"STATUS={text}")

    def stopping(self, within_s: float) -> None:
        """It ends, and takes so long at most."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={within_s * _USEC:.0f}", "STATUS=leaving")

    def close(self) -> None:
        """Nothing more is told."""
        if self._beat.running:
            self._beat.stop()
        self._address = ""

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as problem:
            if not self._has_failed:
                self._has_failed = True
                self.log.warn("cannot tell systemd: {why}", why=problem)
