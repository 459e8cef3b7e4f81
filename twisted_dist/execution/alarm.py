"""A timer that wakes one thread, at two cheap system calls and no switch of threads.

`threading` has timers too, but setting one wakes its thread to wait anew: as much as the
small task that it is to watch. Linux's timerfd is set without waking anybody.
(`os.timerfd_create` comes with Python 3.13; before, libc is asked.) Other systems get a
condition, which does the same for more.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from time import monotonic
from typing import Final, Protocol

_CLOCK_MONOTONIC: Final = 1
_CLOEXEC: Final = 0o2000000
#: struct itimerspec: interval and first expiry, each in seconds and nanoseconds
_ITIMERSPEC: Final = struct.Struct("@llll")


class Alarm(Protocol):
    """One timer. `wait` blocks until it has gone off; `set` may be called meanwhile."""

    def set(self) -> None:
        """Go off after the delay it was made with, counted from now."""

    def wait(self) -> None:
        """Block until it goes off."""


def make_alarm(delay_s: float) -> Alarm:
    """The best this system has, for delays of less than a second."""
    return TimerAlarm(delay_s) if sys.platform == "linux" else ConditionAlarm(delay_s)


class TimerAlarm:
    """By timerfd."""

    def __init__(self, delay_s: float) -> None:
        # PyDLL keeps the interpreter's lock: the call takes less than giving it away
        libc = ctypes.PyDLL(None)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _CLOEXEC)
        if self._fd < 0:
            raise OSError("the kernel gives no timerfd")
        self._delay = _ITIMERSPEC.pack(0, 0, 0, int(delay_s * 1e9))

    def set(self) -> None:
        """As `Alarm.set`."""
        self._settime(self._fd, 0, self._delay, None)

    def wait(self) -> None:
        """As `Alarm.wait`."""
        os.read(self._fd, 8)


class ConditionAlarm:
    """By a condition of the standard library's."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._changed = threading.Condition()
        self._due: float | None = None

    def set(self) -> None:
        """As `Alarm.set`."""
        with self._changed:
            self._due = monotonic() + self._delay_s
            self._changed.notify()

    def wait(self) -> None:
        """As `Alarm.wait`."""
        with self._changed:
            while self._due is None or (left := self._due - monotonic()) > 0:
                self._changed.wait(None if self._due is None else left)
            self._due = None
