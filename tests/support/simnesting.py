"""`TaskClients`: how tasks of one simulated child process submit tasks."""

from __future__ import annotations

from random import Random

from twisted_dist.access.roles import WORKER
from twisted_dist.client.async_client import AsyncClient
from twisted_dist.client.session import Session
from twisted_dist.errors import ConnectionClosedError
from twisted_dist.wire.membership import Membership

#: seconds until a client of tasks must have its scheduler, as of `Client.for_task`
CONNECT_S = 10.0


class TaskClients:
    """The client of all tasks of a child, made when one wants it; as `client.current` does.

    The process is a host of its own to the network: what is done to the way between its
    worker and the scheduler is not done to its own.

    Args:
        nanny: the `SimExecutor`.
    """

    def __init__(self, nanny):
        self._nanny = nanny
        self._net = nanny.reactor.net
        self._host = None
        self._client = None
        self._dead = False

    @property
    def ip(self):
        """Of its host; None while there is none."""
        return self._host.ip if self._host is not None and not self._host.dead else None

    async def get(self, spec):
        """A client to submit with, for a task.

        Raises:
            RefusedError: that task is not to be run any more.
            ConnectError: the scheduler cannot be reached.
            ConnectionClosedError: the process has ended.
        """
        if self._client is not None and self._client.is_open:
            return self._client
        given = await self._nanny.get_pass(spec.task_id, spec.attempt)
        if self._dead:
            raise ConnectionClosedError("the process has ended")
        if self._host is None:
            self._host = self._net.host(self._nanny.world.new_process_ip())
        client = AsyncClient(given.scheduler, reactor=self._host, timeout=CONNECT_S, insecure=True)
        membership = Membership(None, True, (WORKER,))
        name = f"task {spec.task_id:x}"
        chance = Random(f"{self._host.ip} {name}")
        client._session = Session(
            self._host, given.scheduler, name, membership, given.ticket, chance
        )
        await client.start()
        if self._client is not None and self._client.is_open:
            await client.close()
        else:
            self._client = client
        return self._client

    def die(self):
        """The process ends."""
        self._dead = True
        ip = self.ip
        if ip is not None:
            self._net.kill(ip)
