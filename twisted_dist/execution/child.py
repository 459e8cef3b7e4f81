"""The nanny's child: the only process in which a nanny's user code runs.

Talks frames (docs/protocol.md, "The child's channel") over an inherited socket. It ends
when that socket closes, and the kernel kills it when its nanny dies, so it is never an
orphan. A shared page says which task each slot is running, so that the nanny can name
the one that killed the process.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn

from twisted_dist.aliases import Value
from twisted_dist.errors import ConnectionClosedError, RefusedError
from twisted_dist.execution.alarm import make_alarm
from twisted_dist.execution.channel import Channel
from twisted_dist.execution.current import Pass, RunningTask
from twisted_dist.execution.errands import ErrandPool
from twisted_dist.execution.output import Output
from twisted_dist.execution.payloads import Placed
from twisted_dist.execution.pending import MOST_PENDING
from twisted_dist.execution.process import note_endings, preload, prepare
from twisted_dist.execution.runner import Outcome, TaskRunner, TaskSpec
from twisted_dist.execution.slots import MOST_WAITING, Hooks, SlotPool
from twisted_dist.execution.status import StatusPage
from twisted_dist.execution.uploads import Uploads
from twisted_dist.segments.large_pages import LargePages
from twisted_dist.segments.pool import POOL
from twisted_dist.segments.probe import KEEPING, can_read, lend_probe, tidy
from twisted_dist.segments.segment import Segment, is_place

# nanny → child
FUNCTION, RUN, DROP, STOP, PASS, STOP_TASKS = 1, 2, 3, 4, 5, 6
SHARE, TAKEN, TIDY = 7, 8, 9
UPLOAD, FORGET_UPLOADS = 20, 21
ERRAND, STOP_ERRANDS = 22, 23
# child → nanny
READY, FINISHED, ERRED, DROPPED, WAITING, PASS_WANTED, STOPPING = 10, 11, 12, 13, 14, 15, 16
OUTPUT, SHARES, UPLOADED = 17, 18, 19
ERRAND_DONE = 24

#: exit status: a task has closed the descriptors of its process (as sysexits' EX_IOERR)
CHANNEL_BROKEN: Final = 74
#: leaves without a note of whose doing it is: none of a task's
_leave: Final = os._exit
#: results are gathered into frames of about this size
PIECE_BYTES: Final = 4 * 2**20
#: seconds between flushes while tasks are unfinished
TICK_S: Final = 0.005
#: seconds that a slot's task may take until another thread reads for it: soon where that
#: could give other slots work, else when results and withdrawals should not wait longer
READ_SOON_S: Final = 0.0003
READ_LATE_S: Final = 0.005
#: seconds that a task waits for its nanny to let it submit tasks
PASS_S: Final = 60.0


def most_slots(nthreads: int) -> int:
    """Entries of the status page: tasks that wait for something have one each as well."""
    return nthreads + MOST_WAITING + MOST_PENDING


def _note_pending(status: StatusPage, first: int, index: int, spec: TaskSpec | None) -> None:
    """In the event loop's thread: a task waits on it, or no longer."""
    if spec is None:
        status.note_idle(first + index)
    else:
        status.note_thread(first + index, threading.get_ident())
        status.note_task(first + index, spec.task_id, spec.attempt)


def _end_on_error() -> NoReturn:
    """End the process after an error of ours: nobody would miss a thread that ended."""
    problem = sys.exc_info()[1]
    if isinstance(problem, OSError) and problem.errno == errno.EBADF:
        _leave(CHANNEL_BROKEN)
    with suppress(OSError, ValueError):
        traceback.print_exc(file=sys.__stderr__)
    _leave(1)  # so that the nanny starts anew


