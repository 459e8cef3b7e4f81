"""mmap(2), munmap(2) and madvise(2) for files, as the standard library does not offer them.

`mmap.mmap` has a descriptor of its own for each mapping and cannot say where it is to be.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Final

#: bytes of a page that the processor finds in one step, where pages have 4 KiB: on x86-64 and arm64
LARGE_PAGE: Final = 2 * 2**20
_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2
_MAP_SHARED, _MAP_PRIVATE = 0x01, 0x02
_MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_POPULATE = 0x10, 0x20, 0x4000, 0x8000
#: of Linux 6.1 and later
_MADV_COLLAPSE: Final = 25
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
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _problem(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"cannot {what}: {os.strerror(number)}")


def _mmap(address: int | None, size: int, protection: int, flags: int, fd: int, start: int) -> int:
    found = _libc.mmap(address, size, protection, flags, fd, start)
    if found == _FAILED:
        raise _problem(f"map {size} bytes")
    assert isinstance(found, int)
    return found


def map_to_read(fd: int, start: int, size: int) -> int:
    """The address at which *size* bytes of a file can be read, from *start*, a multiple of pages.

    Where that is a multiple of large pages, those of the file are large in the mapping too; newer
    kernels choose such an address by themselves.

    Raises:
        OSError: there is no room.
    """
    if size < LARGE_PAGE:
        return _mmap(None, size, _PROT_READ, _MAP_SHARED, fd, start)
    room = size + LARGE_PAGE
    begin = _mmap(None, room, _PROT_NONE, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
    address = begin + -begin % LARGE_PAGE
    try:
        _mmap(address, size, _PROT_READ, _MAP_SHARED | _MAP_FIXED, fd, start)
    except OSError:
        unmap(begin, room)
        raise
    unmap(begin, address - begin)
    page = os.sysconf("SC_PAGESIZE")
    end = address + size + -size % page
    unmap(end, begin + room - end)
    return address


def map_to_write(fd: int, size: int) -> int:
    """The address at which a file of *size* bytes can be written; all of it is there at once.

    Raises:
        OSError: there is no room.
    """
    # what is not there could not be had later but by writing, and a refusal of that is a signal
    os.posix_fallocate(fd, 0, size)
    return _mmap(None, size, _PROT_READ | _PROT_WRITE, _MAP_SHARED | _MAP_POPULATE, fd, 0)


def unmap(address: int, size: int) -> None:
    """Nothing may refer to it."""
    if size:
        _libc.munmap(address, size)


@cache
def can_collapse() -> bool:
    """Whether this system has large pages, of the size that is meant here."""
    try:
        told = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").read_text("ascii")
    except OSError:
        return False
    return told.strip() == str(LARGE_PAGE)


def collapse(fd: int, start: int, size: int) -> None:
    """Have part of a file in memory be in large pages; what it holds stays.

    Args:
        fd: of the file.
        start: in bytes, a multiple of large pages.
        size: likewise, and all within the file.

    Raises:
        OSError: the kernel cannot, or not now; part of it may be.
    """
    for at in range(start, start + size, LARGE_PAGE):
        os.posix_fallocate(fd, at, 1)  # where nothing was written, nothing would be collapsed
    address = map_to_read(fd, start, size)
    try:
        if _libc.madvise(address, size, _MADV_COLLAPSE):
            raise _problem(f"have {size} bytes in large pages")
    finally:
        unmap(address, size)
