"""A restart: what is computed, held or published is given up, and workers start anew."""

from __future__ import annotations

from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.desk import Coordination
from twisted_dist.core.datasets import Datasets
from twisted_dist.core.membership import Membership
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import CANCELLED, ERRED, FORGOTTEN, MEMORY
from twisted_dist.core.transitions import drop_result, fail


class Restarts:
    """Clients stay, and are told that their tasks were cancelled."""

    def __init__(
        self,
        state: SchedulerState,
        members: Membership,
        datasets: Datasets,
        coordination: Coordination,
    ) -> None:
        self._state = state
        self._members = members
        self._datasets = datasets
        self._coordination = coordination

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {"restart": self._restart}

    def _restart(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Answered with the addresses of the workers that are told to; they register again."""
        state = self._state
        self._datasets.clear()
        self._coordination.clear()
        for task in list(state.tasks.values()):
            if task.state is MEMORY:
                drop_result(state, task)
            if task.state is not ERRED and task.state is not FORGOTTEN:
                fail(state, task, (CANCELLED, b"", f"{task.name}: the network was restarted"))
        workers = list(state.workers.values())
        for worker in workers:
            self._members.lose(worker, "the network is restarted")
            state.outbox.restart_worker(worker)
        state.outbox.reply(client, fact.request, [worker.address for worker in workers])
