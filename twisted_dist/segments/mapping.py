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
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any, Final

from twisted_dist.segments.files import Identity, has_room, is_still, lock_to_read, unlock
from twisted_dist.segments.memory import map_to_read, unmap
from twisted_dist.segments.segment import Segment, offsets, open_place, span

#: values up to this size are copied: that is quicker than mapping them
COPIED_BYTES: Final = 2**20
#: bytes and mappings that are kept when no value is there any more
KEPT_BYTES: Final = 256 * 2**20
KEPT_MAPPINGS: Final = 16
#: mappings of values at a time, each with its descriptor; beyond that, values are copied
MOST_MAPPINGS: Final = 256


class _Mapping:
    """A file, mapped whole; its descriptor holds the lock."""

    __slots__ = ("address", "is_shared", "segment", "size", "users")

    def __init__(self, segment: Segment) -> None:
        fd = segment.file.fd
        self.size = os.fstat(fd).st_size
        self.address = map_to_read(fd, 0, self.size)
        self.segment = segment
        self.users = 0
        #: a copy of this process has it too, so that its lock must not be ended here
        self.is_shared = False

    def unmap(self) -> None:
        """Nothing may refer to it."""
        unmap(self.address, self.size)


class Mappings:
    """Gives values' buffers, from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: OrderedDict[Identity, _Mapping] = OrderedDict()
        #: mappings of values that are gone: whose turn it is sees to them
        self._gone: deque[_Mapping] = deque()
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
        with self._lock:
            mapping = self._mapping(segment)
            mapping.users += 1
            lock_to_read(mapping.segment.file.fd)
            self._trim()
        self._settle()
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
        key = segment.file.identity
        known = self._all.get(key)
        if known is not None and self._is_good(known, segment):
            self._all.move_to_end(key)
            return known
        mapping = _Mapping(segment)
        if known is not None:
            self._all[key[0], -id(known)] = known  # until its values end
        self._all[key] = mapping
        return mapping

    def _is_good(self, known: _Mapping, segment: Segment) -> bool:
        file = known.segment.file
        return (
            not known.is_shared
            and known.size >= segment.start + segment.span
            and is_still(file.fd, file.identity)  # else there is nothing to lock
        )

    def _ended(self, mapping: _Mapping) -> None:
        """A value is gone; told by whichever thread, also by one that is in here.

        The garbage collector does that, in the middle of anything: so nothing is done but where
        nobody is.
        """
        self._gone.append(mapping)
        self._settle()

    def _settle(self) -> None:
        while self._gone and self._lock.acquire(blocking=False):
            try:
                while self._gone:
                    mapping = self._gone.popleft()
                    mapping.users -= 1
                    file = mapping.segment.file
                    is_last = not mapping.users and not mapping.is_shared
                    if is_last and is_still(file.fd, file.identity):
                        unlock(file.fd)
                self._trim()
            finally:
                self._lock.release()

    def _trim(self) -> None:
        idle = [key for key, each in self._all.items() if not each.users]
        for key in [each for each in idle if self._all[each].is_shared]:
            idle.remove(key)  # nothing can be read by it any more
            self._all.pop(key).unmap()
        kept = sum(self._all[key].size for key in idle)
        while idle and (len(idle) > KEPT_MAPPINGS or kept > self.kept_bytes):
            mapping = self._all.pop(idle.pop(0))
            kept -= mapping.size
            mapping.unmap()

    def tidy(self) -> None:
        """Let go of what is kept without a value: none was read for a while."""
        with self._lock:
            for key in [key for key, each in self._all.items() if not each.users]:
                self._all.pop(key).unmap()
        self._settle()

    def note_fork(self) -> None:
        """A copy of this process is about to be made, with values that it may go on reading."""
        for each in list(self._all.values()):  # at once: other threads go on
            each.is_shared = True

    def note_copied(self) -> None:
        """This process is a copy: a thread that is not in it may have been in here."""
        self._lock = Lock()


_everywhere: Final[weakref.WeakSet[Mappings]] = weakref.WeakSet()


def _before_fork() -> None:
    for each in list(_everywhere):
        each.note_fork()


def _after_fork() -> None:
    for each in list(_everywhere):
        each.note_copied()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


#: this process'
MAPPINGS: Final = Mappings()
