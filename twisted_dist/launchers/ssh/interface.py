"""What a connection to a host is, whoever makes it: conch or the system's ``ssh``.

A connection runs commands. A command has standard input, output and error, and ends in one
of three ways, which are never taken for each other: it *exited* with a status, it was
*signalled*, or it was *lost* with the connection, and then nobody knows what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from twisted_dist.launchers.ssh.settings import HostSettings


class How(Enum):
    """How a remote command ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    #: the connection went away before the command told
    LOST = "lost"


@frozen
class Ending:
    """The end of a remote command.

    Attributes:
        how: of the three ways.
        status: its exit status, where it exited.
        signal: the signal's name without ``SIG``, where it was signalled; empty where that
            is not known.
        reason: why the connection was lost, where it was.
    """

    how: How
    status: int | None = None
    signal: str = ""
    reason: str = ""

    @property
    def is_success(self) -> bool:
        """Whether it exited with status 0."""
        return self.how is How.EXITED and self.status == 0

    def __str__(self) -> str:
        if self.how is How.EXITED:
            return f"exited with status {self.status}"
        if self.how is How.SIGNALLED:
            return f"was ended by SIG{self.signal}" if self.signal else "was ended by a signal"
        return f"was lost with its connection: {self.reason}"


#: called with what a command wrote, in pieces of any size, in the reactor's thread
Sink = Callable[[bytes], None]


class RemoteCommand(Protocol):
    """A command that runs on a host."""

    def write(self, data: bytes) -> None:
        """Give it something on standard input; in order, and never in part."""

    def end_input(self) -> None:
        """End its standard input, once all that was written is on its way. Idempotent."""

    def signal(self, name: str) -> None:
        """Send it a signal, such as ``TERM``. Servers may ignore that (RFC 4254, 6.9)."""

    def ended(self) -> Deferred[Ending]:
        """A new Deferred that fires once it has ended and all its output was given.

        Never fails: a connection that is lost is an ending too.
        """


class Connection(Protocol):
    """A host that was entered. Commands share it, as many as the server allows."""

    async def start(self, command: str, output: Sink, errors: Sink) -> RemoteCommand:
        """Have the user's shell there run *command*; returns once the server has started it.

        Raises:
            SSHError: the server refused, or the connection is lost.
        """

    def lost(self) -> Deferred[str]:
        """A new Deferred that fires with the reason once the connection has ended.

        Also where `close` ended it. Never fails.
        """

    def close(self) -> Deferred[None]:
        """End it, with whatever runs in it; fires when the socket is closed. Idempotent."""


class SSHClient(Protocol):
    """Enters hosts; one for all hosts of a cluster, since they share bastions and answers."""

    async def connect(self, settings: HostSettings) -> Connection:
        """Enter a host once; trying again is the caller's.

        Cancelled, or out of time, it leaves no socket and no process.

        Raises:
            SSHError: it could not be entered; says which host, why, and what to do.
        """

    def close(self) -> Deferred[None]:
        """End what connections shared, once they are closed."""


class Asker(Protocol):
    """Asks the person at the terminal; answers "no" by None or False where there is none."""

    async def secret(self, prompt: str) -> str | None:
        """A password or passphrase, not shown while it is typed; None where nobody answers."""

    async def confirm(self, question: str) -> bool:
        """Whether the person says yes; False where nobody answers."""
