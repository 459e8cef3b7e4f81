"""`FarDaemon`: one daemon that runs on a host, for as long as that run lasts.

Its standard input is its leash. The first line is the secret that lets it into the network;
after that comes a newline now and then. Where standard input ends, or nothing comes for
`SILENCE_S`, it ends: so no daemon outlives its launcher, whatever became of that one, or of
the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import defer, task

from twisted_dist.launchers.cluster.lines import Lines
from twisted_dist.launchers.ssh.interface import Connection, Ending, RemoteCommand

#: seconds between newlines on a daemon's standard input
BEAT_S: Final = 15.0
#: seconds without one after which it ends: as long as the lease of a worker that the
#: scheduler does not hear of
SILENCE_S: Final = 60.0
#: words that have a daemon end with its launcher
LEASH: Final = ("--until-stdin-closes", f"--stdin-silence={SILENCE_S:g}")
#: seconds in which a daemon ends once its standard input has: more than its own bound
END_S: Final = 20.0
#: and seconds after each signal, until the next is tried
SIGNAL_S: Final = 3.0
#: of what it said last, for when it ends
MOST_TAIL: Final = 5

SCHEDULER_STARTED: Final = "Start scheduler at "
WORKER_REGISTERED: Final = "Registered with center at:"


class FarDaemon:
    """A run of a daemon.

    Args:
        reactor: for time.
        command: what the shell there is to run.
        secret: the first line of its standard input.
        announcements: with how many of them it is up.
        tell: called with each line that it writes, and whether that was on standard error.
        announced: called with the announcement with which it is up, and later ones.

    Attributes:
        tail: what it said last on standard error.
        is_up: it has announced what it is there for.
    """

    def __init__(
        self,
        reactor: Any,
        command: str,
        secret: str,
        announcements: int,
        tell: Callable[[str, bool], None],
        announced: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._command = command
        self._secret = secret
        self._to_come = announcements
        self._tell = tell
        self._announced = announced
        self._remote: RemoteCommand | None = None
        self._is_ending = self._is_given_up = False
        self._output = Lines(self._told)
        self._errors = Lines(self._complained)
        self.tail: deque[str] = deque(maxlen=MOST_TAIL)
        self.is_up = False

    def _told(self, line: str) -> None:
        self._tell(line, False)
        if line.startswith((SCHEDULER_STARTED, WORKER_REGISTERED)):
            self._to_come -= 1
            if self._to_come <= 0:
                self.is_up = True
                self._announced(line)

    def _complained(self, line: str) -> None:
        self.tail.append(line)
        self._tell(line, True)

    async def run(self, connection: Connection) -> Ending:
        """Start it there and stay with it until it has ended.

        Raises:
            SSHError: it could not be started.
        """
        remote = await connection.start(self._command, self._output.feed, self._errors.feed)
        remote.write(self._secret.encode() + b"\n")
        beats = task.LoopingCall(remote.write, b"\n")
        beats.clock = self._reactor
        beating = beats.start(BEAT_S, now=False)
        self._remote = remote
        if self._is_ending:
            remote.end_input()
        try:
            ending = await remote.ended()
        finally:
            self._remote = None
            beats.stop()
            await beating
        self._output.end()
        self._errors.end()
        return ending

    async def end(self) -> bool:
        """Have it end, by force if need be; False where nobody knows whether it did.

        What was in vain is not tried again.
        """
        self._is_ending = True
        remote = self._remote
        if remote is None:
            return True
        if self._is_given_up:
            return False
        remote.end_input()
        for name, patience_s in (("TERM", END_S), ("KILL", SIGNAL_S), ("", SIGNAL_S)):
            try:
                await remote.ended().addTimeout(patience_s, self._reactor)
            except defer.TimeoutError:
                if name:
                    remote.signal(name)
            else:
                return True
        self._is_given_up = True
        return False
