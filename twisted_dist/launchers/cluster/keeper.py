"""`Keeper`: starts a daemon on its host, and again when it dies."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.far_daemon import FarDaemon
from twisted_dist.launchers.ssh.interface import Connection, Ending, How

#: seconds before a daemon that died is started again; doubled for each one in a row that did
#: not get anywhere
FIRST_WAIT_S: Final = 1.0
#: at most, and varied by half
MOST_WAIT_S: Final = 30.0
#: so many in a row that got nowhere, and there is no hope: with the waits between them after a
#: minute and a half, since a port may be held by one that has not noticed yet that it is to end
MOST_STILLBORN: Final = 7
#: seconds after which it is not its own fault that one got nowhere: a worker that waits for a
#: scheduler which is away ends after its death timeout, and the scheduler may be back next time
PATIENT_S: Final = 60.0


@frozen
class Start:
    """What starts a daemon once.

    Attributes:
        command: for the host's shell.
        secret: the first line that it reads.
        announcements: how many it makes until it is up: one for each worker.
    """

    command: str
    secret: str
    announcements: int = 1


class Keeper:
    """Keeps one daemon running while its host is connected.

    Args:
        reactor: for time.
        chance: varies waits.
        tell: called with the daemon's lines, and whether each was on standard error.
        announced: called with its announcements.
        died: called with why, each time it has ended and will be started again.

    Attributes:
        daemon: this run of it, if there is one.
        is_over: it has ended as it was meant to, or there is no hope; it is not started again.
        why: it has not come up, or is over: in one line; "" while all is well.
    """

    def __init__(
        self,
        reactor: Any,
        chance: random.Random,
        tell: Callable[[str, bool], None],
        announced: Callable[[str], None],
        died: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._chance = chance
        self._tell = tell
        self._announced = announced
        self._died = died
        self._is_ending = False
        self._pause: Deferred[None] | None = None
        self._connection: Connection | None = None
        self._wait_s = FIRST_WAIT_S
        self._stillborn = 0
        self.daemon: FarDaemon | None = None
        self.is_over = False
        self.why = ""

    async def keep(self, connection: Connection, start: Start) -> Ending | None:
        """Until it ends for good, or its connection does; what that end was, if it had begun.

        Where it is kept on another connection already, that ends.
        """
        self._connection = connection
        if self._pause is not None:
            self._pause.cancel()
        while not self._is_ending and self._connection is connection:
            self.daemon = FarDaemon(
                self._reactor,
                start.command,
                start.secret,
                start.announcements,
                self._tell,
                self._on_announced,
            )
            began = self._reactor.seconds()
            try:
                ending = await self.daemon.run(connection)
            except SSHError as problem:
                # the connection is gone, which its owner notices too, or it has no room
                ending = Ending(How.LOST, reason=str(problem))
                self.why = str(problem)
            was_up, said = self.daemon.is_up, list(self.daemon.tail)
            self.daemon = None
            if self._is_ending or ending.how is How.LOST:
                return ending
            if ending.is_success:
                self.is_over, self.why = True, "it was told to end"
                return ending
            if was_up or self._reactor.seconds() - began >= PATIENT_S:
                self._stillborn, self._wait_s = 0, FIRST_WAIT_S
            else:
                self._stillborn += 1
            self.why = f"it {ending}" + (f": {said[-1]}" if said else "")
            if self._stillborn >= MOST_STILLBORN:
                self.is_over = True
                return ending
            await self._pause_first()
        return None

    def _on_announced(self, line: str) -> None:
        self.why = ""
        self._announced(line)

    async def _pause_first(self) -> None:
        pause_s = self._wait_s * self._chance.uniform(0.5, 1.5)
        self._wait_s = min(self._wait_s * 2, MOST_WAIT_S)
        self._died(f"{self.why}; it is started again in {pause_s:.1f} s")
        self._pause = deferLater(self._reactor, pause_s, lambda: None)
        try:
            await self._pause
        except CancelledError:  # `end` did that
            pass
        finally:
            self._pause = None

    async def end(self) -> bool:
        """Have it end and not start again; False where nobody knows whether it did."""
        self._is_ending = True
        if self._pause is not None:
            self._pause.cancel()
        daemon = self.daemon
        return True if daemon is None else await daemon.end()
