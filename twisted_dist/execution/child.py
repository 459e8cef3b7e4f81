"""The nanny's child: the only process in which a nanny's user code runs.

Talks frames (docs/protocol.md, "The child's channel") over an inherited socket. It ends
when that socket closes, and the kernel kills it when its nanny dies, so it is never an
orphan. A shared page says which task each slot is running, so that the nanny can name
the one that killed the process.
"""

from __future__ import annotations

import ctypes
import gc
import io
import mmap
import os
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

import msgpack

from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec
from twisted_dist.execution.slots import SlotPool

# nanny → child
FUNCTION, RUN, DROP, STOP = 1, 2, 3, 4
# child → nanny
READY, FINISHED, ERRED, DROPPED = 10, 11, 12, 13

#: one slot's entry in the status page: id + 1 of the running task (0: idle), its attempt
STATUS: Final = struct.Struct("<QQ")
#: of one frame between nanny and child
MAX_CHANNEL_BYTES: Final = 2**31
#: results are gathered into frames of about this size
PIECE_BYTES: Final = 4 * 2**20
_HEADER: Final = struct.Struct(">I")
_PR_SET_PDEATHSIG: Final = 1
#: seconds between flushes while tasks are unfinished
TICK_S: Final = 0.005


def send_frame(sock: socket.socket, message: list[Any]) -> None:
    """Write one frame, blocking."""
    payload = msgpack.packb(message, use_bin_type=True)
    sock.sendall(_HEADER.pack(len(payload)) + payload)


def _receive(sock: socket.socket, count: int) -> bytearray | None:
    """Exactly *count* bytes, straight into their buffer; None at the end of the stream."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = sock.recv_into(view)
        if not got:
            return None
        view = view[got:]
    return data


def _receive_frame(sock: socket.socket) -> list[Any] | None:
    header = _receive(sock, 4)
    if header is None:
        return None
    payload = _receive(sock, _HEADER.unpack(header)[0])
    if payload is None:
        return None
    message = msgpack.unpackb(payload, raw=False, strict_map_key=False, use_list=True)
    assert isinstance(message, list)
    return message


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


class Child:
    """Reads frames in the main thread; runs tasks in the slots of a pool."""

    def __init__(self, sock: socket.socket, status: mmap.mmap, nthreads: int) -> None:
        self._sock = sock
        self._status = status
        self._sending = threading.Lock()
        self._runner = TaskRunner()
        self._pool = SlotPool(nthreads, self._runner, self._deliver, self._note)
        self._handlers: dict[int, Callable[..., None]] = {
            FUNCTION: self._runner.add_function,
            RUN: self._run,
            DROP: self._drop,
        }

    def _note(self, slot: int, task_id: int, attempt: int) -> None:
        STATUS.pack_into(self._status, slot * STATUS.size, task_id + 1, attempt)

    def serve(self) -> None:
        """Until the nanny goes or says stop."""
        self._send([READY, os.getpid()])
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while True:
            while self._pool.unfinished and not poll.poll(TICK_S * 1000):
                self._pool.flush()
            message = _receive_frame(self._sock)
            if message is None or message[0] == STOP:
                return
            self._handlers[message[0]](*message[1:])

    def _run(self, runs: list[Any], inputs: dict[int, Any]) -> None:
        for digest, ids, attempts, calls, deps in runs:
            if deps:
                self._pool.put(
                    TaskSpec(i, a, digest, c, {d: inputs[d] for d in needs})
                    for i, a, c, needs in zip(ids, attempts, calls, deps)
                )
            else:
                self._pool.put(
                    TaskSpec(i, a, digest, c, {}) for i, a, c in zip(ids, attempts, calls)
                )

    def _drop(self, ids: list[int]) -> None:
        self._send([DROPPED, self._pool.drop(ids)])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        try:
            self._deliver_all(outcomes)
        except BaseException:  # of ours, not of a task: a slot that ended would be missed by none
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # so that the nanny starts anew

    def _deliver_all(self, outcomes: list[Outcome]) -> None:
        start = size = 0
        for index, each in enumerate(outcomes):
            if size + each.nbytes > PIECE_BYTES and index > start:
                self._deliver_piece(outcomes[start:index])
                start, size = index, 0
            size += each.nbytes
        self._deliver_piece(outcomes[start:])

    def _deliver_piece(self, outcomes: list[Outcome]) -> None:
        good = [each for each in outcomes if each.error is None]
        if good:
            self._send(
                [
                    FINISHED,
                    [each.task_id for each in good],
                    [each.attempt for each in good],
                    [each.value for each in good],
                    [each.nbytes for each in good],
                    [each.duration_us for each in good],
                ]
            )
        bad = [(each, each.error) for each in outcomes if each.error is not None]
        if bad:
            self._send(
                [
                    ERRED,
                    [each.task_id for each, _ in bad],
                    [each.attempt for each, _ in bad],
                    [error[0] for _, error in bad],
                    [error[1] for _, error in bad],
                ]
            )

    def _send(self, message: list[Any]) -> None:
        with self._sending:
            try:
                send_frame(self._sock, message)
            except OSError:
                os._exit(0)  # the nanny is gone; nobody is left to tell


def main(argv: list[str]) -> None:
    """``python -m twisted_dist.execution SOCKET_FD STATUS_FD NTHREADS PARENT_PID``."""
    socket_fd, status_fd, nthreads, parent_pid = map(int, argv)
    _die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the nanny's to hear
    sys.setswitchinterval(0.0005)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a task prints is seen at once
    for fd in (socket_fd, status_fd):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=socket_fd)
    status = mmap.mmap(status_fd, nthreads * STATUS.size)
    gc.freeze()  # what is imported by now is not looked at again; user code sets the rest
    Child(sock, status, nthreads).serve()
    sys.stdout.flush()
    os._exit(0)
