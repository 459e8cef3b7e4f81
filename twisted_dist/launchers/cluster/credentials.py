"""`Credentials`: who may enter the cluster's network, known before anything of it runs.

The launcher makes the network, or takes the one that it made for the same address before, and
keeps it in its user's home, where clients here find their access. The scheduler is given all of
it and workers what lets them in, on standard input.
"""

from __future__ import annotations

from twisted_dist.access.home import Home
from twisted_dist.access.network import Network
from twisted_dist.access.roles import WORKER


class Credentials:
    """Of one network.

    Args:
        home: of whoever launches; None for a network without credentials.
    """

    def __init__(self, home: Home | None) -> None:
        self._home = home
        self._network: Network | None = None
        self._address = self._machine = ""
        self._passing = False

    @property
    def is_insecure(self) -> bool:
        """Whether there are none."""
        return self._home is None

    def open(self, address: str, machine: str, *, passing: bool) -> None:
        """Find or make the network of the scheduler that will be at *address*. Idempotent.

        Args:
            address: ``host:port``.
            machine: what the scheduler's machine calls itself.
            passing: there will be none at this address again: `close` takes its files away.

        Raises:
            AccessError: the home cannot be used.
        """
        if self._home is None or address == self._address:
            return
        self._network = self._home.open_network(
            address, passing=passing, given=self._network, machine=machine
        )
        if self._address:  # under which nobody will look for it
            self._home.remove_network(self._address)
        self._address, self._machine, self._passing = address, machine, passing

    def close(self) -> None:
        """The network has ended."""
        if self._home is not None and self._passing:
            self._home.remove_network(self._address)

    def for_scheduler(self) -> str:
        """The first line of the scheduler's standard input."""
        return "" if self._network is None else self._network.line()

    def for_worker(self) -> str:
        """The first line of a worker's standard input."""
        if self._network is None:
            return ""
        worker = self._network.owned[WORKER]
        return self._network.access([self._address], self._machine, [worker]).join_string()
