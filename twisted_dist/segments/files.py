"""Files without a name: in memory, or on a disk. The last descriptor of one is its end.

So nothing has to be cleaned up, however a process ends. Other processes of the same user reach
such a file through ``/proc/PID/fd`` (proc(5)), which asks the kernel for the same permission as
looking at that process does; there is no name to guess and no socket to guard.

Who reads one holds a lock of the open file description (fcntl(2), ``F_OFD_SETLK``), which the
kernel ends with the descriptor and all mappings made from it: whoever wants to write anew
learns from the kernel, not from messages that may be lost, whether anybody still reads.
"""

from __future__ import annotations

import fcntl
import os
import resource
import stat
import struct
import sys
import tempfile
from contextlib import suppress
from functools import cache
from typing import Final

#: whether values can be shared here at all: so far, on Linux
CAN_SHARE: Final = (
    sys.platform == "linux" and hasattr(os, "memfd_create") and hasattr(fcntl, "F_OFD_SETLK")
)
_OFD_SETLK: Final = getattr(fcntl, "F_OFD_SETLK", 37)
#: struct flock of 64-bit Linux: type, whence, start, length, pid; the first byte is locked
_FLOCK: Final = "hhqqi4x"

#: device and inode
Identity = tuple[int, int]


class File:
    """A descriptor that is closed when nobody refers to it any more.

    Attributes:
        alive: how many there are in this process.
        identity: which file it is of; user code may close it, and its number be another's then.
    """

    __slots__ = ("__weakref__", "fd", "identity")
    alive = 0

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = identity_of(fd)
        File.alive += 1

    def __del__(self) -> None:
        self.close()
        File.alive -= 1

    def close(self) -> None:
        """Nobody refers to it."""
        if is_still(self.fd, self.identity):
            os.close(self.fd)


@cache
def _memory_device() -> int:
    """What all files in memory are on."""
    fd = in_memory()
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def is_in_memory(file: File) -> bool:
    """Whether it takes memory, rather than a disk."""
    return file.identity[0] == _memory_device()


def identity_of(fd: int) -> Identity:
    """Of the file that is open there. Raises OSError."""
    about = os.fstat(fd)
    return about.st_dev, about.st_ino


def is_still(fd: int, identity: Identity) -> bool:
    """Whether user code has not closed what was open there."""
    try:
        return identity_of(fd) == identity
    except OSError:
        return False


def has_room() -> bool:
    """Whether there may be more: not where they are a quarter of all descriptors allowed."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft == resource.RLIM_INFINITY or File.alive < soft // 4


def in_memory() -> int:
    """A new file in memory, to write and read; one that is mapped cannot be cut short."""
    made = os.memfd_create("twisted_dist", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with suppress(OSError):
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return made


def on_disk(directory: str) -> int:
    """A new file on the disk that *directory* is on. Raises OSError."""
    with suppress(OSError, AttributeError):  # not every file system can
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fd, path = tempfile.mkstemp(prefix="twisted_dist-", dir=directory)
    os.unlink(path)
    return fd


def reopen(pid: int, fd: int) -> int:
    """Another process' file without a name, to read it: a description of its own.

    Raises:
        OSError: the process is gone, is another user's, has closed it, or it is no such file.
    """
    path = f"/proc/{pid}/fd/{fd}"
    # looked at before it is opened: opening a device or a pipe may do something
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink:
        raise OSError(f"{path} is not a file without a name")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, _OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 1, 0))
    except OSError:  # EAGAIN: somebody else's forbids it
        return False
    return True


def lock_to_read(fd: int) -> bool:
    """Nobody may write anew until *fd*, and what is mapped from it, is gone, or `unlock`."""
    return _lock(fd, fcntl.F_RDLCK)


def lock_to_write(fd: int) -> bool:
    """Whether nobody reads, nor will until `unlock`."""
    return _lock(fd, fcntl.F_WRLCK)


def unlock(fd: int) -> None:
    """End either lock."""
    _lock(fd, fcntl.F_UNLCK)
