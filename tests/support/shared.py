"""Large values that processes share: how they are seen from outside, and tasks that make them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from tests.support.misdeeds import begin, until

#: what takes more is a value; what takes less is a probe
PROBE_BYTES = 4096
MIB = 2**20


class Memory(NamedTuple):
    """A nameless file in memory, as a process has it open: its number, and bytes it takes."""

    inode: int
    nbytes: int


def memories(pid):
    """The `Memory` of each descriptor of a process that is a value's; none of one that is gone."""
    found = []
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(each).startswith("/memfd:twisted_dist"):
                    about = each.stat()
                    if about.st_size > PROBE_BYTES:
                        found.append(Memory(about.st_ino, 512 * about.st_blocks))
    return found


def inodes(pid):
    """The numbers of `memories`."""
    return {each.inode for each in memories(pid)}


def mapped(array):
    """The number of the file that is mapped where *array* is, in this process; 0 for none."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
        where, _, _, _, inode, *_ = line.split()
        first, _, last = where.partition("-")
        if int(first, 16) <= address < int(last, 16):
            return int(inode)
    raise AssertionError("it is nowhere")


def everybody(*daemons):
    """Processes of daemons, those that they have started, and this one."""
    return [os.getpid(), *(each.pid for daemon in daemons for each in daemon.family())]


def kept(*daemons):
    """Values' memory that anybody still has."""
    return {each for pid in everybody(*daemons) for each in inodes(pid)}


class Sampler:
    """Looks every 50 ms at how much memory a daemon and what it started use.

    Attributes:
        most: bytes at most: what processes have alone, and what they share, counted once.
        seen: how often that was looked at.
    """

    def __init__(self, daemon):
        self._daemon = daemon
        self.most = self.seen = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stopped.wait(0.05):
            own = 0
            shared = {}
            for each in self._daemon.family():
                with contextlib.suppress(psutil.Error):
                    about = each.memory_info()
                    own += about.rss - about.shared
                    shared.update(memories(each.pid))
            self.most = max(self.most, own + sum(shared.values()))
            self.seen += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()


# -- tasks


def numbers(seed, nbytes):
    """An array of *nbytes*, another one for each *seed*."""
    return np.arange(seed, seed + nbytes // 8, dtype=np.int64)


def is_right(array, seed, nbytes):
    """Whether it is that of `numbers`."""
    return array.nbytes == nbytes and bool((array == numbers(seed, nbytes)).all())


def total(array):
    """Its sum."""
    return int(array.sum())


def where(array):
    """The number of the file that an input is in, and whether it may be written."""
    return mapped(array), array.flags.writeable


def part(arrays):
    """The first number of each."""
    return [int(each[0]) for each in arrays]


def text(seed, nbytes):
    """Bytes, which can be told from others."""
    return b"%012d" % seed + bytes(nbytes - 12)


def small(number):
    """No memory at all."""
    return number


def holds(path, nbytes):
    """Use memory until ``over`` is there."""
    memory = bytearray(nbytes)
    memory[::4096] = b"x" * len(range(0, nbytes, 4096))
    begin(path)
    until((path.parent / "over").exists)
    return 0 * len(memory)


_leaked = []


def leaks(nbytes, seconds):
    """Use memory, for a while, and never give it back; the process that does."""
    time.sleep(seconds)
    _leaked.append(b"x" * nbytes)
    return os.getpid()


def closes_from_5():
    """Close what has been opened since the process began, and give something large."""
    os.closerange(5, 300)
    return numbers(1, MIB)


def spoils():
    """Write over all shared memory that this process has open, and cut it short."""
    spoilt = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(each).startswith("/memfd:twisted_dist"):
                fd = os.open(each, os.O_RDWR)
                try:
                    os.pwrite(fd, b"spoilt" * 1000, 0)
                    os.ftruncate(fd, 0)
                    spoilt.append("cut short")
                except PermissionError:
                    spoilt.append("kept its size")
                finally:
                    os.close(fd)
    return spoilt


def reads_in_copy(array, seed, place):
    """Have a copy of the process read an input when ``go`` is there, long after this returns."""
    if os.fork() == 0:
        try:
            until((place / "go").exists)
            right = is_right(array, seed, array.nbytes)
            (place / ("right" if right else "wrong")).touch()
        finally:
            os._exit(0)
    return os.getpid()


def gives_twice(seed, nbytes):
    """Fork; both processes make something large of their own, and return it."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return numbers(seed if pid else -seed, nbytes)
