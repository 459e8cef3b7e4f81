"""What clients ask for by name: a table of operations, each answered by a `Reply`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted_dist.core import stimuli as s
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.state import SchedulerState

#: takes the client and what it asked; replies now or later, exactly once
Operation: TypeAlias = Callable[[SchedulerClient, s.Asked], None]


class RequestError(Exception):
    """Raised by an operation that cannot be done; its words are the answer."""


class Requests:
    """Hands each `Asked` to its operation."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._operations: dict[str, Operation] = {}

    def add(self, operations: dict[str, Operation]) -> None:
        """Know operations by name."""
        self._operations.update(operations)

    def asked(self, fact: s.Asked) -> None:
        """A client asks for something."""
        client = self._state.clients.get(fact.client)
        if client is None:
            return
        operation = self._operations.get(fact.what)
        if operation is None:
            self._state.outbox.reply(client, fact.request, None, f"there is no {fact.what[:40]!r}")
            return
        try:
            operation(client, fact)
        except RequestError as problem:
            self._state.outbox.reply(client, fact.request, None, str(problem))
