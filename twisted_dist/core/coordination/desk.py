"""`Coordination`: everything that clients and tasks share by name, in one place."""

from __future__ import annotations

from twisted_dist.core.coordination.events import Events
from twisted_dist.core.coordination.queues import Queues
from twisted_dist.core.coordination.semaphores import Semaphores
from twisted_dist.core.coordination.variables import Variables
from twisted_dist.core.coordination.waiting import leave_all
from twisted_dist.core.parcels import Parcels
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation
from twisted_dist.core.state import SchedulerState


class Coordination:
    """The semaphores, events, variables and queues of one scheduler."""

    def __init__(self, state: SchedulerState, parcels: Parcels, first_token: int) -> None:
        self.semaphores = Semaphores(state, first_token)
        self.events = Events(state)
        self.variables = Variables(state, parcels, self.semaphores)
        self.queues = Queues(state, parcels)
        self._all = (self.semaphores, self.events, self.variables, self.queues)

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {name: each for part in self._all for name, each in part.operations().items()}

    def client_lost(self, client: SchedulerClient) -> None:
        """A client is gone: it waits for nothing, and what it held is free."""
        leave_all(client)
        self.semaphores.lose(client)
        self.queues.client_lost(client)

    def clear(self) -> None:
        """Forget everything, as a restart does."""
        for part in self._all:
            part.clear()
