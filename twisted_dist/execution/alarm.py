"""A timer that wakes one thread, at two cheap system calls and no switch of threads.

`threading` has timers too, but setting one wakes its thread to wait anew: as much as the
small task that it is to watch. The kernel's timerfd is set without waking anybody.
(`os.timerfd_create` comes with Python 3.13; before, libc is asked.)
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_CLOEXEC: Final = 0o2000000
#: struct itimerspec: interval and first expiry, each in seconds and nanoseconds
_ITIMERSPEC: Final = struct.Struct("@llll")


class Alarm:
    """One timer. `wait` blocks until it has gone off; `set` and `clear` may be called meanwhile.

    Raises:
        OSError: this system has no timerfd.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError("timerfd is Linux's")
        # PyDLL keeps the interpreter's lock: the call takes less than giving it away
        libc = ctypes.PyDLL(None)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _CLOEXEC)
        if self._fd < 0:
            raise OSError("no timerfd")
        self._never = _ITIMERSPEC.pack(0, 0, 0, 0)

    def set(self, spec: bytes) -> None:
        """Go off after the delay of `delay`."""
        self._settime(self._fd, 0, spec, None)

    def clear(self) -> None:
        """Do not go off."""
        self._settime(self._fd, 0, self._never, None)

    def wait(self) -> None:
        """Block until it goes off."""
        os.read(self._fd, 8)

    @staticmethod
    def delay(seconds: float) -> bytes:
        """What `set` takes, made once for a delay of less than a second."""
        return _ITIMERSPEC.pack(0, 0, 0, int(seconds * 1e9))
