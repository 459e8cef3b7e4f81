"""`LocalConnection`: this very machine as a host that was entered."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.apart import apart, kill_group
from twisted_dist.launchers.ssh.interface import Ending, How, Sink
from twisted_dist.launchers.ssh.outcome import Outcome

SHELL: Final = "/bin/sh"
#: seconds after its end in which a command's output must have ended too: what it has started
#: and left behind may hold that open for ever
OUTPUT_S: Final = 2.0

_CLOSED: Final = "it was closed"


class LocalConnection:
    """A `Connection` whose commands are children of this process, in sessions of their own.

    Args:
        reactor: to start them in.
        changed: called when a command has started or ended.
    """

    def __init__(self, reactor: Any, changed: Callable[[], None] = lambda: None) -> None:
        self._reactor = reactor
        self._changed = changed
        self._commands: set[LocalCommand] = set()
        self._loss: Outcome[str] = Outcome()
        self._is_closed = False

    @property
    def pids(self) -> list[int]:
        """Of the commands that run, which lead their sessions."""
        return sorted(each.pid for each in self._commands if each.pid is not None)

    async def start(self, command: str, output: Sink, errors: Sink) -> LocalCommand:
        """As `Connection` says."""
        if self._is_closed:
            raise SSHError(_CLOSED, "lost")
        started = LocalCommand(self._reactor, output, errors)
        words = apart([SHELL, "-c", command])
        try:
            # None: its environment is that of this process
            self._reactor.spawnProcess(started, words[0], words, env=None)
        except OSError as problem:
            raise SSHError(f"cannot start a process: {problem.strerror}", "lost", True) from None
        self._commands.add(started)
        started.ended().addCallback(self._over, started)
        self._changed()
        return started

    def _over(self, ending: Ending, command: LocalCommand) -> None:
        self._commands.discard(command)
        self._changed()

    def lost(self) -> Deferred[str]:
        """As `Connection` says: only `close` ends it."""
        return self._loss.when_known()

    def close(self) -> Deferred[None]:
        """As `Connection` says."""
        self._is_closed = True
        ends = [each.ended() for each in self._commands]
        for each in list(self._commands):
            each.signal("KILL")
        done: Deferred[None] = Deferred()
        defer.DeferredList(ends).addCallback(self._all_over, done)
        return done

    def _all_over(self, _: object, done: Deferred[None]) -> None:
        self._loss.tell(_CLOSED)
        done.callback(None)


class LocalCommand(ProcessProtocol):
    """A `RemoteCommand` that is a process here, with its group."""

    def __init__(self, reactor: Any, output: Sink, errors: Sink) -> None:
        self._reactor = reactor
        self._sinks = {1: output, 2: errors}
        self._end_of_it: Outcome[Ending] = Outcome()
        self._ending: Ending | None = None
        self._late: Any = None

    @property
    def pid(self) -> int | None:
        """None once it has ended."""
        return None if self.transport is None else self.transport.pid

    # -- as a RemoteCommand

    def write(self, data: bytes) -> None:
        """As `RemoteCommand` says."""
        if self._ending is None and self.transport is not None:
            self.transport.write(data)

    def end_input(self) -> None:
        """As `RemoteCommand` says."""
        if self._ending is None and self.transport is not None:
            self.transport.closeStdin()

    def signal(self, name: str) -> None:
        """As `RemoteCommand` says; to all that it has started in its group."""
        if self._ending is None and self.transport is not None:
            kill_group(self.transport, name)

    def ended(self) -> Deferred[Ending]:
        """As `RemoteCommand` says."""
        return self._end_of_it.when_known()

    # -- as a ProcessProtocol

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It wrote something."""
        self._sinks[childFD](data)

    def processExited(self, reason: Failure) -> None:
        """It has ended, though others may have its output still."""
        self._late = self._reactor.callLater(OUTPUT_S, self._leave_output)

    def _leave_output(self) -> None:
        self._late = None
        if self.transport is not None:
            self.transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """And all its output is here."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._ending = _ending(reason.value)
        self._end_of_it.tell(self._ending)


def _ending(value: BaseException | None) -> Ending:
    if not isinstance(value, ProcessTerminated):
        return Ending(How.EXITED, 0)
    if value.signal is None:
        return Ending(How.EXITED, value.exitCode)
    name = ""
    with contextlib.suppress(ValueError):  # a real-time signal
        name = signal.Signals(value.signal).name.removeprefix("SIG")
    return Ending(How.SIGNALLED, signal=name)
