"""What tasks have written, as the scheduler keeps it: so much of each worker's, dead or alive."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from twisted_dist.errors import RefusedError
from twisted_dist.execution.output import STDERR

#: characters that are kept of one worker's
MOST_OF_WORKER: Final = 256 * 1024
#: what an entry counts for beside its text: many short ones take memory as well
ENTRY_SIZE: Final = 200
#: workers of which something is kept; those that have written longest ago are forgotten
MOST_WORKERS: Final = 256
#: characters of one answer
MOST_ANSWERED: Final = 256 * 1024

#: a number that grows, the time, the task's key ("": none), the stream, the text
Entry = tuple[int, float, str, int, str]


class _Page:
    """One worker's."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.size = 0

    def add(self, entry: Entry) -> None:
        """Keep one more, and forget the first ones where there are too many."""
        self.entries.append(entry)
        self.size += len(entry[4]) + ENTRY_SIZE
        while self.size > MOST_OF_WORKER and len(self.entries) > 1:
            self.size -= len(self.entries.popleft()[4]) + ENTRY_SIZE


class LogBook:
    """Pieces of output by worker, in the order in which they came."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._last = 0

    def note(
        self, now: float, worker: str, pieces: Iterable[tuple[str, int, str]], left_out: int = 0
    ) -> None:
        """Keep what *worker* says its tasks have written.

        Args:
            now: seconds since the epoch.
            worker: its name or address.
            pieces: each a task's key or "", the stream, the text.
            left_out: characters that the worker has not passed on.
        """
        page = self._pages.get(worker)
        if page is None:
            page = self._pages[worker] = _Page()
            if len(self._pages) > MOST_WORKERS:
                self._pages.popitem(last=False)
        self._pages.move_to_end(worker)
        for key, stream, text in pieces:
            self._last += 1
            page.add((self._last, now, key, stream, text[:MOST_OF_WORKER]))
        if left_out:
            self._last += 1
            page.add((self._last, now, "", STDERR, f"[{left_out} characters were left out]\n"))

    def answer(self, what: Any) -> dict[str, Any]:
        """For clients: ``{"entries": [[number, time, worker, key, stream, text], …], "last"}``.

        Args:
            what: ``{"after": number, "keys": [key, …] or None, "worker": its name or None}``:
                entries with higher numbers, of these tasks, of this worker; "last" is what to
                ask for next, after as many as one answer takes.

        Raises:
            RefusedError: it asks for something else.
        """
        after, keys, worker = self._asked(what)
        names = [worker] if worker is not None else list(self._pages)
        entries: list[list[Any]] = []
        size, last = 0, self._last
        for entry in heapq.merge(*(self._of(name, after, keys) for name in names)):
            if size > MOST_ANSWERED:
                last = entries[-1][0]
                break
            size += len(entry[-1]) + ENTRY_SIZE
            entries.append(list(entry))
        return {"entries": entries, "last": last}

    def _asked(self, what: Any) -> tuple[int, frozenset[str] | None, str | None]:
        if type(what) is dict and set(what) == {"after", "keys", "worker"}:
            after, keys, worker = what["after"], what["keys"], what["worker"]
            is_list = type(keys) is list and all(type(each) is str for each in keys)
            if (
                type(after) is int
                and (keys is None or is_list)
                and type(worker) in (str, type(None))
            ):
                return after, None if keys is None else frozenset(keys), worker
        raise RefusedError("logs takes after, keys and worker")

    def _of(
        self, worker: str, after: int, keys: frozenset[str] | None
    ) -> Iterator[tuple[int, float, str, str, int, str]]:
        page = self._pages.get(worker)
        for number, when, key, stream, text in page.entries if page is not None else ():
            if number > after and (keys is None or key in keys):
                yield number, when, worker, key, stream, text
