"""`ExecChannel`: a command on a host.

Conch's `SSHChannel` leaves out standard error, tells an end by status from a lost connection
only to those who know how, and lets the end of input overtake the input.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final

from twisted.conch.error import ConchError
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import printable
from twisted_dist.launchers.ssh.interface import Ending, How, Sink
from twisted_dist.launchers.ssh.multiplexer import Multiplexer
from twisted_dist.launchers.ssh.outcome import Outcome
from twisted_dist.launchers.ssh.quiet import QUIET

#: what the host may send before it is read, as OpenSSH has it; with 128 KiB, as conch has it, a
#: link of 100 ms carries one megabyte a second
WINDOW_BYTES: Final = 2 << 20
PACKET_BYTES: Final = 32768
#: what is kept of input that the command does not read
INPUT_BYTES: Final = 64 << 20


class ExecChannel(SSHChannel):
    """Runs a command by the user's shell; a `RemoteCommand`.

    Output is given to sinks at once, and only then may the host send more.

    Attributes:
        started: fires once the server has started the command; fails with `SSHError`.
    """

    name = b"session"
    conn: Multiplexer
    _log = QUIET

    def __init__(
        self, conn: Multiplexer, host: str, command: str, output: Sink, errors: Sink
    ) -> None:
        super().__init__(localWindow=WINDOW_BYTES, localMaxPacket=PACKET_BYTES, conn=conn)
        self.started: Deferred[None] = Deferred(lambda _: self._give_up())
        self._host = host
        self._command = command
        self._output = output
        self._errors = errors
        #: input that the window has no room for yet
        self._input: deque[memoryview] = deque()
        self._input_bytes = 0
        self._is_ending_input = False
        self._is_end_sent = False
        self._is_given_up = False
        self._ending: Ending | None = None
        self._is_over = False
        self._end_of_it: Outcome[Ending] = Outcome()

    # -- RemoteCommand --

    def write(self, data: bytes) -> None:
        """Give it something on standard input.

        Raises:
            SSHError: it has not read what it was given before; nothing of *data* was taken.
        """
        if self._is_over or self._is_ending_input or not data:
            return
        if self._input_bytes + len(data) > INPUT_BYTES:
            raise SSHError(f"{self._host}: the command does not read its input", "command")
        self._input.append(memoryview(data))
        self._input_bytes += len(data)
        self._pump()

    def end_input(self) -> None:
        """End its standard input, after all that was written."""
        if not self._is_ending_input:
            self._is_ending_input = True
            self._pump()

    def signal(self, name: str) -> None:
        """Send it a signal."""
        if not self._is_over and not self.localClosed:
            self.conn.sendRequest(self, b"signal", NS(name.encode("ascii")))

    def ended(self) -> Deferred[Ending]:
        """A new Deferred that fires with how it ended."""
        return self._end_of_it.when_known()

    # -- conch's channel --

    def channelOpen(self, specificData: bytes) -> None:
        """The server has a session; now the command."""
        if self._is_given_up:
            self.loseConnection()
            return
        request = self.conn.sendRequest(self, b"exec", NS(self._command.encode()), wantReply=1)
        request.addCallbacks(self._has_started, self._was_refused)

    def _has_started(self, _: object) -> None:
        if not self.started.called:
            self.started.callback(None)
            self._pump()

    def _was_refused(self, _: Failure) -> None:
        if self.conn.is_running:
            error = SSHError(f"{self._host}: its sshd runs no commands for this user", "command")
        else:
            error = self._lost()
        self._fail_start(error)
        self.loseConnection()

    def openFailed(self, reason: Any) -> None:
        """The server has no session for us."""
        problem = reason.value if isinstance(reason, Failure) else reason
        if isinstance(problem, ConchError) and self.conn.is_running:
            said = printable(problem.args[0]) if problem.args else ""
            error = SSHError(
                f"{self._host}: its sshd opens no more sessions on this connection ({said}); "
                "see its MaxSessions, 10 by default",
                "command",
                is_passing=True,
            )
        else:
            error = self._lost()
        self._fail_start(error)
        self._end()

    def _fail_start(self, error: SSHError) -> None:
        if not self.started.called:
            self.started.errback(error)

    def _give_up(self) -> None:
        self._is_given_up = True
        if self in self.conn.channelsToRemoteChannel:
            self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Standard output."""
        self._give(self._output, data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        """Standard error; there are no other kinds."""
        if dataType == EXTENDED_DATA_STDERR:
            self._give(self._errors, data)

    def _give(self, sink: Sink, data: bytes) -> None:
        try:
            sink(data)
        except Exception:  # one reader's fault must not end all commands
            self._log.failure("{host}: output could not be handled", host=self._host)

    def request_exit_status(self, data: bytes) -> None:
        """It has exited."""
        (status,) = struct.unpack(">L", data[:4])
        self._ending = Ending(How.EXITED, status=status)

    def request_exit_signal(self, data: bytes) -> None:
        """A signal has ended it."""
        name = printable(getNS(data)[0])
        self._ending = Ending(How.SIGNALLED, signal=name.removeprefix("SIG"))

    def addWindowBytes(self, data: int) -> None:
        """It has read: there is room for more."""
        super().addWindowBytes(data)
        self._pump()

    def closed(self) -> None:
        """Nothing comes any more, from it or from anywhere."""
        self._fail_start(self._lost())
        self._end()

    # -- within --

    def _pump(self) -> None:
        """Send what there is room for, and the end of input once all is sent."""
        if not self.started.called or self._is_over or self.localClosed:
            return
        while self._input and self.remoteWindowLeft > 0:
            piece = self._input[0]
            size = min(len(piece), self.remoteWindowLeft)
            if size == len(piece):
                self._input.popleft()
            else:
                self._input[0] = piece[size:]
            self._input_bytes -= size
            super().write(bytes(piece[:size]))
        if self._is_ending_input and not self._input and not self._is_end_sent:
            self._is_end_sent = True
            self.conn.sendEOF(self)

    def _end(self) -> None:
        if not self._is_over:
            self._ending = self._how()
            self._is_over = True
            self._input.clear()
            self._input_bytes = 0
            self._end_of_it.tell(self._ending)

    def _how(self) -> Ending:
        return self._ending or Ending(How.LOST, reason=str(self._lost()))

    def _lost(self) -> SSHError:
        words = f"{self._host}: its sshd closed the session without a word"
        return SSHError(self.conn.reason or words, "lost", is_passing=True)
