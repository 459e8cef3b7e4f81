"""Bringing results that stayed on their workers to the client."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from twisted.internet import defer, task
from twisted.logger import Logger

from twisted_dist.aliases import TaskId
from twisted_dist.client.future import Record
from twisted_dist.errors import ConnectError, ConnectionClosedError
from twisted_dist.wire.pool import DataPool

#: rounds of asking where results are; between them a lost one may be computed again
ATTEMPTS: Final = 5
#: seconds before the second round, doubled each time: 1.5 s in all
FIRST_PAUSE_S: Final = 0.1

#: results asked for in one message
AT_ONCE: Final = 50_000

#: gives ``[(worker's address, ids of what it holds), …]`` for ids
Locate = Callable[[list[TaskId]], Awaitable[list[tuple[str, list[TaskId]]]]]


class Fetcher:
    """Fills in the values of finished records, each worker asked once for all of its own."""

    log = Logger()

    def __init__(self, reactor: Any, data: DataPool, locate: Locate) -> None:
        self._reactor = reactor
        self._data = data
        self._locate = locate

    async def fetch(self, records: Sequence[Record]) -> None:
        """Bring the values of finished records here; in the reactor's thread."""
        away = [each for each in records if each.value is None]
        for start in range(0, len(away), AT_ONCE):
            await self._fetch_some(away[start : start + AT_ONCE])

    async def _fetch_some(self, records: Sequence[Record]) -> None:
        wanted = {each.id: each for each in records}
        for attempt in range(ATTEMPTS):
            sources = await self._locate(list(wanted))
            for address, ids in sources:
                try:
                    connection = await self._data.connection(address)
                    values = await connection.get(ids)
                except (ConnectError, ConnectionClosedError) as problem:
                    self.log.info("no data from {a}: {p}", a=address, p=problem)
                    continue
                for task_id, value in values.items():
                    if task_id in wanted:
                        wanted.pop(task_id).value = value
            wanted = {i: r for i, r in wanted.items() if r.error is None}
            if not wanted:
                return
            await task.deferLater(self._reactor, FIRST_PAUSE_S * 2**attempt)
        raise ConnectError(f"{len(wanted)} results could not be fetched from their workers")

    def fetch_blocking(self, records: Sequence[Record], timeout: float | None) -> None:
        """`fetch` from a user's thread."""
        done = threading.Event()
        problems: list[BaseException] = []

        def start() -> None:
            fetching = defer.Deferred.fromCoroutine(self.fetch(records))
            fetching.addCallbacks(lambda _: None, lambda failure: problems.append(failure.value))
            fetching.addBoth(lambda _: done.set())

        self._reactor.callFromThread(start)
        if not done.wait(timeout):
            raise TimeoutError(f"results not fetched within {timeout} s")
        if problems:
            raise problems[0]
