"""Semaphores and locks: leases with fencing tokens.

A lease is held until it is released, its client is gone, or its client has not renewed it
for `LEASE_S`. Each has a token, higher than all before it: a holder that was given up, and
does not know, can be told from the one that came after.
"""

from __future__ import annotations

from typing import Final

from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.waiting import Line
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation, RequestError
from twisted_dist.core.state import SchedulerState

#: seconds until a lease that is not renewed is lost; clients renew every sixth of it.
#: dask.distributed's semaphore leases time out after 30 s as well
LEASE_S: Final = 30.0


class Semaphore:
    """*limit* leases, and who waits for one."""

    __slots__ = ("holders", "limit", "line", "name")

    def __init__(self, state: SchedulerState, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.line = Line(state)
        #: {token: who holds that lease}
        self.holders: dict[int, SchedulerClient] = {}


class Semaphores:
    """All of them by name; a lock is one with a single lease.

    Args:
        state: the scheduler's.
        first_token: higher than any that an earlier life of the scheduler gave.
    """

    def __init__(self, state: SchedulerState, first_token: int) -> None:
        self._state = state
        self._last_token = first_token
        self._by_name: dict[str, Semaphore] = {}

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {"acquire": self._acquire, "release": self._release, "renew": self._renew}

    def is_held(self, token: int) -> bool:
        """Whether a lease is held by somebody now."""
        return any(token in each.holders for each in self._by_name.values())

    def _acquire(self, client: SchedulerClient, fact: s.Asked) -> None:
        """One of *number* leases; answered with its token, or 0 when there was none in time."""
        if fact.number < 1:
            raise RequestError(f"a semaphore of {fact.number} leases could never be acquired")
        client.renewed_at = self._state.now  # its holder counts from when it asked
        found = self._by_name.get(fact.name)
        if found is None:
            found = self._by_name[fact.name] = Semaphore(self._state, fact.name, fact.number)
        elif found.limit != fact.number:
            raise RequestError(
                f"{fact.name!r} has {found.limit} leases for others, and {fact.number} here"
            )
        if len(found.holders) < found.limit:
            self._state.outbox.reply(client, fact.request, self._grant(found, client))
        else:
            found.line.join(client, fact, 0)

    def _grant(self, semaphore: Semaphore, client: SchedulerClient) -> int:
        """The token of a new lease."""
        self._last_token += 1
        semaphore.holders[self._last_token] = client
        client.leases[self._last_token] = semaphore.name
        if client.lease_alarm is None:
            client.renewed_at = self._state.now
            self._watch(client)
        return self._last_token

    def _release(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Give back the lease with the token *number*."""
        if fact.number not in client.leases:
            raise RequestError(
                f"lease {fact.number} of {fact.name!r} is not held any more: it was not renewed "
                f"for {LEASE_S:g} s, or the network was restarted"
            )
        self._free(client, fact.number)
        self._state.outbox.reply(client, fact.request, None)

    def _free(self, client: SchedulerClient, token: int) -> None:
        semaphore = self._by_name[client.leases[token]]
        del semaphore.holders[token]
        self._forget(client, token)
        waiter = semaphore.line.first()
        if waiter is not None:
            waiter.answer(self._grant(semaphore, waiter.client))
        if not semaphore.holders and semaphore.line.first() is None:
            del self._by_name[semaphore.name]

    def _forget(self, client: SchedulerClient, token: int) -> None:
        del client.leases[token]
        if not client.leases and client.lease_alarm is not None:
            client.lease_alarm.cancel()
            client.lease_alarm = None

    # -- leases

    def _renew(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Answered with the tokens that the client still holds."""
        client.renewed_at = self._state.now
        self._state.outbox.reply(client, fact.request, list(client.leases))

    def _watch(self, client: SchedulerClient) -> None:
        """Look after the leases of a client, by one alarm, while it has any."""
        due = client.renewed_at + LEASE_S
        client.lease_alarm = self._state.alarms.at(due, lambda: self._look_at(client))

    def _look_at(self, client: SchedulerClient) -> None:
        client.lease_alarm = None
        if client.renewed_at + LEASE_S > self._state.now:
            self._watch(client)
        else:
            self.lose(client)

    def lose(self, client: SchedulerClient) -> None:
        """All leases that a client has by now are lost; one that it waits for is a new one."""
        for token in list(client.leases):
            self._free(client, token)

    def clear(self) -> None:
        """A restart: nobody holds anything, and who waits is told."""
        semaphores = list(self._by_name.values())
        self._by_name.clear()
        for each in semaphores:
            for token, client in each.holders.items():
                self._forget(client, token)
            for waiter in iter(each.line.first, None):
                waiter.answer(None, f"{each.name!r}: the network was restarted")
