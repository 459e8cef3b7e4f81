"""`Holder`: what a worker has of data, and how it comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from twisted_dist.aliases import TaskId, Value
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.payloads import value_nbytes
from twisted_dist.services.store import Store
from twisted_dist.wire.data import DataProtocol
from twisted_dist.wire.pool import DataPool


class Holder:
    """Holds values, gives them to peers, takes them from peers and clients.

    Args:
        store: where they are.
        peers: connections to other workers.
        put: told of what a client has stored here; gives this worker's number.
    """

    log = Logger()

    def __init__(self, store: Store, peers: DataPool, put: Callable[[m.DataPut], int]) -> None:
        self.store = store
        self.peers = peers
        self._put = put

    def open(self) -> DataProtocol:
        """The serving end of a data connection."""
        return DataProtocol(None, self.store.get, self.store_here)

    def store_here(self, ids: list[TaskId], values: list[Value]) -> int:
        """Hold what a client puts here, or an errand of its; this worker's number."""
        sizes = [value_nbytes(value) for value in values]
        self.store.update(ids, values, sizes)
        return self._put(m.DataPut(ids, sizes))

    async def fetch(self, address: str, ids: Sequence[TaskId]) -> dict[TaskId, Value] | None:
        """Values that the peer at *address* has; None where it does not answer."""
        try:
            connection = await self.peers.connection(address)
            return await connection.get(ids)
        except Exception as problem:  # whatever it was, the scheduler decides what next
            self.log.warn("no data from {a}: {p}", a=address, p=problem)
            return None

    def keep_fetched(
        self, address: str, ids: Sequence[TaskId], values: dict[TaskId, Value] | None
    ) -> m.FetchFinished:
        """Hold what came, unless it is here by now, and say what that means."""
        came = values or {}
        new = [each for each in came if each not in self.store]
        sizes = {each: value_nbytes(value) for each, value in came.items()}
        self.store.update(new, [came[each] for each in new], [sizes[each] for each in new])
        absent = [each for each in ids if each not in came]
        silent = values is None
        return m.FetchFinished(address, list(came), list(sizes.values()), absent, silent)
