"""`Network`: what the hosts of a cluster have in common."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThreadPool

from twisted_dist.launchers.cluster.credentials import Credentials
from twisted_dist.launchers.cluster.whereabouts import Whereabouts
from twisted_dist.launchers.far_side.bundle import Bundle, bundle_for
from twisted_dist.launchers.far_side.probe import Report


class Network:
    """What the hosts of a cluster have in common: where its scheduler is, and who may enter.

    Args:
        reactor: has threads.
        port: of the scheduler; 0 for any.
        credentials: for everybody.
        passing: they go with this process; by default where the port is any.
        interface: on which hosts know each other, or a subnet; "" for where each was reached.

    Attributes:
        address: of the scheduler; "" until it is to start.
        machine: what the scheduler's machine calls itself.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        credentials: Credentials,
        *,
        passing: bool | None = None,
        interface: str = "",
    ) -> None:
        self._reactor = reactor
        self._bundling = DeferredLock()
        self.port = port
        self.interface = interface
        self._passing = not port if passing is None else passing
        self.machine = ""
        self.credentials = credentials
        self.whereabouts = Whereabouts()
        self.address = ""

    def place(self, host: str | None, machine: str) -> None:
        """Where the scheduler will be; *host* is None where it is to find that out itself."""
        self.machine = machine
        self.locate(self.address or f"{host or machine}:{self.port}")

    def locate(self, address: str) -> None:
        """Where the scheduler says that it is. Raises AccessError."""
        self.credentials.open(address, self.machine, passing=self._passing)
        self.address = address

    async def bundle(self, report: Report) -> Bundle:
        """What is shipped to a host; made in a thread, once for all hosts of a kind.

        Raises:
            UsageProblem: it cannot be made here.
        """
        await self._bundling.acquire()
        try:
            return await deferToThreadPool(
                self._reactor,
                self._reactor.getThreadPool(),
                bundle_for,
                report.platform,
                report.abi,
            )
        finally:
            self._bundling.release()
