"""`Dialling`: enters many hosts, at a rate that the servers bear, and again where that helps.

sshd drops connections at random from its tenth that has not been let in yet (``MaxStartups
10:30:100``), whoever they are from, and a bastion or this machine may be many hosts at once:
so at most `MOST_EACH` are under way to any one server.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.task import deferLater

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Connection, SSHClient
from twisted_dist.launchers.ssh.settings import HostSettings

#: connections under way to one server: less than the tenth
MOST_EACH: Final = 8
#: and to all; each costs some milliseconds of this process
MOST: Final = 64
#: seconds to wait before a second attempt; doubled for each further one, up to
FIRST_WAIT_S: Final = 0.5
#: so many: who restarts a host wants it back soon after it is there
MOST_WAIT_S: Final = 30.0


class Dialling:
    """Enters hosts.

    Args:
        reactor: for time.
        client: that enters one, once.
        chance: so that hosts that were lost together are not dialled together.
    """

    def __init__(self, reactor: Any, client: SSHClient, chance: random.Random) -> None:
        self._reactor = reactor
        self._client = client
        self._chance = chance
        self._all = DeferredSemaphore(MOST)
        self._each: defaultdict[tuple[str, int], DeferredSemaphore] = defaultdict(
            lambda: DeferredSemaphore(MOST_EACH)
        )

    async def connect(
        self,
        settings: HostSettings,
        patience_s: float,
        failed: Callable[[SSHError], None] = lambda problem: None,
    ) -> Connection:
        """Enter a host; the last attempt begins *patience_s* after the first one.

        What will not pass, such as a wrong key, is not tried again.

        Args:
            settings: of the host.
            patience_s: seconds in which attempts begin; infinity to try for ever.
            failed: called with each failure after which there will be another attempt.

        Raises:
            SSHError: of the last attempt.
        """
        began = self._reactor.seconds()
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return await self._once(settings)
            except SSHError as problem:
                left_s = began + patience_s - self._reactor.seconds()
                if not problem.is_passing or left_s <= 0:
                    raise
                pause_s = min(wait_s * self._chance.uniform(0.5, 1.5), left_s)
                wait_s = min(wait_s * 2, MOST_WAIT_S)
                failed(problem)
            await deferLater(self._reactor, pause_s, lambda: None)

    async def _once(self, settings: HostSettings) -> Connection:
        first = settings.jumps[0] if settings.jumps else settings
        each = self._each[first.host, first.port]
        await each.acquire()
        try:
            await self._all.acquire()
            try:
                return await self._client.connect(settings)
            finally:
                self._all.release()
        finally:
            each.release()
