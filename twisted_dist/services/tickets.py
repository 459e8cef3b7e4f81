"""Tickets with which tasks enter the network as clients: the scheduler's side.

A worker may not submit. A task that it runs may, on behalf of the client that submitted the
task: the worker asks for a ticket, which is given while that attempt is the one that counts,
and which lets one client in.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import PROCESSING
from twisted_dist.errors import RefusedError

#: seconds until a ticket that was not used is worth nothing
TICKET_S: Final = 60.0
TICKET_BYTES: Final = 32
#: tickets that are not used yet; more are refused
MOST_TICKETS: Final = 10_000


class Tickets:
    """Those that were given and not used yet."""

    def __init__(self, reactor: Any, state: SchedulerState) -> None:
        self._reactor = reactor
        self._state = state
        #: {ticket: until when}, the oldest first
        self._until: dict[bytes, float] = {}

    def give(self, worker: int, task_id: int, attempt: int) -> bytes:
        """A ticket for a task that *worker* runs. Raises RefusedError."""
        task = self._state.tasks.get(task_id)
        runs = task is not None and task.state is PROCESSING and task.attempt == attempt
        if task is None or not runs or task.processing_on is None:
            raise RefusedError("this task is not, or no longer, to be run")
        if task.processing_on.id != worker:
            raise RefusedError("another worker runs this task")
        self._forget_old()
        if len(self._until) >= MOST_TICKETS:
            raise RefusedError("too many tasks want to submit tasks at a time: try again later")
        ticket = secrets.token_bytes(TICKET_BYTES)
        self._until[ticket] = self._reactor.seconds() + TICKET_S
        return ticket

    def take(self, ticket: bytes) -> None:
        """Use a ticket. Raises RefusedError where it is none, or was used."""
        self._forget_old()
        # found by hash, of which an attacker learns nothing that helps with 32 random bytes
        if self._until.pop(ticket, None) is None:
            raise RefusedError("this is no ticket, or it was used, or it is too old")

    def _forget_old(self) -> None:
        now = self._reactor.seconds()
        for ticket, until in list(self._until.items()):
            if until > now:
                break
            del self._until[ticket]
