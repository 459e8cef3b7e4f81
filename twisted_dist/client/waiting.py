"""`as_completed` and `wait`, for futures of one or several clients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from twisted_dist.client.future import Countdown, Future, Record
from twisted_dist.errors import UsageProblem
from twisted_dist.execution.current import while_waiting

ALL_COMPLETED: Final = "ALL_COMPLETED"
FIRST_COMPLETED: Final = "FIRST_COMPLETED"


class DoneAndNotDone(NamedTuple):
    """What `wait` returns, as concurrent.futures.wait does."""

    done: set[Future]
    not_done: set[Future]


def as_completed(futures: Iterable[Future], with_results: bool = False) -> Iterator[Any]:
    """The futures, each when it is done; ``(future, result)`` pairs *with_results*.

    A failed future's exception is raised when its result is asked for.
    """
    waiting: dict[Record, Future] = {each._record: each for each in futures}
    done: SimpleQueue[Record] = SimpleQueue()
    for record, future in waiting.items():
        future._session.records.when_done(record, done.put)
    while waiting:
        future = waiting.pop(while_waiting(done.get))
        yield (future, future.result()) if with_results else future


def wait(
    futures: Iterable[Future], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDone:
    """Block until all (or the first) of *futures* are done, without moving results.

    Raises:
        TimeoutError: not within *timeout* seconds.
    """
    futures = list(futures)
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED):
        raise UsageProblem(f"return_when={return_when!r}: ALL_COMPLETED or FIRST_COMPLETED")
    pending = [each for each in futures if not each.done()]
    first = return_when == FIRST_COMPLETED
    if pending and not (first and len(pending) < len(futures)):
        countdown = Countdown(1 if first else len(pending))
        for each in pending:
            each._session.records.when_done(each._record, countdown)
        if not while_waiting(countdown.wait, timeout):
            raise TimeoutError(f"{len(pending)} futures not done within {timeout} s")
    done = {each for each in futures if each.done()}
    return DoneAndNotDone(done, set(futures) - done)
