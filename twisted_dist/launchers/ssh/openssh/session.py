"""`OpenSSHCommand`: one command on a connection that ``ssh`` keeps.

``ssh`` exits with 255 for a lost connection and for a command that did so. What it says to itself
tells them apart; that goes to a pipe of its own by ``-E``, and not among the command's errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IReactorFDSet,
    IReactorProcess,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.apart import ApartProtocol, apart, kill_group
from twisted_dist.launchers.ssh.interface import Ending, How, Sink
from twisted_dist.launchers.ssh.openssh.journal import Journal
from twisted_dist.launchers.ssh.outcome import Outcome

#: what is kept of input that the command does not read
INPUT_BYTES: Final = 64 << 20
#: ``ssh`` for the status that it has for its own failures
FAILED: Final = 255
#: seconds that the connection may take to be known as lost, after a command of it has vanished
VANISH_S: Final = 1.0
_STARTED: Final = b"master session id"
_EXITED: Final = b"eceived exit status from master"


class Reactor(IReactorProcess, IReactorTime, IReactorFDSet):
    """What is needed of a reactor."""


@implementer(IPushProducer)
class OpenSSHCommand(ApartProtocol):
    """A `RemoteCommand` by ``ssh -S``.

    OpenSSH's client cannot send signals. `signal` ends the command's input instead, which ends
    what was started to end with it; and ``KILL`` leaves it altogether, so that its next output
    finds nobody.

    Attributes:
        started: fires once the server has a session for it; fails with `SSHError`.
    """

    _log = Logger()

    def __init__(
        self, reactor: Reactor, host: str, lost: Deferred[str], output: Sink, errors: Sink
    ) -> None:
        super().__init__(reactor)
        self.started: Deferred[None] = Deferred(lambda _: self._give_up())
        self._reactor = reactor
        self._host = host
        #: fires once the connection has ended
        self._lost = lost
        self._sinks = {1: output, 2: errors}
        self._journal: Journal | None = None
        self._input: deque[bytes] = deque()
        self._input_bytes = 0
        self._may_write = True
        self._is_ending_input = False
        self._is_killed = False
        self._ending: Ending | None = None
        self._end_of_it: Outcome[Ending] = Outcome()

    def begin(self, words: Sequence[str], journal: str, environ: Mapping[str, str]) -> None:
        """Start it: *words* run it, and write what they say themselves to *journal*."""
        self._journal = Journal(self._reactor, journal, self._has_said)
        command = apart(words)
        self._reactor.spawnProcess(self, command[0], command, env=dict(environ))

    # -- RemoteCommand --

    def write(self, data: bytes) -> None:
        """Give it something on standard input.

        Raises:
            SSHError: it has not read what it was given before; nothing of *data* was taken.
        """
        if self._ending is not None or self._is_ending_input or not data:
            return
        if self._input_bytes + len(data) > INPUT_BYTES:
            raise SSHError(f"{self._host}: the command does not read its input", "command")
        self._input.append(bytes(data))
        self._input_bytes += len(data)
        self._pump()

    def end_input(self) -> None:
        """End its standard input, after all that was written."""
        if not self._is_ending_input:
            self._is_ending_input = True
            self._pump()

    def signal(self, name: str) -> None:
        """End its input, as nothing else can be sent; for ``KILL`` leave it."""
        self.end_input()
        if name == "KILL":
            self._is_killed = True
            self.close()

    def ended(self) -> Deferred[Ending]:
        """A new Deferred that fires with how it ended."""
        return self._end_of_it.when_known()

    def close(self) -> None:
        """Leave it."""
        if self.transport is not None:
            kill_group(self.transport)

    # -- input, as far as the pipe takes it --

    def connectionMade(self) -> None:
        """It runs, and may be written to."""
        if self.transport is not None:
            _writer(self.transport).registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The pipe is full."""
        self._may_write = False

    def resumeProducing(self) -> None:
        """There is room again."""
        self._may_write = True
        self._pump()

    def stopProducing(self) -> None:
        """Nobody reads any more."""
        self._may_write = False
        self._input.clear()
        self._input_bytes = 0

    def _pump(self) -> None:
        if self.transport is None:
            return
        while self._input and self._may_write:
            piece = self._input.popleft()
            self._input_bytes -= len(piece)
            self.transport.write(piece)
        if self._is_ending_input and not self._input:
            _writer(self.transport).unregisterProducer()
            self.transport.closeStdin()

    # -- output --

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has written something."""
        self._has_started()
        try:
            self._sinks[childFD](data)
        except Exception:  # one reader's fault must not end all commands
            self._log.failure("{host}: output could not be handled", host=self._host)

    def _has_said(self, said: bytes) -> None:
        if _STARTED in said:
            self._has_started()

    def _has_started(self) -> None:
        if not self.started.called:
            self.started.callback(None)

    def _give_up(self) -> None:
        self.close()

    # -- the end --

    def processEnded(self, reason: Failure) -> None:
        """All that it wrote was given."""
        said = self._journal.close() if self._journal is not None else b""
        value = reason.value
        status = (value.exitCode or 0) if isinstance(value, ProcessTerminated) else 0
        is_signalled = isinstance(value, ProcessTerminated) and value.exitCode is None
        if _EXITED in said or (status != FAILED and not is_signalled):
            self._has_started()
            self._end(Ending(How.EXITED, status=status))
        elif not self.started.called:
            self.started.errback(self._refusal(said))
            self._end(Ending(How.LOST, reason=f"{self._host}: it was never started"))
        elif self._is_killed or is_signalled:
            self._end(Ending(How.LOST, reason=f"{self._host}: the command was left alone"))
        else:
            self._vanished()

    def _refusal(self, said: bytes) -> SSHError:
        if b"refused by peer" in said or b"open failed" in said:
            return SSHError(
                f"{self._host}: its sshd opens no more sessions on this connection; see its "
                "MaxSessions, 10 by default",
                "command",
                is_passing=True,
            )
        return SSHError(f"{self._host}: the connection is lost", "lost", is_passing=True)

    def _vanished(self) -> None:
        """No status came: either the connection is lost, or a signal ended the command."""

        def decide(lost: str | None) -> None:
            if late.active():
                late.cancel()
            if lost is None:
                self._end(Ending(How.SIGNALLED))
            else:
                self._end(Ending(How.LOST, reason=lost))

        waiting: Deferred[Any] = self._lost
        late = self._reactor.callLater(VANISH_S, waiting.cancel)
        waiting.addCallbacks(decide, lambda _: decide(None))

    def _end(self, ending: Ending) -> None:
        self._ending = ending
        self._end_of_it.tell(ending)


def _writer(process: Any) -> IConsumer:
    """Its standard input: Twisted's interface of processes does not say that it is a consumer."""
    consumer: IConsumer = process
    return consumer
