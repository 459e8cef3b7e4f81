"""Ends what another thread runs, as politely as Python can: by an exception in it.

The interpreter raises it between two steps of Python's; code that is in C for long, or
waits there, meets it afterwards. Whoever wants it to end for sure ends the process.
"""

from __future__ import annotations

import ctypes
import sys
import threading
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


def take_back() -> None:
    """Let what `raise_in` meant for this thread, and has not been raised yet, not be raised."""
    _RAISE_IN(threading.get_ident(), ctypes.py_object())  # NULL, and not None


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
