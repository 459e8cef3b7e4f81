"""`Mappings`: a process reads segments where they are, without copying them.

To map memory costs a fault for every few pages when it is first read, which takes longer than
reading it. So a mapping is kept for a while after its value: the next value in the
same file (see `pool`) is there without a fault.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from threading import RLock
from typing import Any, Final

from twisted_dist.segments.files import has_room, lock_to_read, unlock
from twisted_dist.segments.segment import Segment, offsets, open_place, span

#: values up to this size are copied: that is quicker than mapping them
COPIED_BYTES: Final = 2**20
#: bytes and mappings that are kept when no value is there any more
KEPT_BYTES: Final = 256 * 2**20
KEPT_MAPPINGS: Final = 16
#: mappings of values at a time, each with its descriptor; beyond that, values are copied
MOST_MAPPINGS: Final = 256
_PROT_READ: Final = 1
_MAP_SHARED: Final = 1
_FAILED: Final = ctypes.c_void_p(-1).value
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
#: of all mappings, held while a copy of this process is made: it may never be free in that, else.
#: A value's end may come, by the garbage collector, in a thread that has it
_LOCK: Final = RLock()


class _Mapping:
    """A file, mapped whole; its descriptor holds the lock."""

    __slots__ = ("address", "is_shared", "segment", "size", "users")

    def __init__(self, segment: Segment) -> None:
        fd = segment.file.fd
        self.size = os.fstat(fd).st_size
        address = _libc.mmap(None, self.size, _PROT_READ, _MAP_SHARED, fd, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot map {self.size} bytes: {os.strerror(number)}")
        self.address: int = address
        self.segment = segment
        self.users = 0
        #: a copy of this process has it too, so that its lock must not be ended here
        self.is_shared = False

    def serves(self, key: tuple[int, int], size: int) -> bool:
        """Whether a value in a file of *size* may be read here, and locked by this descriptor."""
        if self.is_shared or self.size < size:
            return False
        try:  # user code may have closed it, and the number be another's by now
            about = os.fstat(self.segment.file.fd)
        except OSError:
            return False
        return (about.st_dev, about.st_ino) == key

    def unmap(self) -> None:
        """Nothing may refer to it."""
        _libc.munmap(self.address, self.size)


class Mappings:
    """Gives values' buffers, from any thread."""

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[int, int], _Mapping] = OrderedDict()
        #: how much is kept without a value
        self.kept_bytes = KEPT_BYTES
        _everywhere.add(self)

    def load(self, pid: int, place: Sequence[Any]) -> list[Any]:
        """Buffers of a value that a process has: read-only, and there while they are used.

        Raises:
            OSError: as of `open_place`, or there is no memory to map into.
        """
        segment = open_place(pid, place)
        if segment.span <= COPIED_BYTES or len(self._all) >= MOST_MAPPINGS or not has_room():
            return list(segment.buffers())
        with _LOCK:
            mapping = self._mapping(segment)
            mapping.users += 1
            lock_to_read(mapping.segment.file.fd)
            self._trim()
        # an object of its own for each value: whatever is made of its memory, however it is
        # cut and cast, refers to this, and the end of this is the end of all of it
        size = span(segment.lengths)
        memory = (ctypes.c_ubyte * size).from_address(mapping.address + segment.start)
        ended = weakref.finalize(memory, partial(self._ended, mapping))
        ended.atexit = False
        whole = pickle.PickleBuffer(memory).raw().toreadonly()
        places = zip(offsets(segment.lengths), segment.lengths)
        return [whole[at : at + length] for at, length in places]

    def _mapping(self, segment: Segment) -> _Mapping:
        about = os.fstat(segment.file.fd)
        key = (about.st_dev, about.st_ino)
        known = self._all.get(key)
        if known is not None and known.serves(key, about.st_size):
            self._all.move_to_end(key)
            return known
        mapping = _Mapping(segment)
        if known is not None:
            self._all[about.st_dev, -id(known)] = known  # until its values end
        self._all[key] = mapping
        return mapping

    def _ended(self, mapping: _Mapping) -> None:
        """A value is gone."""
        with _LOCK:
            mapping.users -= 1
            if not mapping.users and not mapping.is_shared:
                unlock(mapping.segment.file.fd)
            self._trim()

    def _trim(self) -> None:
        idle = [key for key, each in self._all.items() if not each.users]
        kept = sum(self._all[key].size for key in idle)
        while idle and (
            len(idle) > KEPT_MAPPINGS or kept > self.kept_bytes or self._all[idle[0]].is_shared
        ):
            mapping = self._all.pop(idle.pop(0))
            kept -= mapping.size
            mapping.unmap()

    def tidy(self) -> None:
        """Let go of what is kept without a value: none was read for a while."""
        with _LOCK:
            for key in [key for key, each in self._all.items() if not each.users]:
                self._all.pop(key).unmap()

    def note_fork(self) -> None:
        """A copy of this process is about to be made, with values that it may go on reading."""
        for each in self._all.values():
            each.is_shared = True


_everywhere: Final[weakref.WeakSet[Mappings]] = weakref.WeakSet()


def _before_fork() -> None:
    _LOCK.acquire()
    for each in list(_everywhere):
        each.note_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )


#: this process'
MAPPINGS: Final = Mappings()
