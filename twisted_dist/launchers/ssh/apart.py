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

from twisted.internet.interfaces import IProcessTransport

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
