"""The scheduler's tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from twisted_dist.aliases import Digest, Key, PeerId, TaskId
from twisted_dist.core.alarms import Alarms
from twisted_dist.core.demand import Demand, demand_key
from twisted_dist.core.options import Options
from twisted_dist.core.outbox import Outbox
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.policy.feeding import AHEAD_S, has_room
from twisted_dist.core.ready import ReadyQueue
from twisted_dist.core.story import Story
from twisted_dist.core.task import SchedulerFunction, SchedulerTask


class SchedulerState:
    """All that the scheduler knows. Tasks are changed only by `core.transitions`."""

    def __init__(self) -> None:
        #: the instant of the stimulus that is being handled
        self.now = 0.0
        self.tasks: dict[TaskId, SchedulerTask] = {}
        #: tasks whose name shares one computation
        self.keys: dict[Key, SchedulerTask] = {}
        self.functions: dict[Digest, SchedulerFunction] = {}
        self.workers: dict[PeerId, SchedulerWorker] = {}
        self.by_address: dict[str, SchedulerWorker] = {}
        self.clients: dict[PeerId, SchedulerClient] = {}
        #: holds what runs to its end although nobody has a future of it
        self.runaways = SchedulerClient(0, "fire-and-forget")
        #: tasks that could run anywhere
        self.ready = ReadyQueue()
        #: {`demand_key`: demand}, and those of them that name no worker
        self.demands: dict[tuple[object, ...], Demand] = {}
        self.wide: dict[Demand, None] = {}
        #: {task in the state no-worker: since when}, the longest first
        self.unrunnable: dict[SchedulerTask, float] = {}
        #: workers with a free thread that do not retire; a subset of `roomy`
        self.idle: dict[SchedulerWorker, None] = {}
        #: workers that should be given more (`feeding.has_room`)
        self.roomy: dict[SchedulerWorker, None] = {}
        #: workers with a backlog
        self.backlogged: dict[SchedulerWorker, None] = {}
        #: since tasks were last assigned: roomy workers with more room or more to do, and
        #: demands with more tasks or more workers
        self.touched: dict[SchedulerWorker, None] = {}
        self.fresh: dict[Demand, None] = {}
        #: some worker may have more than it can begin; when `core.balance` looks next
        self.unbalanced = False
        self.balance_at: float | None = None
        #: tasks that were just given to workers, and have a time limit
        self.limited: list[SchedulerTask] = []
        #: attempts with a time limit, requests that wait so long, leases
        self.alarms = Alarms()
        #: workers that are to leave: those with `SchedulerWorker.retiring`
        self.retiring: dict[SchedulerWorker, None] = {}
        #: {task: copies that are kept up}, and those of which something has changed
        self.replicated: dict[SchedulerTask, int] = {}
        self.to_replicate: dict[SchedulerTask, None] = {}
        #: {task: workers that were told to fetch a copy}
        self.copying: dict[SchedulerTask, dict[SchedulerWorker, None]] = {}
        #: {task: those that could not fetch one}, until somebody has, or they may try again
        self.failed_copies: dict[SchedulerTask, dict[SchedulerWorker, None]] = {}
        #: {function: the microseconds and the bytes of its tasks that have ended since the last
        #: decision, in columns}
        self.measured: defaultdict[SchedulerFunction, tuple[list[int], list[int]]]
        self.measured = defaultdict(lambda: ([], []))
        #: {(client, request): asked ids with their tasks}
        self.lookups: dict[tuple[SchedulerClient, int], dict[TaskId, SchedulerTask]] = {}
        #: members of an earlier life of this scheduler return: nothing is given out until they
        #: have said what they have
        self.recovering = False
        #: attempts that begin here are higher; more than any number of an earlier life
        self.attempt_base = 0
        self.submitted = 0
        self.story = Story()
        self.outbox = Outbox(self.story)

    def learn(self) -> None:
        """Fold in what was measured of tasks that have ended."""
        for function, (durations_us, nbytes) in self.measured.items():
            count = len(durations_us)
            function.learn(sum(durations_us) / count / 1e6, sum(nbytes) / count)
        self.measured.clear()

    # -- workers' room

    def note_room(self, worker: SchedulerWorker) -> None:
        """Keep `idle` and `roomy` true after a worker's load changed."""
        if worker.busy < worker.nthreads and worker.retiring is None and not worker.is_cut:
            self.roomy[worker] = self.idle[worker] = None
            return
        if worker in self.idle:
            del self.idle[worker]
        # of its two conditions the one that mostly tells, without a call
        if worker.occupancy < AHEAD_S * worker.nthreads and has_room(worker):
            self.roomy[worker] = None
        elif worker in self.roomy:
            del self.roomy[worker]

    def touch(self, workers: Iterable[SchedulerWorker]) -> None:
        """As `note_room`, where room may have been made: what only they may run is looked at."""
        roomy, idle, backlogged, demands = self.roomy, self.idle, self.backlogged, self.demands
        for worker in workers:
            if (  # most often so
                worker.busy < worker.nthreads and worker.retiring is None and not worker.is_cut
            ):
                roomy[worker] = idle[worker] = None
            else:
                self.note_room(worker)
                if worker not in roomy:
                    continue
            if worker in backlogged or (demands and (worker.demands or self.wide)):
                self.touched[worker] = None

    # -- demands

    def demand(self, options: Options) -> Demand | None:
        """The one of all tasks that ask the same; None where nothing is asked."""
        key = demand_key(options)
        if key is None:
            return None
        demand = self.demands.get(key)
        if demand is None:
            demand = self.demands[key] = Demand(options)
            if not demand.names:
                self.wide[demand] = None
            self.choose(demand)
        return demand

    def choose(self, demand: Demand) -> None:
        """Find anew who meets a demand; who now does looks at it."""
        for worker in demand.able:
            worker.demands.pop(demand, None)
        demand.choose(self.workers.values())
        if demand.names:
            for worker in demand.able:
                worker.demands[demand] = None
        self.fresh[demand] = None

    def drop_demand(self, demand: Demand) -> None:
        """Nobody asks it any more."""
        del self.demands[demand.key]
        self.wide.pop(demand, None)
        self.fresh.pop(demand, None)
        for worker in demand.able:
            worker.demands.pop(demand, None)
