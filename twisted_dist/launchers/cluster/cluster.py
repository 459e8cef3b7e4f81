"""`Cluster`: everything that a cluster over SSH is made of, put together."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import time
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from twisted_dist.access.home import Home
from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.credentials import Credentials
from twisted_dist.launchers.cluster.entrance import Entrance
from twisted_dist.launchers.cluster.fleet import Fleet
from twisted_dist.launchers.cluster.network import Network
from twisted_dist.launchers.cluster.plan import Place
from twisted_dist.launchers.cluster.preparing import HostPreparing, Looked
from twisted_dist.launchers.cluster.request import Request
from twisted_dist.launchers.cluster.station import Company, Station
from twisted_dist.launchers.cluster.watch import Watch
from twisted_dist.launchers.ssh.interface import Asker

#: seconds in which attempts to enter a host begin, when it is only looked at: who looks wants
#: to know how it is now
CHECK_S: Final = 3.0


class Cluster:
    """One cluster over SSH.

    Args:
        reactor: of everything.
        request: what is wanted.
        asker: asks people for passwords, and whether they know a host.
        watch: is told what happens.
        chance: varies waits, and draws ports.
        wall: seconds since 1970.

    Attributes:
        ended: fires with why, once the network has been ended by somebody else.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        request: Request,
        asker: Asker,
        watch: Watch,
        chance: random.Random | None = None,
        wall: Callable[[], float] = time,
    ) -> None:
        self._reactor = reactor
        self._request = request
        self._watch = watch
        self._chance = chance if chance is not None else random.Random()
        self._wall = wall
        self._entrance = Entrance(reactor, request.ssh, asker, request.environ, self._chance)
        credentials = Credentials(None if request.is_insecure else Home())
        port, interface = request.plan.scheduler_port, request.interface
        self._network = Network(reactor, port, credentials, interface=interface)
        self._fleet = Fleet(
            reactor, request.plan, request.policy, self._station, self._network.locate
        )
        self.ended: Deferred[str] = self._fleet.ended

    def start(self) -> Deferred[str]:
        """Start it; fires with the scheduler's address.

        Fails with `ClusterError` where too little of it could be started; `end` it then.
        """
        return self._fleet.start()

    async def end(self) -> Sequence[str]:
        """End it all; the hosts on which, as far as is known, something may live on."""
        left = await self._fleet.end()
        await self._entrance.close()
        self._network.credentials.close()
        return left

    async def examine(self, told: Callable[[Place, Looked | SSHError], None]) -> None:
        """Enter all hosts, look at each, and leave; start nothing.

        Args:
            told: called with what is found, as it comes.
        """
        await gatherResults(
            [
                Deferred.fromCoroutine(self._examine(place, told))
                for place in self._request.plan.places
            ],
            consumeErrors=True,
        )
        await self._entrance.close()

    async def _examine(
        self, place: Place, told: Callable[[Place, Looked | SSHError], None]
    ) -> None:
        try:
            connection = await self._entrance.enter(place.spec, CHECK_S)
            try:
                preparing = self._preparing(place)
                told(place, await preparing.examine(connection, would_ship=self._request.ships))
            finally:
                await connection.close()
        except SSHError as problem:
            told(place, problem)

    # -- parts

    def _station(self, place: Place, company: Company) -> Station:
        return Station(
            self._reactor,
            place,
            lambda: Deferred.fromCoroutine(self._entrance.resolve(place.spec)),
            self._entrance.dialling,
            self._preparing(place),
            self._chance,
            self._watch,
            company,
        )

    def _preparing(self, place: Place) -> HostPreparing:
        return HostPreparing(
            self._reactor,
            place,
            self._request.surroundings,
            self._network,
            self._request.directories,
            self._chance,
            self._wall,
            self._watch,
            ships=self._request.ships,
        )
