"""`run`: a short command on a host, from its input to its output."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen
from twisted.internet import defer

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Connection, Ending

#: bytes of output that are kept, of each kind: what is asked for is far shorter
MOST_OUTPUT: Final = 2**20


@frozen
class Finished:
    """A command that has ended.

    Attributes:
        ending: how.
        output: what it wrote on standard output, at most `MOST_OUTPUT` bytes of it.
        errors: likewise, on standard error.
    """

    ending: Ending
    output: bytes
    errors: bytes

    @property
    def last_words(self) -> str:
        """The last line that it wrote on standard error; "" if there is none."""
        lines = self.errors.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


class _Kept:
    def __init__(self) -> None:
        self.data = bytearray()

    def take(self, data: bytes) -> None:
        """Keep what there is room for."""
        self.data += data[: MOST_OUTPUT - len(self.data)]


async def run(
    reactor: Any, connection: Connection, command: str, stdin: bytes, patience_s: float
) -> Finished:
    """Run *command*, give it *stdin*, and wait for its end.

    Raises:
        SSHError: it could not be started, or has not ended within *patience_s*; then it was
            told to.
    """
    output, errors = _Kept(), _Kept()
    remote = await connection.start(command, output.take, errors.take)
    remote.write(stdin)
    remote.end_input()
    try:
        ending = await remote.ended().addTimeout(patience_s, reactor)
    except defer.TimeoutError:
        remote.signal("KILL")
        raise SSHError(
            f"a command has not ended for {patience_s:g} s: {command[:60]}", "command", True
        ) from None
    return Finished(ending, bytes(output.data), bytes(errors.data))
