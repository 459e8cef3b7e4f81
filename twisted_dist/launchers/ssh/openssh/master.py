"""`OpenSSHConnection`: a host that ``ssh`` has entered, and stays in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.apart import ApartProtocol, apart, kill_group
from twisted_dist.launchers.ssh.interface import Sink
from twisted_dist.launchers.ssh.openssh.configuration import READY
from twisted_dist.launchers.ssh.openssh.place import Place
from twisted_dist.launchers.ssh.openssh.session import OpenSSHCommand, Reactor
from twisted_dist.launchers.ssh.openssh.words import entering_error, reason
from twisted_dist.launchers.ssh.outcome import Outcome
from twisted_dist.launchers.ssh.settings import HostSettings

#: seconds until a server must have started a command
START_S: Final = 30.0
#: seconds until each ``ssh`` must have ended when it was told to, or when its connection has
CLOSE_S: Final = 2.0
#: seconds after its end that others may have its pipes: an ``ssh`` on the way stays if the user
#: has it so (ControlPersist)
PIPES_S: Final = 0.2
#: bytes of what ``ssh`` said that are kept
KEPT_BYTES: Final = 16_384


class OpenSSHConnection(ApartProtocol):
    """A `Connection`: the ``ssh`` that made it, and whose socket others share.

    Args:
        reactor: of everything.
        settings: of the host.
        place: for sockets.
        program: the words that run ``ssh``.
        environ: its variables.

    Attributes:
        ready: fires once the host is entered; fails with `SSHError`. Cancelled, it leaves nothing.
    """

    def __init__(
        self,
        reactor: Reactor,
        settings: HostSettings,
        place: Place,
        program: Sequence[str],
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(reactor)
        self.ready: Deferred[None] = Deferred(lambda _: self._kill())
        self._reactor = reactor
        self._settings = settings
        self._place = place
        self._program = program
        self._environ = environ
        self._socket = place.entry("s")
        self._files: list[str] = []
        self._said = b""
        self._told = b""
        self._pid = 0
        self._is_ready = False
        self._late: IDelayedCall | None = None
        self._is_closing = False
        self._reason: str | None = None
        self._loss: Outcome[str] = Outcome()
        self._commands: set[OpenSSHCommand] = set()

    def begin(self, configuration: str, variables: Mapping[str, str]) -> None:
        """Enter, with a configuration's text and variables for questions."""
        path = self._place.write("c", configuration)
        self._files.append(path)
        settings = self._settings
        words = [*self._program, "-F", path, "-S", self._socket, "-M", "-N", "-T"]
        words += ["-l", settings.user, "-p", str(settings.port), "--", settings.alias]
        command = apart(words)
        self._reactor.spawnProcess(self, command[0], command, env={**self._environ, **variables})

    # -- Connection --

    async def start(self, command: str, output: Sink, errors: Sink) -> OpenSSHCommand:
        """Have the user's shell there run *command*.

        Cancelled, the command may or may not have been started; its session is closed.

        Raises:
            SSHError: the server refused, or the connection is lost.
        """
        host = self._settings.alias
        if self._reason is not None or self._is_closing:
            raise SSHError(self._reason or f"{host}: closed", "lost", is_passing=True)
        journal = self._place.entry("j")
        # were the socket gone, this ssh would make a connection of its own
        options = ("ControlMaster=no", "ProxyCommand=false", "LogLevel=DEBUG2", "BatchMode=yes")
        words = [*self._program, "-F", os.devnull, "-S", self._socket, "-E", journal, "-T"]
        for each in options:
            words += ["-o", each]
        running = OpenSSHCommand(self._reactor, host, self.lost(), output, errors)
        running.begin([*words, "--", host, command], journal, self._environ)
        self._commands.add(running)
        running.ended().addCallback(lambda _: self._commands.discard(running))
        try:
            await running.started.addTimeout(START_S, self._reactor)
        except defer.TimeoutError:
            raise SSHError(
                f"{host}: its sshd has not started a command for {START_S:g} s",
                "command",
                is_passing=True,
            ) from None
        return running

    def lost(self) -> Deferred[str]:
        """A new Deferred that fires with the reason once the connection has ended."""
        return self._loss.when_known()

    def close(self) -> Deferred[None]:
        """End it, with whatever runs in it; fires when each ``ssh`` has ended. Idempotent."""
        gone: list[Deferred[Any]] = [self.lost(), *(each.ended() for each in self._commands)]
        if self._reason is None and not self._is_closing:
            self._is_closing = True
            if self.transport is not None:
                kill_group(self.transport, "TERM")
        late = self._reactor.callLater(CLOSE_S, self._kill_all)
        return defer.gatherResults(gone).addBoth(lambda _: late.cancel() if late.active() else None)

    # -- the process --

    def connectionMade(self) -> None:
        """It runs."""
        if self.transport is not None:
            # it is forgotten by the time that it has ended
            self._pid = self.transport.pid
            self._place.guard(self._pid)
            self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """It says that it is in."""
        self._told = (self._told + data)[-KEPT_BYTES:]
        if READY.encode() in self._told and not self._is_ready:
            self._is_ready = True
            if not self.ready.called:
                self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        """It says why it fails, or another ``ssh`` on the way does."""
        self._said = (self._said + data)[-KEPT_BYTES:]

    def processExited(self, status: Failure) -> None:
        """The connection has ended; what ``ssh`` said last may be in a pipe still."""
        super().processExited(status)
        self._place.release(self._pid)
        self._late = self._reactor.callLater(PIPES_S, self._ended, status)

    def processEnded(self, status: Failure) -> None:
        """All was read."""
        if self._late is not None and self._late.active():
            self._late.cancel()
            self._ended(status)

    def _ended(self, status: Failure) -> None:
        text = self._said.decode("utf-8", "replace")
        if self.transport is not None:
            self.transport.loseConnection()
        for path in (*self._files, self._socket):
            if os.path.lexists(path):
                os.unlink(path)
        how = str(status.value)
        if self._is_closing:
            self._reason = f"{self._settings.alias}: closed"
        else:
            self._reason = f"{self._settings.alias}: {reason(text) or how}"
        self._loss.tell(self._reason)
        if not self.ready.called:
            self.ready.errback(entering_error(self._settings, text, how))

    def _kill_all(self) -> None:
        self._kill()
        for each in tuple(self._commands):
            each.close()

    def _kill(self) -> None:
        if self.transport is not None:
            kill_group(self.transport)