class Child:
    """Runs tasks in the slots of a pool; a slot that has none reads from the nanny.

    A hand-off from a reading thread to a slot costs as much as a small task altogether
    (docs/benchmarks.md), so there is none where a slot is free: it reads, and runs what it
    has read. While its task lasts longer than a moment, the main thread's `watch` reads
    instead, until a slot is free again.
    """

    def __init__(self, sock: socket.socket, status: StatusPage, nthreads: int) -> None:
        self._channel = Channel(sock)
        self.output = Output(lambda pieces: self._send([OUTPUT, pieces]))
        self._runner = TaskRunner()
        self._uploads = Uploads(self._runner.forget_loaded)
        self._errands = ErrandPool(self._runner, self._errand_done)
        #: held by whoever reads
        self._reading = threading.Lock()
        #: the first task of the frames read by a slot: its own to run
        self._first: TaskSpec | None = None
        self._leads = False
        self._alarm = make_alarm(READ_LATE_S if nthreads == 1 else READ_SOON_S)
        self._alarm_set = False
        self._handlers: dict[int, Callable[..., None]] = {
            FUNCTION: self._runner.add_function,
            RUN: self._run,
            DROP: self._drop,
            STOP_TASKS: self._stop_tasks,
            PASS: self._take_pass,
            SHARE: self._share,
            TAKEN: self._taken,
            TIDY: tidy,
            UPLOAD: self._upload,
            FORGET_UPLOADS: self._forget_uploads,
            ERRAND: self._errands.begin,
            STOP_ERRANDS: self._errands.stop,
        }
        self._nanny = os.getppid()
        #: results that the nanny has not opened yet, by their descriptors
        self._lent: dict[int, Segment] = {}
        #: {request: where its answer goes}
        self._passes: dict[int, SimpleQueue[list[Any]]] = {}
        self._requests = count(1)
        hooks = Hooks(
            on_thread=lambda slot: status.note_thread(slot, threading.get_ident()),
            on_start=status.note_task,
            on_end=status.note_idle,
            on_pending=partial(_note_pending, status, nthreads + MOST_WAITING),
            on_wait=self._tell_waiting,
            ask_pass=self._ask_pass,
            lead=self._lead,
            more=self._channel.has_more,
            on_error=_end_on_error,
        )
        self._pool = SlotPool(nthreads, self._runner, self._deliver, hooks)

    def become_copy(self) -> None:
        """In a copy of this process that a task has forked: only end that task's code."""
        self.output.give_back()
        self._pool.is_copy = self._errands.is_copy = True

    def _lead(self) -> TaskSpec | None:
        """In a slot's thread: read until there is a task; None where somebody else reads."""
        if not self._reading.acquire(blocking=False):
            return None
        while (first := self._first) is None:
            while self._pool.unfinished and not self._channel.wait(TICK_S):
                self._pool.flush()
            self._read(leads=True)
        self._first = None
        self._reading.release()
        # not before: it may go off at once, and find us reading. One that is set for an
        # earlier task will do, so that a small task costs no system call for it
        if not self._alarm_set:
            self._alarm_set = True
            self._alarm.set()
        return first

    def watch(self) -> None:
        """In the main thread, for ever: read while no slot is free to."""
        probe = lend_probe()
        self._send([READY, os.getpid(), probe and probe.place()])
        self._pool.start()
        while True:
            self._alarm.wait()
            self._alarm_set = False
            if not self._reading.acquire(blocking=False):
                continue
            while not self._pool.idle:
                self._pool.flush()
                self.output.flush()
                if self._channel.wait(TICK_S):
                    self._read(leads=False)
            self._reading.release()
            self._pool.look()
            # the slot may just have been given a task, so that nobody reads: look once more
            self._alarm_set = True
            self._alarm.set()

    def _read(self, leads: bool) -> None:
        message = self._channel.receive()
        if message is None or message[0] == STOP:
            self.output.flush()
            _leave(0)
        self._leads = leads
        self._handlers[message[0]](*message[1:])

    def _share(self, place: list[Any], kept_bytes: int) -> None:
        """The nanny can read what this process shares; if that is so the other way, do share."""
        KEEPING.limit(kept_bytes)
        KEEPING.begin()  # the nanny says when to
        # a client's value comes once, and it waits for that: results of some size come again
        POOL.pages = LargePages()
        if can_read(self._nanny, place):
            self._runner.share = True
            self._send([SHARES])

    def _taken(self, descriptors: list[int]) -> None:
        """The nanny has these open, or will not."""
        for each in descriptors:
            self._lent.pop(each, None)

    def _lend(self, value: Value) -> bytes | list[Any]:
        """A result as the channel carries it: a segment as where it is."""
        if not isinstance(value, Segment):
            return value
        self._lent[value.file.fd] = value
        return value.place()

    def _run(self, runs: list[Any], inputs: dict[int, Any]) -> None:
        for each, value in inputs.items():
            if is_place(value):
                inputs[each] = Placed(self._nanny, value)
        for digest, ids, attempts, calls, deps in runs:
            if deps:
                specs = [
                    TaskSpec(i, a, digest, c, [inputs[d] for d in needs])
                    for i, a, c, needs in zip(ids, attempts, calls, deps)
                ]
            else:
                specs = [TaskSpec(i, a, digest, c, ()) for i, a, c in zip(ids, attempts, calls)]
            if self._leads and self._first is None and specs:
                self._first = specs.pop(0)
                self._pool.keep(self._first)
            self._pool.put(specs)

    def _tell_waiting(self, ids: list[int], attempts: list[int], waits: bool) -> None:
        self._send([WAITING, ids, attempts, waits])

    def _ask_pass(self, task: RunningTask) -> Pass:
        """In a task's thread: ask the nanny, and wait; another thread reads the answer."""
        request = next(self._requests)
        answer: SimpleQueue[list[Any]] = SimpleQueue()
        self._passes[request] = answer
        self._send([PASS_WANTED, request, task.task_id, task.attempt])
        try:
            scheduler, access, ticket, error = answer.get(timeout=PASS_S)
        except Empty:
            raise ConnectionClosedError(f"no pass for this task within {PASS_S:g} s") from None
        finally:
            del self._passes[request]
        if error:
            raise RefusedError(error)
        return Pass(scheduler, access, ticket)

    def _take_pass(self, request: int, *answer: Any) -> None:
        waiting = self._passes.get(request)
        if waiting is not None:
            waiting.put(list(answer))

    def _upload(self, name: str, digest: bytes, *piece: Any) -> None:
        """Have a piece of an upload: tasks that are read after the last one find it."""
        error = self._uploads.add_piece(name, digest, *piece)
        if error is not None:
            self._send([UPLOADED, name, digest, error])

    def _forget_uploads(self) -> None:
        self._uploads.close()
        self._uploads = Uploads(self._runner.forget_loaded)

    def _errand_done(self, outcome: Outcome) -> None:
        """In an errand's thread."""
        self.output.flush()
        error = outcome.error and list(outcome.error)
        value = self._lend(outcome.value)
        self._send([ERRAND_DONE, outcome.task_id, value, outcome.nbytes, error])

    def _drop(self, ids: list[int]) -> None:
        self._send([DROPPED, self._pool.drop(ids)])

    def _stop_tasks(self, ids: list[int], attempts: list[int]) -> None:
        """End tasks; what has begun, by an exception: the nanny sees to it if that is no use."""
        dropped = self._pool.drop(ids)
        if dropped:
            self._send([DROPPED, dropped])
        stopped = self._pool.stop_tasks(zip(ids, attempts))
        if stopped:
            self._send([STOPPING, *map(list, zip(*stopped))])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        self.output.flush()  # what a task has written is known before what it has given
        if len(outcomes) == 1:
            self._deliver_piece(outcomes)
            return
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
                    [self._lend(each.value) for each in good],
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
        try:
            self._channel.send(message)
        except OSError as problem:  # the nanny is gone: nobody is left to tell; or it is us
            _leave(CHANNEL_BROKEN if problem.errno == errno.EBADF else 0)


def main(argv: list[str]) -> None:
    """``python -m twisted_dist.execution SOCKET_FD STATUS_FD NTHREADS PARENT_PID [MODULE …]``."""
    socket_fd, status_fd, nthreads, parent_pid = map(int, argv[:4])
    prepare(parent_pid)
    sys.setswitchinterval(0.0005)
    for fd in (socket_fd, status_fd):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=socket_fd)
    status = StatusPage(status_fd, most_slots(nthreads))
    child = Child(sock, status, nthreads)
    note_endings(status, sock, child.become_copy)
    child.output.take_over()
    preload(argv[4:])
    gc.freeze()  # what is imported by now is not looked at again; user code sets the rest
    try:
        child.watch()
    except BaseException:
        _end_on_error()
