"""`Segment`: one value's buffers in a file without a name, open for reading."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from twisted_dist.segments.files import File, is_in_memory, lock_to_read, reopen

#: where buffers begin: on lines of the processor's cache, as arrays like it
ALIGNMENT: Final = 64
#: of each segment, and in its first bytes: says that this is still the value that was meant
TAG_BYTES: Final = 16
_MAGIC: Final = b"td-seg"


def new_tag() -> bytes:
    """One that no other segment has."""
    return _MAGIC + os.urandom(TAG_BYTES - len(_MAGIC))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def span(lengths: Sequence[int]) -> int:
    """Bytes of a segment with such buffers: the tag's line, and each buffer from a line on."""
    return ALIGNMENT + sum(map(_padded, lengths))


def offsets(lengths: Sequence[int]) -> list[int]:
    """Where in a segment buffers of such lengths are."""
    found = []
    at = ALIGNMENT
    for length in lengths:
        found.append(at)
        at += _padded(length)
    return found


class StaleError(OSError):
    """What is there is not, or no longer, the value that was meant."""


class Segment:
    """A value that is not in this process' own memory.

    The file stays until nobody refers to this, nor has it open or mapped: see `files`.

    Args:
        file: with it; several may share one.
        start: where in the file it begins.
        tag: its own.
        lengths: bytes of each of its buffers, the pickle's first.
        in_memory: whether it takes memory, rather than a disk.
    """

    __slots__ = ("__weakref__", "file", "in_memory", "lengths", "start", "tag")

    def __init__(
        self,
        file: File,
        start: int,
        tag: bytes,
        lengths: Sequence[int],
        in_memory: bool = True,
    ) -> None:
        self.file = file
        self.start = start
        self.tag = tag
        self.lengths = lengths
        self.in_memory = in_memory

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(self.lengths)

    @property
    def span(self) -> int:
        """Bytes that it takes."""
        return span(self.lengths)

    def place(self) -> list[Any]:
        """Where another process finds it: this one's descriptor, start, tag and lengths."""
        return [self.file.fd, self.start, self.tag, list(self.lengths)]

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from *offset* on, in the segment. Raises OSError where they are not there."""
        parts = []
        while size > 0:
            part = os.pread(self.file.fd, size, self.start + offset)
            if not part:
                raise StaleError("a segment ends before its end")
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def buffers(self) -> list[bytes]:
        """Copies of the buffers."""
        return [self.read(at, size) for at, size in zip(offsets(self.lengths), self.lengths)]


def is_place(place: Any) -> bool:
    """Whether something that came over a wire has the form of `Segment.place`."""
    if type(place) is not list or tuple(map(type, place)) != (int, int, bytes, list):
        return False
    fd, start, tag, lengths = place
    # no file is longer; and the kernel's numbers end there
    return fd >= 0 and 0 <= start < 2**62 and len(tag) == TAG_BYTES and are_lengths(lengths)


def are_lengths(lengths: Any) -> bool:
    """Whether something that came over a wire is lengths of buffers."""
    return (
        type(lengths) is list
        and set(map(type, lengths)) == {int}
        and min(lengths) >= 0
        and sum(lengths) < 2**62
    )


def open_place(pid: int, place: Sequence[Any]) -> Segment:
    """A segment that another process, or this one, has open.

    Raises:
        OSError: that process is gone, or is another user's, or of another host.
        StaleError: something else is there by now.
    """
    theirs, start, tag, lengths = place
    file = File(reopen(pid, theirs))
    # the lock comes first: once it is held, what the tag says stays true
    if not lock_to_read(file.fd) or os.pread(file.fd, TAG_BYTES, start) != tag:
        raise StaleError("that segment is another value's by now")
    if os.fstat(file.fd).st_size < start + span(lengths):
        raise StaleError("that segment is shorter than its value")
    return Segment(file, start, tag, lengths, in_memory=is_in_memory(file))
