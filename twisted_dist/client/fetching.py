"""Bringing results that stayed on their workers to the client."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from twisted.internet import defer, task
from twisted.logger import Logger

from twisted_dist.aliases import TaskId, Value
from twisted_dist.client.future import Record
from twisted_dist.errors import ConnectError, ConnectionClosedError
from twisted_dist.execution.current import while_waiting
from twisted_dist.wire.pool import DataPool

#: rounds of asking where results are; between them a lost one may be computed again
ATTEMPTS: Final = 8
#: seconds before the second round, doubled each time: 13 s in all
FIRST_PAUSE_S: Final = 0.1

#: results asked for in one message
AT_ONCE: Final = 50_000
#: workers that are asked at a time
WORKERS_AT_ONCE: Final = 64

#: ``[(worker's address, ids of what it holds), …]``, and ``[own id, id there]`` where they differ
Located: TypeAlias = tuple[Sequence[tuple[str, list[TaskId]]], Sequence[Sequence[TaskId]]]
Locate: TypeAlias = Callable[[list[TaskId]], Awaitable[Located]]


def _not_failed(records: dict[TaskId, Record]) -> dict[TaskId, Record]:
    return {i: r for i, r in records.items() if r.error is None}


class Fetcher:
    """Fills in the values of finished records, each worker asked once for all of its own."""

    log = Logger()

    def __init__(self, reactor: Any, data: DataPool, locate: Locate) -> None:
        self._reactor = reactor
        self._data = data
        self._locate = locate
        self._pauses: dict[defer.Deferred[None], None] = {}
        self._closed = False

    async def fetch(self, records: Sequence[Record]) -> None:
        """Bring the values of finished records here; in the reactor's thread.

        Those that are found lost meanwhile have an error afterwards, and no value.

        Raises:
            ConnectError: some are out of reach.
            ConnectionClosedError: so is the scheduler, or the client was closed.
        """
        away = [each for each in records if each.value is None]
        for start in range(0, len(away), AT_ONCE):
            await self._fetch_some(away[start : start + AT_ONCE])

    async def _fetch_some(self, records: Sequence[Record]) -> None:
        wanted = {each.id: each for each in records}
        why = "nobody has them"
        for attempt in range(ATTEMPTS):
            try:
                sources, aliases = await self._locate(list(wanted))
            except (ConnectError, ConnectionClosedError):
                if _not_failed(wanted):
                    raise
                return  # their errors say more
            names: dict[TaskId, list[TaskId]] = {}
            for own, there in aliases:
                names.setdefault(there, []).append(own)
            for values, problem in await self._ask_all(sources):
                why = problem or why
                for there, value in values.items():
                    for own in (there, *names.get(there, ())):
                        if own in wanted:
                            wanted.pop(own).value = value
            wanted = _not_failed(wanted)
            if wanted:
                await self._pause(FIRST_PAUSE_S * 2**attempt)
                wanted = _not_failed(wanted)  # they may have been found lost meanwhile
            if not wanted:
                return
        raise ConnectError(f"{len(wanted)} results could not be fetched from their workers: {why}")

    async def _ask_all(
        self, sources: Sequence[tuple[str, list[TaskId]]]
    ) -> list[tuple[dict[TaskId, Value], str]]:
        """Ask workers, several at a time: what each has, and what was wrong, if anything."""
        answers = []
        for start in range(0, len(sources), WORKERS_AT_ONCE):
            asking = [
                defer.Deferred.fromCoroutine(self._ask(address, ids))
                for address, ids in sources[start : start + WORKERS_AT_ONCE]
            ]
            results: Any = await defer.DeferredList(asking, consumeErrors=True)
            for succeeded, result in results:
                if not succeeded:
                    result.raiseException()
                answers.append(result)
        return answers

    async def _ask(self, address: str, ids: list[TaskId]) -> tuple[dict[TaskId, Value], str]:
        try:
            connection = await self._data.connection(address)
            return await connection.get(ids), ""
        except (ConnectError, ConnectionClosedError) as problem:
            self.log.info("no data from {a}: {p}", a=address, p=problem)
            return {}, str(problem)

    async def _pause(self, seconds: float) -> None:
        if self._closed:
            raise ConnectionClosedError("the client was closed")
        pause: defer.Deferred[None] = task.deferLater(self._reactor, seconds)
        self._pauses[pause] = None
        try:
            await pause
        except defer.CancelledError:
            raise ConnectionClosedError("the client was closed") from None
        finally:
            del self._pauses[pause]

    def close(self) -> None:
        """End what is under way: it fails with ConnectionClosedError."""
        self._closed = True
        for pause in list(self._pauses):
            pause.cancel()

    def fetch_blocking(self, records: Sequence[Record], timeout: float | None) -> None:
        """`fetch` from a user's thread."""
        if self._closed:  # its reactor may have ended too
            raise ConnectionClosedError("the client was closed")
        done = threading.Event()
        problems: list[BaseException] = []

        def start() -> None:
            fetching = defer.Deferred.fromCoroutine(self.fetch(records))
            fetching.addCallbacks(lambda _: None, lambda failure: problems.append(failure.value))
            fetching.addBoth(lambda _: done.set())

        self._reactor.callFromThread(start)
        if not while_waiting(done.wait, timeout):
            raise TimeoutError(f"results not fetched within {timeout} s")
        if problems:
            raise problems[0]
