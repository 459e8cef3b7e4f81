"""What workers that come back say they have, matched with what clients say they are owed.

A worker that registers anew, with a scheduler that was started anew or after it was given up,
claims the results that it holds and the tasks that it has; a client submits again what it has
futures of. Either may come first. What both mean is adopted: the result is not computed again,
and the task goes on running. What nobody asks for within `CLAIM_S` is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from twisted_dist.aliases import CLIENT_SHIFT, TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.holders import add_holder, note_size
from twisted_dist.core.peers import Dropped, SchedulerWorker
from twisted_dist.core.policy.feeding import expected_s
from twisted_dist.core.processing import adopt, answered
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import (
    MEMORY,
    NO_WORKER,
    PROCESSING,
    QUEUED,
    RELEASED,
    WAITING,
    SchedulerTask,
)
from twisted_dist.core.transitions import activate, release_if_unneeded, remember

#: seconds until what no client tells of is nobody's; as long as a client's lease
CLAIM_S: Final = 60.0
#: seconds that a scheduler, started anew, gives out nothing, from when the first member of its
#: earlier life has come: living members dial at least once a second (`wire.link`)
GRACE_S: Final = 5.0
#: more workers than ever return
UNKNOWN: Final = 2**62


class Held(NamedTuple):
    """A result that a worker has: of which attempt (0: a copy, or scattered data), its size."""

    attempt: int
    nbytes: int


class Running(NamedTuple):
    """A task that a worker has, maybe runs."""

    worker: SchedulerWorker
    attempt: int


class Claims:
    """Handles the stimuli about claims.

    Attributes:
        waits: told of running tasks that wait for others.
    """

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self.waits: Callable[[s.TasksSeceded], None] = lambda fact: None
        #: {id that no task has: who holds it}
        self._held: dict[TaskId, dict[SchedulerWorker, Held]] = {}
        #: {id that no task has: who runs it}; `ended` and `finished` are told what ends while
        #: there is any
        self.running: dict[TaskId, Running] = {}
        #: workers that have claimed all they have, of an earlier life
        self._returned: set[SchedulerWorker] = set()
        self._expected = 0
        self._has_recovered = False

    # -- a life of the scheduler begins

    def recover(self, peers: int) -> None:
        """A member of an earlier life has come, that knew of so many workers (0: of some)."""
        state = self._state
        self._expected = max(self._expected, peers) if peers else UNKNOWN
        if self._has_recovered:
            return
        self._has_recovered = state.recovering = True
        state.balance_at = None  # nothing is moved meanwhile: the time for it would never pass
        told = "members of an earlier life of this scheduler return: they say what they have"
        state.outbox.log(told, is_warning=True)
        state.alarms.at(state.now + GRACE_S, self._end_grace)

    def _end_grace(self) -> None:
        state = self._state
        if not state.recovering:
            return
        state.recovering = False
        state.outbox.log(
            f"{len(self._returned)} workers have returned; {len(self._held)} results and "
            f"{len(self.running)} running tasks of theirs are nobody's, so far",
            is_warning=True,
        )
        self._returned.clear()
        for task in [t for t in state.tasks.values() if t.group.function is None]:
            if task.state is RELEASED and (task.waiters or task.wanted_by):
                activate(state, task)  # finds that it is lost, and says so
        state.unbalanced = True

    # -- what workers claim

    def results_claimed(self, fact: s.ResultsClaimed) -> None:
        """A worker holds results."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        unknown = []
        for task_id, attempt, nbytes in zip(fact.ids, fact.attempts, fact.nbytes):
            task = self._state.tasks.get(task_id)
            if task is None:
                self.hold(worker, task_id, Held(attempt, nbytes))
                unknown.append(task_id)
            else:
                self._adopt_result(worker, task, Held(attempt, nbytes))
        self.expire(worker, unknown)

    def tasks_claimed(self, fact: s.TasksClaimed) -> None:
        """A worker has tasks, and maybe runs them."""
        worker = self._state.workers.get(fact.worker)
        if worker is None:
            return
        waiting = frozenset(fact.waiting)
        unknown = []
        for task_id, attempt in zip(fact.ids, fact.attempts):
            task = self._state.tasks.get(task_id)
            if task_id in worker.dropped or (task is not None and task.processing_on is worker):
                continue  # it was said before
            # a thread is used, whoever the task may be
            waits = task_id in waiting
            worker.dropped[task_id] = Dropped(attempt, (), waits)
            worker.is_odd = True
            worker.busy += not waits
            if task is None:
                self.running[task_id] = Running(worker, attempt)
                unknown.append(task_id)
            else:
                self._adopt_running(worker, task, attempt)
        if unknown:
            due = self._state.now + CLAIM_S
            self._state.alarms.at(due, partial(self._stop_nobodys, worker, unknown))
        self._state.note_room(worker)

    def all_claimed(self, fact: s.AllClaimed) -> None:
        """That was all: a worker takes tasks from now on."""
        state = self._state
        worker = state.workers.get(fact.worker)
        if worker is None:
            return
        worker.is_cut = False
        state.unbalanced = True
        state.touch((worker,))
        if state.recovering:
            self._returned.add(worker)
        if state.recovering and len(self._returned) >= self._expected:
            self._end_grace()

    # -- what becomes of it before anybody asks

    def hold(self, worker: SchedulerWorker, task_id: TaskId, held: Held) -> None:
        """A worker holds what no task has made, yet."""
        self._held.setdefault(task_id, {})[worker] = held

    def expire(self, worker: SchedulerWorker, ids: Sequence[TaskId]) -> None:
        """Let results be nobody's that no client has told of in time."""
        if ids:
            due = self._state.now + CLAIM_S
            self._state.alarms.at(due, partial(self._forgo, worker, ids))

    def _forgo(self, worker: SchedulerWorker, ids: Sequence[TaskId]) -> None:
        state = self._state
        for task_id in ids:
            holders = self._held.get(task_id, {})
            if worker not in holders:
                continue
            held = holders.pop(worker)
            if not holders:
                del self._held[task_id]
            if state.workers.get(worker.id) is worker:
                client = state.clients.get(task_id >> CLIENT_SHIFT)
                if client is not None:
                    client.forgone.add(task_id)
                state.outbox.release_attempt(worker, task_id, held.attempt)

    def _stop_nobodys(self, worker: SchedulerWorker, ids: Sequence[TaskId]) -> None:
        for task_id in ids:
            running = self.running.get(task_id)
            if running is not None and running.worker is worker:
                del self.running[task_id]
                if self._state.workers.get(worker.id) is worker:
                    self._state.outbox.drop_id(worker, task_id)

    def ended(self, worker_id: int, ids: Iterable[TaskId], attempts: Iterable[int]) -> None:
        """Attempts have ended without a result; nobody may have asked for them yet."""
        for task_id, attempt in zip(ids, attempts):
            running = self.running.get(task_id)
            if running is not None and (running.worker.id, running.attempt) == (worker_id, attempt):
                del self.running[task_id]

    def finished(self, fact: s.TasksFinished) -> None:
        """Likewise, and the worker holds their results."""
        kept = []
        for task_id, attempt, nbytes in zip(fact.ids, fact.attempts, fact.nbytes):
            running = self.running.get(task_id)
            if running is None or (running.worker.id, running.attempt) != (fact.worker, attempt):
                continue
            del self.running[task_id]
            self.hold(running.worker, task_id, Held(attempt, nbytes))
            kept.append(task_id)
        worker = self._state.workers.get(fact.worker)
        if worker is not None:
            self.expire(worker, kept)

    def is_held_at(self, worker: SchedulerWorker, task_id: TaskId) -> bool:
        """Whether a worker has a result that somebody may still ask for."""
        return worker in self._held.get(task_id, ())

    def is_unclaimed_at(self, worker: SchedulerWorker) -> bool:
        """Whether a worker has anything that no client has told of yet."""
        return any(worker in holders for holders in self._held.values())

    # -- what clients ask for

    def take_holders(self, task_id: TaskId) -> list[SchedulerWorker]:
        """Who is there and holds scattered data; its client has told of it now."""
        holders = self._held.pop(task_id, {})
        return [each for each in holders if self._state.workers.get(each.id) is each]

    def submitted(self, ids: Iterable[TaskId]) -> None:
        """Tasks were made, again maybe: whoever has something of theirs keeps it."""
        if not (self._held or self.running):
            return
        for task_id in ids:
            task = self._state.tasks.get(task_id)
            if task is None:
                continue
            holders = self._held.pop(task_id, None)
            for worker, held in (holders or {}).items():
                if self._state.workers.get(worker.id) is worker:
                    self._adopt_result(worker, task, held)
            running = self.running.pop(task_id, None)
            if running is not None and self._state.workers.get(running.worker.id) is running.worker:
                self._adopt_running(running.worker, task, running.attempt)

    # -- adopting

    def _adopt_result(self, worker: SchedulerWorker, task: SchedulerTask, held: Held) -> None:
        state = self._state
        if task.state is MEMORY:
            # copies are of the same attempt as long as nothing was computed in between
            some_copy = not (held.attempt and task.attempt) and state.recovering
            if task.attempt == held.attempt or some_copy or task.group.function is None:
                task.attempt = max(task.attempt, held.attempt)
                add_holder(task, worker)
            else:
                self._refuse(worker, task, held)
        elif task.state in (WAITING, QUEUED, NO_WORKER) or (
            task.state is RELEASED and (task.wanted_by or task.waiters)
        ):
            if task.state is NO_WORKER:
                del state.unrunnable[task]
            was_active = task.state is not RELEASED
            task.attempt = max(task.attempt, held.attempt)
            note_size(task, held.nbytes)
            if not was_active:  # whose inputs nobody counts on
                for dep in task.deps:
                    dep.waiters += 1
            remember(state, task, worker)
        else:
            self._refuse(worker, task, held)
            if task.state is RELEASED:
                release_if_unneeded(state, task)

    def _refuse(self, worker: SchedulerWorker, task: SchedulerTask, held: Held) -> None:
        """Have a worker forget a result that it claims.

        It may have been told before to fetch that: then it says that it has it, which is true of
        what it is about to forget.
        """
        worker.fetching.pop(task.id, None)
        self._state.outbox.release_attempt(worker, task.id, max(task.attempt, held.attempt))

    def _adopt_running(self, worker: SchedulerWorker, task: SchedulerTask, attempt: int) -> None:
        state = self._state
        if task.state not in (WAITING, QUEUED, NO_WORKER) or task.attempt > attempt:
            if task.state is not PROCESSING or task.processing_on is not worker:
                state.outbox.drop_id(worker, task.id)
            return
        if task.state is NO_WORKER:
            del state.unrunnable[task]
        waits = worker.dropped[task.id].waits
        answered(worker, task.id, attempt)
        adopt(state, worker, task, attempt, expected_s(task.group))
        if waits:
            self.waits(s.TasksSeceded(worker.id, [task.id], [attempt], True))
        state.note_room(worker)
