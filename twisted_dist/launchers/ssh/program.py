"""Programs that say something and end: run in the reactor, within a time and a size."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.python.failure import Failure

from twisted_dist.launchers.ssh.apart import ApartProtocol, apart, kill_group
from twisted_dist.launchers.ssh.outcome import Outcome

#: bytes of output that are kept: a configuration has 4 KiB
MOST_BYTES: Final = 2**20
#: seconds until one that was killed must have ended
GONE_S: Final = 5.0


@frozen
class Said:
    """What a program said, and how it ended.

    Attributes:
        status: its exit status; negative for a signal's number, None where time was up.
        output: its standard output.
        errors: its standard error.
    """

    status: int | None
    output: str
    errors: str


class Reactor(IReactorProcess, IReactorTime):
    """What is needed of a reactor."""


async def run(
    reactor: Reactor, words: Sequence[str], environ: Mapping[str, str], timeout_s: float
) -> Said:
    """Run a program without input; out of time or cancelled, it is killed with its children.

    The first of *words* is its path. One that cannot be started ends with a status, not 0.
    """
    protocol = _Listening(reactor)
    command = apart(words)
    process = reactor.spawnProcess(protocol, command[0], command, env=dict(environ))
    deadline = reactor.callLater(timeout_s, protocol.out_of_time)
    try:
        return await protocol.ended
    finally:
        if deadline.active():
            deadline.cancel()
        kill_group(process)
        process.loseConnection()  # what others hold open is nothing to wait for
        with contextlib.suppress(TimeoutError):
            await protocol.gone.when_known().addTimeout(GONE_S, reactor)


class _Listening(ApartProtocol):
    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock)
        self.ended: Deferred[Said] = Deferred()
        self.gone: Outcome[None] = Outcome()
        self._texts: dict[int, list[bytes]] = {1: [], 2: []}
        self._room = MOST_BYTES

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        kept = data[: self._room]
        self._room -= len(kept)
        self._texts[childFD].append(kept)

    def out_of_time(self) -> None:
        self._tell(None)

    def processEnded(self, reason: Failure) -> None:
        self.gone.tell(None)
        value = reason.value
        if not isinstance(value, ProcessTerminated):
            self._tell(0)
        else:
            self._tell(-(value.signal or 0) if value.exitCode is None else value.exitCode)

    def _tell(self, status: int | None) -> None:
        if not self.ended.called:
            output, errors = (b"".join(self._texts[fd]).decode(errors="replace") for fd in (1, 2))
            self.ended.callback(Said(status, output, errors))
