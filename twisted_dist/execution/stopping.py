"""Ends what another thread runs, as politely as Python can: by an exception in it.

The interpreter raises it between two steps of Python's; code that is in C for long, or
waits there, meets it afterwards. Whoever wants it to end for sure ends the process.
"""

from __future__ import annotations

import ctypes
import sys
import traceback
from typing import Final

from twisted_dist.errors import TaskStopped

#: characters that are kept of where a task was
MAX_WHERE: Final = 4096
#: PyDLL keeps the interpreter's lock: the thread in question does not run meanwhile
_RAISE_IN: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_RAISE_IN.argtypes = (ctypes.c_ulong, ctypes.py_object)


def raise_in(thread: int) -> None:
    """Have `TaskStopped` raised in a thread, soon."""
    _RAISE_IN(thread, ctypes.py_object(TaskStopped))


def meet() -> None:
    """Do nothing: what `raise_in` meant for this thread is raised now, if it was not before.

    It cannot be taken back. CPython lets one set NULL instead, and then asks every thread at
    every step for ever whether there is something to be raised.
    """


def where_is(thread: int, below: str) -> str:
    """The stack of a thread as text, from the first frame that *below*'s file has called.

    Empty if the thread has none.
    """
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    entries = traceback.extract_stack(frame)
    own = [n for n, entry in enumerate(entries) if entry.filename == below]
    text = "".join(traceback.format_list(entries[own[-1] + 1 :] if own else entries)).rstrip()
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_WHERE else "...\n" + text[-MAX_WHERE:]
