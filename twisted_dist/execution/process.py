"""What makes a process a nanny's child: it dies with its nanny, and whoever ends it is known."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from twisted_dist.execution.status import StatusPage

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_TIMERSLACK: Final = 29
#: where memory runs out, the kernel ends tasks rather than what the network needs
#: (proc(5): from -1000 to 1000; what has no such wish has 0)
_OOM_SCORE: Final = "800"


def prepare(parent_pid: int) -> None:
    """Bind this process to its nanny; ends it where that is gone already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # what sleeps here wakes when it should, not up to 50 µs later, as by default
        libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_OOM_SCORE)
    if os.getppid() != parent_pid:
        os._exit(0)
    with suppress(OSError):
        os.setpgid(0, 0)  # so that its nanny can end what tasks have started, with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the nanny's to hear


def note_endings(page: StatusPage, sock: socket.socket, become_copy: Callable[[], None]) -> None:
    """See that the nanny learns which thread ended the process, and what a fork is not.

    A fatal signal has faulthandler write the stacks of all threads, the current one's marked
    as such, to standard error. ``os._exit`` is replaced by one that leaves a note. In a copy of
    the process that a task has forked, the nanny's socket and page are let go of, and
    *become_copy* is called: it is no child of the nanny's, whatever it returns to.
    """
    faulthandler.enable(all_threads=True)
    leave = os._exit

    def leave_note(status: int) -> NoReturn:
        page.note_exit(threading.get_ident())
        leave(status)

    def become_a_stranger() -> None:
        os._exit = leave
        become_copy()
        page.detach()
        sock.close()

    os._exit = leave_note
    os.register_at_fork(after_in_child=become_a_stranger)


def preload(modules: Sequence[str]) -> None:
    """Import modules, so that no task has to; one that cannot be is said, and left out."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as problem:  # whatever the module does
            print(f"cannot preload {name}: {problem}", file=sys.stderr, flush=True)
