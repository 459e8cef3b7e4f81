"""The page of memory that a child shares with its nanny: what it is doing, to its last moment.

Whatever ends a child, what it wrote here stays readable: which tasks it was running, in
which threads, and, where one of them called ``os._exit``, in which thread that was.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final, NamedTuple

from twisted_dist.aliases import TaskId

#: the thread that ends the process (0: none)
_HEAD: Final = struct.Struct("<Q")
#: a slot's entry: id + 1 of the running task (0: idle), its attempt, the slot's thread
_SLOT: Final = struct.Struct("<QQQ")
_TASK: Final = struct.Struct("<QQ")
_THREAD: Final = struct.Struct("<Q")


class Running(NamedTuple):
    """A task that runs."""

    task_id: TaskId
    attempt: int
    #: as `threading.get_ident` says
    thread: int


class StatusPage:
    """The page, from either side.

    Args:
        descriptor: of a file of `size` bytes of zeros; -1 for memory of this process.
        slots: how many there may be.
    """

    def __init__(self, descriptor: int, slots: int) -> None:
        self._page: mmap.mmap | bytearray = mmap.mmap(descriptor, self.size(slots))

    @staticmethod
    def size(slots: int) -> int:
        """Bytes for so many slots."""
        return _HEAD.size + slots * _SLOT.size

    def close(self) -> None:
        """Let go of it."""
        if isinstance(self._page, mmap.mmap):
            self._page.close()

    def detach(self) -> None:
        """Write to memory of this process's own from now on."""
        self._page = bytearray(len(self._page))

    # -- the child's side

    def note_thread(self, slot: int, thread: int) -> None:
        """The slot's tasks will run in *thread*."""
        _THREAD.pack_into(self._page, _HEAD.size + slot * _SLOT.size + _TASK.size, thread)

    def note_task(self, slot: int, task_id: TaskId, attempt: int) -> None:
        """The slot begins a task."""
        _TASK.pack_into(self._page, _HEAD.size + slot * _SLOT.size, task_id + 1, attempt)

    def note_idle(self, slot: int) -> None:
        """The slot runs nothing."""
        _TASK.pack_into(self._page, _HEAD.size + slot * _SLOT.size, 0, 0)

    def note_exit(self, thread: int) -> None:
        """*thread* is about to end the process."""
        _HEAD.pack_into(self._page, 0, thread)

    # -- the nanny's

    @property
    def exits(self) -> int:
        """The thread that ended the process by ``os._exit``; 0 for none."""
        (thread,) = _HEAD.unpack_from(self._page)
        assert isinstance(thread, int)
        return thread

    def running(self) -> list[Running]:
        """What runs, or ran at the end."""
        entries = _SLOT.iter_unpack(self._page[_HEAD.size :])
        return [Running(task - 1, attempt, thread) for task, attempt, thread in entries if task]
