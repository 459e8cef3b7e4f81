"""`SegmentPool`: writes values into memory that is shared, the same memory again and again.

Memory that a process gets anew has to be cleared, page by page, before it can be written:
that takes twice as long as writing it. So files of values that nobody has any more are kept, a few
of them and for a short time, and written anew.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Final, NamedTuple

from twisted_dist.segments.copying import LEAST_BYTES, Room
from twisted_dist.segments.files import File, Identity, in_memory, is_still, lock_to_write, unlock
from twisted_dist.segments.large_pages import LargePages
from twisted_dist.segments.segment import ALIGNMENT, Segment, new_tag, offsets, span

#: bytes and files that are kept for later values, at most
KEPT_BYTES: Final = 256 * 2**20
KEPT_FILES: Final = 16
#: a file is taken for a value down to one so many times smaller
_ROOMY: Final = 2
#: bytes that are written in one call
_WRITE_BYTES: Final = 16 * 2**20


class _Kept(NamedTuple):
    """A file that nobody refers to; as of `_Pooled`."""

    fd: int
    size: int
    large: int
    identity: Identity
    room: Room | None


class _Pooled(File):
    """A file that goes back to its pool.

    Attributes:
        size: its bytes.
        large: how many of these `LargePages` has seen to.
        room: where it is mapped to be written, if it is.
    """

    __slots__ = ("copies", "large", "pool", "room", "size")

    def __init__(
        self, fd: int, size: int, pool: SegmentPool, large: int = 0, room: Room | None = None
    ) -> None:
        super().__init__(fd)
        self.room = room
        self.size = size
        self.large = large
        self.pool = pool
        self.copies = pool.copies

    def close(self) -> None:
        """Go back."""
        if self.copies != self.pool.copies:  # it is the original process' to write
            super().close()
            return
        # called wherever the last reference goes, in any thread: so no lock is taken here
        self.pool.returned.append(_Kept(self.fd, self.size, self.large, self.identity, self.room))
        if len(self.pool.returned) > KEPT_FILES or not self.pool.kept_bytes:
            self.pool.tidy_if_free()


class SegmentPool:
    """Makes segments, from any thread.

    Attributes:
        returned: files of segments that this process has let go of.
        kept_bytes: how much is kept of these.
        maps: whether what is written again is mapped for that, and counts as this process' memory.
        pages: has those that are used again in large ones; None for nobody.
        copies: how many forks this process is away from that which made the pool.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: list[_Kept] = []
        self.returned: deque[_Kept] = deque()
        self.maps = False
        self.pages: LargePages | None = None
        self.kept_bytes = KEPT_BYTES
        self.copies = 0
        _everywhere.add(self)

    def write(self, buffers: Sequence[Any]) -> Segment:
        """A segment with these bytes-like buffers. Raises OSError: there is no room."""
        views = [memoryview(each).cast("B") for each in buffers]
        writing = self.begin([view.nbytes for view in views])
        for at, view in zip(offsets(writing.lengths), views):
            writing.write(at, view)
        return writing.finish()

    def begin(self, lengths: Sequence[int]) -> Writing:
        """A segment to be written piece by piece. Raises OSError."""
        size = span(lengths)
        file = self._take(size)
        return Writing(file, new_tag(), list(lengths))

    def _take(self, size: int) -> _Pooled:
        """A file of *size* bytes or more that nobody reads."""
        again = self._take_kept(size)
        if again is not None:  # ours alone by now, so others need not wait for this
            large = again.large
            if self.pages is not None:
                large = self.pages.improve(again.fd, large, again.size)
            room = again.room
            if self.maps and room is None and size >= LEAST_BYTES:
                with suppress(OSError):
                    room = Room(again.fd, again.size)
            return _Pooled(again.fd, again.size, self, large, room)
        fd = in_memory()
        try:
            os.ftruncate(fd, size)
        except BaseException:
            os.close(fd)  # rather than to keep one that has not the size it is kept for
            raise
        lock_to_write(fd)
        return _Pooled(fd, size, self)

    def _take_kept(self, size: int) -> _Kept | None:
        with self._lock:
            self._gather()
            fitting = [each for each in self._kept if size <= each.size <= _ROOMY * size]
            for each in sorted(fitting, key=lambda each: each.size):
                self._kept.remove(each)
                if not is_still(each.fd, each.identity):
                    continue  # user code has closed it, and the number may be anything's
                if lock_to_write(each.fd):
                    return each
                self._kept.insert(0, each)
            self._trim()
        return None

    def _gather(self) -> None:
        while self.returned:
            self._kept.append(self.returned.popleft())

    def _trim(self) -> None:
        """The oldest go, until what is kept is within bounds."""
        while len(self._kept) > KEPT_FILES or self._excess() > 0:
            self._close(self._kept.pop(0))

    def _excess(self) -> int:
        return sum(each.size for each in self._kept) - self.kept_bytes

    def tidy_if_free(self) -> None:
        """`tidy`, unless some thread is in here: it will do that itself."""
        if self._lock.acquire(blocking=False):
            try:
                self._gather()
                self._trim()
            finally:
                self._lock.release()

    def tidy(self, everything: bool = False) -> None:
        """Let go of more than is kept, or of *everything*: nothing was written for a while."""
        with self._lock:
            self._gather()
            self._trim()
            while everything and self._kept:
                self._close(self._kept.pop())

    def note_copied(self) -> None:
        """This process is a copy: its descriptions are the original's as well, and so the locks.

        Both could write into a file at a time; so the copy lets go of all of them.
        """
        self._lock = Lock()  # a thread that is not here may have had it
        self.copies += 1
        self._gather()
        while self._kept:
            self._close(self._kept.pop())

    def _close(self, kept: _Kept) -> None:
        if is_still(kept.fd, kept.identity):
            os.close(kept.fd)


_everywhere: Final[weakref.WeakSet[SegmentPool]] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_everywhere):
        each.note_copied()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Writing:
    """A segment that is being written.

    Args:
        file: for it, locked.
        tag: its own.
        lengths: of its buffers.
    """

    def __init__(self, file: _Pooled, tag: bytes, lengths: list[int]) -> None:
        self._file = file
        self._tag = tag
        self.lengths = lengths
        os.pwrite(file.fd, tag.ljust(ALIGNMENT, b"\0"), 0)

    def write(self, offset: int, data: Any) -> None:
        """Put *data* where it belongs. Raises OSError."""
        view = memoryview(data)
        file = self._file
        if file.room is not None and file.room.copy(offset, view, file):
            return
        while view.nbytes:
            done = os.pwrite(file.fd, view[:_WRITE_BYTES], offset)
            view = view[done:]
            offset += done

    def finish(self) -> Segment:
        """The segment, for everybody to read."""
        unlock(self._file.fd)
        return Segment(self._file, 0, self._tag, self.lengths)


#: this process'
POOL: Final = SegmentPool()
