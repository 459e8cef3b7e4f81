"""Workers that leave gracefully: asked by a client, or by themselves as their lifetime is over.

From then on such a worker *retires*:

* it gets no task, no copy and no data (`feeding.has_room`, `Demand.choose`, `placement` and
  `Replicas` look at `SchedulerWorker.retiring`);
* what waits for it here goes to others at once, and what it was given is asked back; what it
  has begun goes on there;
* results that workers which stay have too few copies of are copied to them, also those that
  come meanwhile (`Replicas`). It keeps its own until it leaves, for whoever asks;
* when nothing runs there, nothing is owed (`Retirement.owed`), and nobody fetches from it as far
  as is known here, it is told to leave, and is off the books from the same moment: nothing is
  lost, and nothing is run again;
* a worker whose process is told to end does not wait (`RetirementWanted.waits`): where all that
  are there retire, its results have nowhere to go, and it leaves without that;
* at its deadline it leaves all the same; that is as if it were lost.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from twisted_dist.core import stimuli as s
from twisted_dist.core.claims import Claims
from twisted_dist.core.membership import Membership
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.ready import ReadyQueue
from twisted_dist.core.replicas import Replicas
from twisted_dist.core.requests import Operation, RequestError
from twisted_dist.core.retirement import Retirement
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import QUEUED
from twisted_dist.core.transitions import make_ready

#: the longest deadline, seconds: a year, which clocks and timers can add
MOST_S: Final = 365 * 86400.0


class Retiring:
    """Begins retirements, and ends them. Which workers retire is in `SchedulerState`."""

    def __init__(
        self,
        state: SchedulerState,
        members: Membership,
        replicas: Replicas,
        claims: Claims,
    ) -> None:
        self._state = state
        self._members = members
        self._replicas = replicas
        self._claims = claims
        #: clients that are answered once these have left
        self.waiting: list[tuple[SchedulerClient, int, list[SchedulerWorker]]] = []

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {"retire": self._retire}

    def wanted(self, fact: s.RetirementWanted) -> None:
        """A worker wants to leave."""
        worker = self._state.workers.get(fact.worker)
        if worker is not None:
            self._begin(worker, fact.timeout_s)
            if worker.retiring is not None and not fact.waits:
                worker.retiring.waits = False

    def _retire(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Have workers leave: all of these names, or the *number* of them that hold least.

        Answered with ``{address: name}``, once they have left; no names are everybody's.
        """
        names = fact.name.split("\n") if fact.name else []
        there = list(self._state.workers.values())
        for each in names:
            if not any(worker.answers_to(frozenset((each,))) for worker in there):
                raise RequestError(f"no worker here is, or is at, {each[:100]!r}")
        chosen = [each for each in there if not names or each.answers_to(frozenset(names))]
        if fact.number > 0:
            chosen = [each for each in chosen if each.retiring is None]
            chosen.sort(key=lambda each: (each.nbytes, len(each.processing), each.id))
            chosen = chosen[: fact.number]
        for worker in chosen:
            self._begin(worker, fact.timeout_s)
        self.waiting.append((client, fact.request, chosen))

    def _begin(self, worker: SchedulerWorker, timeout_s: float) -> None:
        """Let a worker retire; of several deadlines the first counts, below 0 there is none."""
        if worker.retiring is None:
            state = self._state
            attempts = {task: task.attempt for task in worker.processing}
            coming = [task for task, where in state.copying.items() if worker in where]
            worker.retiring = Retirement(attempts, coming)
            state.retiring[worker] = None
            state.note_room(worker)
            state.touched.pop(worker, None)
            self._members.take_demands(worker)
            self._give_backlog(worker)
            self._recall(worker)
            self._replicas.worker_retires(worker, coming)
            state.outbox.log(
                f"{worker.label} retires: it runs {len(attempts)} tasks at most, "
                f"and holds {len(worker.has_what)} results"
            )
        retirement = worker.retiring
        due = self._state.now + min(timeout_s, MOST_S)
        if timeout_s >= 0 and (retirement.due is None or due < retirement.due):
            if retirement.alarm is not None:
                retirement.alarm.cancel()
            retirement.due = due
            retirement.alarm = self._state.alarms.at(due, partial(self._leave_anyway, worker))

    def _give_backlog(self, worker: SchedulerWorker) -> None:
        """What waits here for its data there waits for somebody else."""
        tasks = dict.fromkeys(task for task in worker.backlog if task.state is QUEUED)
        worker.backlog = ReadyQueue()
        self._state.backlogged.pop(worker, None)
        for task in tasks:
            make_ready(self._state, task)

    def _recall(self, worker: SchedulerWorker) -> None:
        """Ask for all that it was given; what it has begun does not come back."""
        for task in worker.processing:
            if task not in worker.seceded and task not in worker.recalled:
                worker.recalled[task] = None
                worker.is_odd = True
                self._state.outbox.drop(worker, task)

    # -- the end

    def maintain(self) -> None:
        """Let those leave that have done all; answer who waits for that."""
        state = self._state
        for worker in list(state.retiring):
            if self._may_leave(worker):
                self._note_left_over(worker)
                state.outbox.log(f"{worker.label} has retired")
                self._leave(worker, "it has retired")
            else:
                self._warn(worker)
        still = []
        for client, request, workers in self.waiting:
            if any(state.workers.get(each.id) is each for each in workers):
                still.append((client, request, workers))
            else:
                names = {each.address: each.name for each in workers}
                state.outbox.reply(client, request, names)
        self.waiting = still

    def _may_leave(self, worker: SchedulerWorker) -> bool:
        return not (
            worker.processing
            or (self._owes(worker) and not self._is_owed_in_vain(worker))
            or self._claims.is_unclaimed_at(worker)
            or self._is_fetched_from(worker)
        )

    def _owes(self, worker: SchedulerWorker) -> bool:
        """Whether others are to have something of its results."""
        assert worker.retiring is not None
        owed = worker.retiring.owed
        while owed:
            task = next(iter(owed))
            if task in worker.has_what:
                return True
            del owed[task]
        return False

    def _is_fetched_from(self, worker: SchedulerWorker) -> bool:
        """Whether anybody was told to fetch what it holds, maybe from another holder."""
        tasks = self._state.tasks
        return any(
            (task := tasks.get(task_id)) is not None and task in worker.has_what
            for other in self._state.workers.values()
            if other is not worker
            for task_id in other.fetching
        )

    def _is_owed_in_vain(self, worker: SchedulerWorker) -> bool:
        """Whether it does not wait for others, and there are none who could take its results."""
        assert worker.retiring is not None
        return not worker.retiring.waits and len(self._state.workers) == len(self._state.retiring)

    def _note_left_over(self, worker: SchedulerWorker) -> None:
        """Say what goes with it."""
        if self._owes(worker) and worker.retiring is not None:
            self._state.outbox.log(
                f"{len(worker.retiring.owed)} results go with {worker.label}: all workers leave",
                is_warning=True,
            )

    def _warn(self, worker: SchedulerWorker) -> None:
        """Say, once, that nobody is there who could take its results."""
        state, retirement = self._state, worker.retiring
        assert retirement is not None
        if retirement.told or not retirement.waits or len(state.workers) > len(state.retiring):
            return
        if self._owes(worker):
            retirement.told = True
            until = "" if retirement.due is None else ", or for its deadline"
            state.outbox.log(
                f"{worker.label} cannot leave: there is no other worker to take its "
                f"{len(retirement.owed)} results; it waits for one{until}",
                is_warning=True,
            )

    def _leave_anyway(self, worker: SchedulerWorker) -> None:
        """Its deadline has come: what it has not done is done by others, from the beginning."""
        self._owes(worker)
        owed = len(worker.retiring.owed) if worker.retiring is not None else 0
        self._state.outbox.log(
            f"{worker.label} leaves, as its deadline has come: {len(worker.processing)} tasks "
            f"have not ended there, and {owed} results were not copied to others",
            is_warning=True,
        )
        self._leave(worker, "its deadline for retiring has come")

    def _leave(self, worker: SchedulerWorker, reason: str) -> None:
        self._members.lose(worker, reason)
        self._state.outbox.leave(worker)
