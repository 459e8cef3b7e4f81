"""One child process of a nanny: its start, its channel, its end, and whose fault that was."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgpack
import psutil
from attrs import frozen
from twisted.internet import process
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.internet.protocol import Protocol as StreamOfBytes
from twisted.python.failure import Failure

from twisted_dist.execution import child, runner
from twisted_dist.execution.channel import MAX_CHANNEL_BYTES
from twisted_dist.execution.output import STDERR, STDOUT
from twisted_dist.execution.status import Running, StatusPage
from twisted_dist.services.memory import own_bytes
from twisted_dist.services.passage import Passage
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.transports import SocketTransport, write_now

#: bytes of a child's standard error that are kept: faulthandler's stacks of 100 threads
STDERR_TAIL: Final = 64 * 1024
#: characters of it that a message about its death has
STDERR_TOLD: Final = 1500
#: seconds from asking a child to stop until it is killed
STOP_PATIENCE_S: Final = 2.0
#: seconds that output may still come after it has ended, from what it has started
OUTPUT_PATIENCE_S: Final = 0.5
#: what faulthandler (CPython's) writes of a fatal signal: first this, then every thread's
#: stack, the current one's among them
_FATAL: Final = re.compile(r"^Fatal Python error: .*$", re.MULTILINE)
_CULPRIT: Final = re.compile(r"^Current thread 0x([0-9a-f]+) .*\n((?:  .*\n?)*)", re.MULTILINE)
_MIB: Final = 2**20


@frozen
class Ending:
    """How a child ended.

    Attributes:
        how: in words: process, host, status or signal, memory, the end of its standard error.
        running: what it was running.
        culprits: those of `running` that have ended it, where that is known; none else.
        lived_s: seconds since it was started.
    """

    how: str
    running: Sequence[Running]
    culprits: Sequence[Running]
    lived_s: float


class Owner(Protocol):
    """Who has a child."""

    def child_ready(self, probe: list[Any] | None) -> None:
        """It can run tasks; *probe* is where it may be tried to read what it shares."""

    def received(self, message: list[Any]) -> None:
        """It has sent a frame."""

    def raw_output(self, pieces: Iterable[Sequence[Any]]) -> None:
        """It has written something that is of no task: ``(0, stream, text)``."""

    def child_ended(self, ending: Ending) -> None:
        """The process is gone and reaped."""


class ChildProcess(ProcessProtocol):
    """One child.

    Args:
        reactor: to live in.
        nthreads: tasks at a time.
        preload: modules that it imports before it runs any.
        owner: hears of it.
    """

    def __init__(self, reactor: Any, nthreads: int, preload: Sequence[str], owner: Owner) -> None:
        self._reactor = reactor
        self._owner = owner
        self._born = reactor.seconds()
        self._stderr = b""
        self._passages = {each: Passage(reactor, each) for each in (STDOUT, STDERR)}
        self._reaper: Any = None
        self._killer: Any = None
        self._closer: Any = None
        #: why it was killed from here, and for whose sake
        self._reason = ""
        self._condemned: Sequence[Running] = ()
        self.rss = 0
        slots = child.most_slots(nthreads)
        with tempfile.TemporaryFile() as page:
            page.truncate(StatusPage.size(slots))
            self._status = StatusPage(page.fileno(), slots)
            ours, theirs = socket.socketpair()
            with theirs:
                argv = [sys.executable, "-m", "twisted_dist.execution", "3", "4"]
                argv += [str(nthreads), str(os.getpid()), *preload]
                self._process = reactor.spawnProcess(
                    self,
                    sys.executable,
                    argv,
                    env=dict(os.environ),
                    childFDs={0: "w", 1: "r", 2: "r", 3: theirs.fileno(), 4: page.fileno()},
                )
        self.pid: int | None = self._process.pid
        self._group = self._process.pid
        self._channel = _Channel(owner, self._channel_closed)
        SocketTransport(reactor, ours, self._channel)

    def send(self, message: list[Any]) -> None:
        """One frame to the child."""
        payload = msgpack.packb(message, use_bin_type=True)
        if self._channel.transport is not None:
            write_now(self._channel.transport, frame(payload))

    def running(self) -> list[Running]:
        """What it runs."""
        return self._status.running() if self.pid is not None else []

    def measure(self) -> int:
        """Bytes of memory that are its own; kept, for when it has died.

        Values that it shares with others count where they are held.
        """
        if self.pid is not None:
            with suppress(psutil.Error):
                self.rss = own_bytes(self.pid)
        return self.rss

    def is_alive(self) -> bool:
        """Whether it runs, as far as the system knows."""
        if self.pid is not None:
            with suppress(psutil.Error):
                return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        return False

    def stop(self) -> None:
        """Close the channel, which ends the child; kill it if it does not."""
        if self._channel.transport is not None:
            self._channel.transport.loseConnection()
        self._killer = self._reactor.callLater(STOP_PATIENCE_S, self.kill)

    def kill(self, reason: str = "", condemned: Sequence[Running] = ()) -> None:
        """End the process at once.

        Args:
            reason: why, where that is a task's fault.
            condemned: those tasks, where they are known.
        """
        if self._killer is not None and self._killer.active():
            self._killer.cancel()
        self._killer = None
        if reason:
            self._reason, self._condemned = reason, condemned
        try:
            self._process.signalProcess("KILL")
        except Exception:  # it ended just now, and will be reaped
            self._poll_for_end()

    def _channel_closed(self) -> None:
        """It ends, or does not notice."""
        if self.pid is not None and self._killer is None:
            self._killer = self._reactor.callLater(STOP_PATIENCE_S, self.kill)
        self._poll_for_end()

    def _poll_for_end(self) -> None:
        """Reap without SIGCHLD: a reactor in a thread gets no signals."""
        self._reaper = None
        if self.pid is not None:
            process.reapAllProcesses()
        if self.pid is not None:
            self._reaper = self._reactor.callLater(0.02, self._poll_for_end)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Code in C, or another process, has written something."""
        self.pass_on(childFD, data)
        self._owner.raw_output([(0, childFD, data.decode(errors="replace"))])

    def pass_on(self, stream: int, data: bytes) -> None:
        """Write on where this process writes; the end of standard error is remembered."""
        if stream == STDERR:
            self._stderr = (self._stderr + data)[-STDERR_TAIL:]
        self._passages[STDERR if stream == STDERR else STDOUT].write(data)

    def processExited(self, reason: Failure) -> None:
        """It is gone: whatever it started goes as well, and holds nothing of it open."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, signal.SIGKILL)
        self._closer = self._reactor.callLater(OUTPUT_PATIENCE_S, self._process.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """Everything of it is closed: say how it ended."""
        pid, self.pid = self.pid, None
        for each in (self._reaper, self._killer, self._closer):
            if each is not None and each.active():
                each.cancel()
        for passage in self._passages.values():
            passage.close()
        running, exits = self._status.running(), self._status.exits
        self._status.close()
        if self._channel.transport is not None:
            self._channel.transport.abortConnection()
        text = self._stderr.decode(errors="replace")
        how = f"process {pid} on {socket.gethostname()} {_ending(reason)}"
        if self._reason:
            how += f": {self._reason}"
        elif self.rss:
            how += f", when it was last seen with {self.rss / _MIB:,.0f} MiB"
        fatal = _FATAL.search(text)
        stack = _CULPRIT.search(text, fatal.end()) if fatal else None
        if fatal and stack:
            exits = int(stack[1], 16)
            own = stack[2].partition(f'  File "{runner.__file__}"')[0]  # without what called it
            how += f"; {fatal[0]}, most recent call first:\n{own[:STDERR_TOLD].rstrip()}"
        elif text.strip():
            how += f"; the end of its standard error: {text.strip()[-STDERR_TOLD:]}"
        culprits = self._condemned or [each for each in running if each.thread == exits]
        lived_s = self._reactor.seconds() - self._born
        self._owner.child_ended(Ending(how, running, culprits, lived_s))


def _ending(reason: Failure) -> str:
    value: Any = reason.value
    if isinstance(value, ProcessDone):
        return "exited with status 0"
    if value.signal is not None:
        return f"was killed by {signal.Signals(value.signal).name}"
    if value.exitCode == child.CHANNEL_BROKEN:
        return "had to end, as a task has closed its connection to the nanny"
    return f"exited with status {value.exitCode}"


class _Channel(StreamOfBytes):
    """The nanny's end of the socketpair."""

    transport: Any

    def __init__(self, owner: Owner, closed: Callable[[], None]) -> None:
        self._owner = owner
        self._closed = closed
        self._decoder = FrameDecoder(MAX_CHANNEL_BYTES)

    def dataReceived(self, data: bytes) -> None:
        """Hand on complete frames."""
        for payload in self._decoder.feed(data):
            message = msgpack.unpackb(payload, raw=False, strict_map_key=False)
            if message[0] == child.READY:
                self._owner.child_ready(message[2])
            else:
                self._owner.received(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The child ended or closed it; see that it is reaped."""
        self.transport = None
        self._closed()
