"""The one reactor's thread that all blocking clients of a process share."""

from __future__ import annotations

import threading

from twisted_dist.wire.reactor_thread import ReactorThread


class _Shared:
    """One thread for all blocking clients of the process, while there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: ReactorThread | None = None
        self._users = 0

    def acquire(self) -> ReactorThread:
        with self._lock:
            if self._thread is None:
                self._thread = ReactorThread()
            self._users += 1
            return self._thread

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._thread is not None:
                thread, self._thread = self._thread, None
                thread.stop()


_shared = _Shared()


def acquire_shared() -> ReactorThread:
    """The process's thread for all blocking clients; give it back with `release_shared`."""
    return _shared.acquire()


def release_shared() -> None:
    """One user less; the last one ends the thread."""
    _shared.release()
