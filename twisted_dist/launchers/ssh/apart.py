"""Programs in sessions of their own: a Ctrl-C at the terminal is not for them.

They have no terminal to ask at, and are ended as a group, with what they started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import Final

from twisted.internet import process as processes
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: seconds between two looks at whether a process that has closed its output has ended
LOOK_S: Final = 0.02

#: for systems without a setsid program, such as macOS
_BY_PYTHON = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


def apart(words: Sequence[str]) -> list[str]:
    """The command that runs *words*, the first of which is a path, in a session of its own."""
    setsid = shutil.which("setsid")
    if setsid is not None:
        return [setsid, *words]
    return [sys.executable, "-I", "-S", "-c", _BY_PYTHON, *words]


def kill_group(process: IProcessTransport, name: str = "KILL") -> None:
    """End one that runs apart, and all that it started; nothing where it has ended."""
    # Twisted forgets the number when it has waited for the process, so it is nobody else's
    pid = process.pid
    if pid is not None:
        try:
            os.killpg(pid, signal.Signals[f"SIG{name}"])
        except ProcessLookupError:
            # it is about to become a session
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.Signals[f"SIG{name}"])


class ApartProtocol(ProcessProtocol):
    """A process whose end is noticed in any reactor.

    One in a thread gets no SIGCHLD, so there it is looked for from when its pipe is closed.

    Args:
        clock: for that.
        pipe: the descriptor, of the process, that is closed when it ends.
    """

    def __init__(self, clock: IReactorTime, pipe: int = 1) -> None:
        self._clock = clock
        self._pipe = pipe
        self._looking: IDelayedCall | None = None
        self._has_exited = False

    def childConnectionLost(self, childFD: int) -> None:
        """It has closed something."""
        if childFD == self._pipe and not self._has_exited and self._looking is None:
            self._looking = self._clock.callLater(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        processes.reapAllProcesses()
        if not self._has_exited:
            self._looking = self._clock.callLater(LOOK_S, self._look)

    def processExited(self, reason: Failure) -> None:
        """It has ended."""
        self._has_exited = True
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
