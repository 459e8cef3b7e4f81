"""A link between two network namespaces that delays and loses what it carries.

For kernels without ``tc netem``: two TAP devices, and a process that copies between them.
It is told what to do on its standard input, and ends when that closes.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x1002
#: frames that are taken from a device before the other is looked at
_AT_ONCE = 64


class RoughLink:
    """A link with a device in each namespace, smooth in the beginning.

    Args:
        here: a namespace and the name of the device in it.
        there: likewise.
        seed: which frames are lost.
    """

    def __init__(self, here: tuple[str, str], there: tuple[str, str], seed: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *here, *there, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def set(self, *, delay_s: float = 0.0, loss: float = 0.0) -> None:
        """Delay each frame by so much, and lose so many of 1, in each direction."""
        self._process.stdin.write(json.dumps([delay_s, loss]) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the process; the devices go with it."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _tap(namespace: str, name: str) -> int:
    """A new TAP device in a namespace; this process stays where it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
        libc.setns(home, _CLONE_NEWNET)
    finally:
        os.close(home)
        os.close(there)
    return device


def _write(device: int, frame: bytes) -> None:
    try:
        os.write(device, frame)
    except OSError:
        pass  # the device is down, or full: lost, as on any link


def _copy(ends: tuple[int, int], chance: random.Random) -> None:
    """Carry frames until standard input closes."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    delay_s = loss = 0.0
    late: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait_s = max(0.0, late[0][0] - time.monotonic()) if late else None
        for ready in select.select([0, *ends], [], [], wait_s)[0]:
            if ready == 0:
                told = os.read(0, 4096)
                if not told:
                    return
                delay_s, loss = json.loads(told.splitlines()[-1])
                continue
            for _ in range(_AT_ONCE):
                try:
                    frame = os.read(ready, 65536)
                except BlockingIOError:
                    break
                except OSError:
                    break  # the device is down
                if chance.random() < loss:
                    continue
                count += 1
                heapq.heappush(late, (time.monotonic() + delay_s, count, other[ready], frame))
        while late and late[0][0] <= time.monotonic():
            _, _, device, frame = heapq.heappop(late)
            _write(device, frame)


if __name__ == "__main__":
    _here, _there = sys.argv[1:3], sys.argv[3:5]
    _ends = _tap(*_here), _tap(*_there)
    print("ready", flush=True)
    _copy(_ends, random.Random(int(sys.argv[5])))
