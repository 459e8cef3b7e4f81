"""Runs tasks in a supervised child process: what makes a worker a nanny."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack
from twisted.internet import defer, process
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.aliases import Digest, TaskId, Value
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution import child
from twisted_dist.execution.channel import MAX_CHANNEL_BYTES
from twisted_dist.execution.current import Pass
from twisted_dist.services.executor import GetPass, no_pass
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.transports import SocketTransport, write_now

#: seconds before a child that died is started again: doubled for each death in a row
FIRST_RESTART_S: Final = 0.1
MOST_RESTART_S: Final = 30.0
#: a child that lived so long had a good start: the next restart is quick again
HEALTHY_S: Final = 10.0
#: of a child's standard error that is kept for the message about its death
STDERR_TAIL: Final = 4096
#: seconds from asking a child to stop until it is killed
STOP_PATIENCE_S: Final = 2.0


class ChildExecutor:
    """Keeps one child process alive and feeds it.

    While no child is there, tasks wait here. When one dies, what it was running is told
    as killed, with how it died; what only waited in it is told as returned.
    """

    log = Logger()

    def __init__(self, reactor: Any, nthreads: int) -> None:
        self.tell: Callable[[object], None] = lambda fact: None
        self.get_pass: GetPass = no_pass
        self.restarts = 0
        self._reactor = reactor
        self._nthreads = nthreads
        self._functions: dict[Digest, bytes] = {}
        self._child: _ChildProcess | None = None
        self._waiting: list[tuple[m.WorkerTask, dict[TaskId, Value]]] = []
        self._delay = FIRST_RESTART_S
        self._restart: Any = None
        self._first: defer.Deferred[None] | None = None
        self._stopped: defer.Deferred[None] | None = None
        #: the child is being ended so that another starts: that is no accident
        self._renewing = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._child.pid if self._child is not None else None

    def start(self) -> defer.Deferred[None]:
        """Start a child; fires when it is ready."""
        self._first = defer.Deferred()
        self._launch()
        return self._first

    def _launch(self) -> None:
        self._restart = None
        self._renewing = False
        self._child = _ChildProcess(self._reactor, self._nthreads, self)
        for digest, blob in self._functions.items():
            self._child.send([child.FUNCTION, digest, blob])
        waiting, self._waiting = self._waiting, []
        for task, values in waiting:
            self.run([task], values)

    def add_function(self, digest: Digest, blob: bytes) -> None:
        """Keep a pickled function for this child and its successors."""
        self._functions[digest] = blob
        if self._child is not None:
            self._child.send([child.FUNCTION, digest, blob])

    def run(self, tasks: Sequence[m.WorkerTask], values: dict[TaskId, Value]) -> None:
        """Send tasks with their inputs, consecutive ones of a function as one run."""
        if self._child is None:
            for task in tasks:
                self._waiting.append((task, {each: values[each] for each in task.deps}))
            return
        runs: list[list[Any]] = []
        inputs: dict[TaskId, Value] = {}
        for task in tasks:
            run = runs[-1] if runs else None
            if run is None or run[0] is not task.digest or bool(run[4]) is not bool(task.deps):
                run = [task.digest, [], [], [], []]
                runs.append(run)
            run[1].append(task.id)
            run[2].append(task.attempt)
            run[3].append(task.call)
            if task.deps:
                run[4].append(task.deps)
                for each in task.deps:
                    inputs[each] = values[each]
        self._child.send([child.RUN, runs, inputs])

    def drop(self, ids: Sequence[TaskId]) -> None:
        """Take back what has not begun."""
        gone = set(ids)
        kept = [each for each in self._waiting if each[0].id not in gone]
        if len(kept) < len(self._waiting):
            dropped = [task.id for task, _ in self._waiting if task.id in gone]
            self._waiting = kept
            self.tell(m.ExecutionReturned(dropped))
        if self._child is not None and ids:
            self._child.send([child.DROP, list(ids)])

    def restart(self) -> defer.Deferred[None]:
        """Kill the child and start another; fires when that is ready."""
        self._first = defer.Deferred()
        self._waiting.clear()
        self._renewing = True
        if self._restart is not None:
            self._restart.cancel()
        if self._child is not None:
            self._child.kill()
        else:
            self._launch()
        return self._first

    def stop(self) -> defer.Deferred[None]:
        """End the child: politely, then by force; fires when it is gone."""
        if self._stopped is None:
            self._stopped = defer.Deferred()
            if self._restart is not None:
                self._restart.cancel()
                self._restart = None
            if self._child is None:
                self._stopped.callback(None)
            else:
                self._child.stop()
        return self._stopped

    # -- from the child

    def child_ready(self) -> None:
        """The child can run tasks."""
        if self._first is not None:
            first, self._first = self._first, None
            first.callback(None)

    def received(self, message: list[Any]) -> None:
        """One frame of the child's."""
        kind = message[0]
        if kind == child.FINISHED:
            self.tell(m.ExecutionFinished(*message[1:]))
        elif kind == child.ERRED:
            self.tell(m.ExecutionErred(*message[1:]))
        elif kind == child.DROPPED:
            self.tell(m.ExecutionReturned(message[1]))
        elif kind == child.WAITING:
            self.tell(m.ExecutionWaits(*message[1:]))
        elif kind == child.PASS_WANTED:
            self._get_pass(*message[1:])

    def _get_pass(self, request: int, task_id: TaskId, attempt: int) -> None:
        """Give the child a pass for a task of its, or say why not."""
        asking = self._child

        def answer(given: Pass) -> None:
            if self._child is asking and asking is not None:
                asking.send([child.PASS, request, *given, ""])

        def refuse(failure: Failure) -> None:
            if self._child is asking and asking is not None:
                asking.send([child.PASS, request, "", "", b"", failure.getErrorMessage()])

        self.get_pass(task_id, attempt).addCallbacks(answer, refuse)

    def child_ended(self, running: list[TaskId], how: str, lived_s: float) -> None:
        """The process is gone and reaped."""
        self._child = None
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        if self._renewing:
            self._launch()
            return
        self.log.warn("{how}", how=how)
        self.restarts += 1
        if lived_s > HEALTHY_S:
            self._delay = FIRST_RESTART_S
        self._restart = self._reactor.callLater(self._delay, self._launch)
        self._delay = min(self._delay * 2, MOST_RESTART_S)
        self.tell(m.ExecutorDied(running, how))


