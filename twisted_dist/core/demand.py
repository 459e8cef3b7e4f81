"""`Demand`: which workers may run a task, and the queue of those that only they may run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from twisted_dist.core.options import PLAIN, RESOURCE_UNIT, Options
from twisted_dist.core.ready import ReadyQueue

if TYPE_CHECKING:
    from twisted_dist.core.peers import SchedulerWorker


def demand_key(options: Options) -> tuple[object, ...] | None:
    """What tells demands apart; None where nothing is asked."""
    if options is PLAIN or not (options.workers or options.resources):
        return None
    return (
        options.workers,
        options.allow_other_workers,
        options.resources,
        options.wait_for_worker,
    )


#: workers that a message names
MOST_NAMED: Final = 5


class Demand:
    """What some tasks ask of a worker. Tasks that ask the same share one.

    A task that asks nothing has none, and waits in the common queue.
    """

    __slots__ = ("able", "key", "loose", "names", "parting", "ready", "resources", "tasks", "waits")

    def __init__(self, options: Options) -> None:
        self.key = demand_key(options) or ()
        self.names = frozenset(options.workers)
        self.loose = options.allow_other_workers
        self.resources = options.resources
        self.waits = options.wait_for_worker
        #: tasks on the books that ask this; it is dropped with the last
        self.tasks = 0
        #: registered workers that may run them, in order of registration
        self.able: dict[SchedulerWorker, None] = {}
        #: registered workers that could, and retire, where there are no others
        self.parting: list[SchedulerWorker] = []
        #: tasks that could run on any of `able`
        self.ready = ReadyQueue()

    def choose(self, workers: Iterable[SchedulerWorker]) -> None:
        """Find `able` anew, after workers came, went or began to retire."""
        enough = [each for each in workers if self._suffices(each)]
        strong = [each for each in enough if each.retiring is None]
        named = [each for each in strong if each.answers_to(self.names)]
        able = named if named or not (self.loose or not self.names) else strong
        self.able = dict.fromkeys(able)
        strict = bool(self.names) and not self.loose
        self.parting = [
            each
            for each in (() if able else enough)
            if each.retiring is not None and (not strict or each.answers_to(self.names))
        ]

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker that is there may run its tasks, and none is to be waited for."""
        return not (self.able or self.waits or self.parting)

    def _suffices(self, worker: SchedulerWorker) -> bool:
        return all(worker.resources.get(name, 0) >= amount for name, amount in self.resources)

    def room_at(self, worker: SchedulerWorker) -> int | None:
        """How many more of its tasks the worker's free resources allow; None for any number."""
        if not self.resources:
            return None
        free = worker.free
        return min(
            free.get(name, 0) // amount if amount else free.get(name, 0)
            for name, amount in self.resources
        )

    def __str__(self) -> str:
        """What is asked, in a user's words."""
        parts = [f"workers={sorted(self.names)}"] if self.names else []
        if self.resources:
            parts.append(f"resources {show_resources(self.resources)}")
        return " and ".join(parts)

    def unmet(self, workers: Iterable[SchedulerWorker]) -> str:
        """Why no worker may run its tasks, and what there is instead."""
        there = list(workers)
        if not there:
            return f"it asks for {self}, and no worker is registered"
        if self.parting:
            names = ", ".join(each.label for each in self.parting[:MOST_NAMED])
            return f"it asks for {self}, and only workers that retire could give that ({names})"
        offers = []
        for worker in there[:MOST_NAMED]:
            has = show_resources(worker.resources.items()) or "no resources"
            offers.append(f"{worker.label} has {has}" if self.resources else worker.label)
        more = len(there) - len(offers)
        if more:
            offers.append(f"{more} more")
        return f"it asks for {self}, and no worker here can give that ({'; '.join(offers)}); " + (
            "it waits for one" if self.waits else "wait_for_worker=True waits for one"
        )


def show_resources(resources: Iterable[tuple[str, int]]) -> str:
    """Amounts as a user writes them: ``GPU=1, memory=0.5``."""
    return ", ".join(f"{name}={amount / RESOURCE_UNIT:g}" for name, amount in resources)