class _ChildProcess(ProcessProtocol):
    """One child: its process, its channel, its status page and the end of its stderr."""

    def __init__(self, reactor: Any, nthreads: int, owner: ChildExecutor) -> None:
        self._reactor = reactor
        self._owner = owner
        self._nthreads = nthreads
        self._born = reactor.seconds()
        self._stderr = b""
        self._reaper: Any = None
        self._killer: Any = None
        with tempfile.TemporaryFile() as page:
            page.truncate(child.status_bytes(nthreads))
            self._status = mmap.mmap(page.fileno(), child.status_bytes(nthreads))
            ours, theirs = socket.socketpair()
            with theirs:
                argv = [sys.executable, "-m", "twisted_dist.execution", "3", "4"]
                argv += [str(nthreads), str(os.getpid())]
                self._process = reactor.spawnProcess(
                    self,
                    sys.executable,
                    argv,
                    env=dict(os.environ),
                    childFDs={0: "w", 1: 1, 2: "r", 3: theirs.fileno(), 4: page.fileno()},
                )
        self.pid = self._process.pid
        self._channel = _Channel(owner, self._channel_closed)
        SocketTransport(reactor, ours, self._channel)

    def send(self, message: list[Any]) -> None:
        """One frame to the child."""
        payload = msgpack.packb(message, use_bin_type=True)
        if self._channel.transport is not None:
            write_now(self._channel.transport, frame(payload))

    def stop(self) -> None:
        """Close the channel, which ends the child; kill it if it does not."""
        if self._channel.transport is not None:
            self._channel.transport.loseConnection()
        self._killer = self._reactor.callLater(STOP_PATIENCE_S, self.kill)

    def kill(self) -> None:
        """End the process at once."""
        if self._killer is not None and self._killer.active():
            self._killer.cancel()
        self._killer = None
        try:
            self._process.signalProcess("KILL")
        except Exception:  # it ended just now, and will be reaped
            self._poll_for_end()

    def _channel_closed(self) -> None:
        self._poll_for_end()

    def _poll_for_end(self) -> None:
        """Reap without SIGCHLD: a reactor in a thread gets no signals."""
        self._reaper = None
        if self.pid is not None:
            process.reapAllProcesses()
        if self.pid is not None:
            self._reaper = self._reactor.callLater(0.02, self._poll_for_end)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Pass standard error on, and remember its end."""
        self._stderr = (self._stderr + data)[-STDERR_TAIL:]
        sys.stderr.write(data.decode(errors="replace"))
        sys.stderr.flush()

    def processEnded(self, reason: Failure) -> None:
        """Everything of it is closed: say how it ended."""
        pid, self.pid = self.pid, None
        for each in (self._reaper, self._killer):
            if each is not None and each.active():
                each.cancel()
        running = []
        for task, _attempt in child.STATUS.iter_unpack(self._status):
            if task:
                running.append(task - 1)
        self._status.close()
        if self._channel.transport is not None:
            self._channel.transport.abortConnection()
        how = f"process {pid} on {socket.gethostname()} {_ending(reason)}"
        tail = self._stderr.decode(errors="replace").strip()
        if tail:
            how += f"; the end of its standard error: {tail[-1000:]}"
        self._owner.child_ended(running, how, self._reactor.seconds() - self._born)


def _ending(reason: Failure) -> str:
    value: Any = reason.value
    if isinstance(value, ProcessDone):
        return "exited with status 0"
    if value.signal is not None:
        return f"was killed by {signal.Signals(value.signal).name}"
    return f"exited with status {value.exitCode}"


class _Channel(Protocol):
    """The nanny's end of the socketpair."""

    transport: Any

    def __init__(self, owner: ChildExecutor, closed: Callable[[], None]) -> None:
        self._owner = owner
        self._closed = closed
        self._decoder = FrameDecoder(MAX_CHANNEL_BYTES)

    def dataReceived(self, data: bytes) -> None:
        """Hand on complete frames."""
        for payload in self._decoder.feed(data):
            message = msgpack.unpackb(payload, raw=False, strict_map_key=False)
            if message[0] == child.READY:
                self._owner.child_ready()
            else:
                self._owner.received(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The child ended or closed it; see that it is reaped."""
        self.transport = None
        self._closed()
