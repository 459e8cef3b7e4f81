"""The scheduler's machine: `SchedulerCore.handle(stimulus, now)` → instructions."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

from twisted_dist.core import stimuli as s
from twisted_dist.core.answers import Answers
from twisted_dist.core.assignment import assign_queued
from twisted_dist.core.balance import balance
from twisted_dist.core.futures import Futures
from twisted_dist.core.instructions import Instruction, SendTasks
from twisted_dist.core.membership import Membership
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.submission import Submissions
from twisted_dist.core.task import PROCESSING

#: seconds without a heartbeat until a worker is given up
LEASE_S: Final = 60.0


class SchedulerCore:
    """Decides everything; does nothing.

    `handle` never raises on any stimulus that `wire` lets through: what refers to unknown
    peers or tasks is stale and is ignored.
    """

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.state = state = SchedulerState()
        self.lease_s = lease_s
        self._answers = answers = Answers(state)
        self._members = members = Membership(state, answers)
        self._submissions = submissions = Submissions(state)
        self._futures = futures = Futures(state)
        self._handlers: dict[type, Callable[[Any], None]] = {
            s.TasksFinished: answers.tasks_finished,
            s.TasksSubmitted: submissions.tasks_submitted,
            s.KeysReleased: futures.keys_released,
            s.FunctionDefined: submissions.function_defined,
            s.TasksErred: answers.tasks_erred,
            s.TasksReturned: answers.tasks_returned,
            s.TasksKilled: answers.tasks_killed,
            s.TasksSeceded: answers.tasks_seceded,
            s.InputsMissing: answers.inputs_missing,
            s.ReplicasAdded: answers.replicas_added,
            s.DataScattered: submissions.data_scattered,
            s.CancelRequested: futures.cancel_requested,
            s.RunawaysNamed: futures.runaways_named,
            s.LocationsAsked: futures.locations_asked,
            s.Heartbeat: members.heartbeat,
            s.WorkerJoined: members.worker_joined,
            s.WorkerLost: members.worker_lost,
            s.ClientJoined: members.client_joined,
            s.ClientLost: members.client_lost,
        }

    def handle(self, stimulus: s.Stimulus, now: float) -> list[Instruction]:
        """Take a fact in; give back what is to be done about it, in order."""
        self.state.now = now
        worker = self.state.workers.get(getattr(stimulus, "worker", 0))
        if worker is not None:
            self._members.hear(worker)
        self._handlers[type(stimulus)](stimulus)
        return self._decide()

    def next_deadline(self) -> float | None:
        """The instant at which `expire` has something to do; None for never."""
        state = self.state
        times = []
        if state.heard:
            times.append(next(iter(state.heard)).last_seen + self.lease_s)
        if state.limits:
            times.append(state.limits[0][0])
        if state.unrunnable and state.workers:
            times.append(next(iter(state.unrunnable.values())) + self.lease_s)
        if state.balance_at is not None:
            times.append(state.balance_at)
        return min(times, default=None)

    def expire(self, now: float) -> list[Instruction]:
        """Do what the time has come for."""
        state = self.state
        state.now = now
        for worker in list(state.heard):
            if worker.last_seen + self.lease_s > now:
                break
            reason = f"no heartbeat for {self.lease_s:g} s"
            state.outbox.end_worker(worker, reason)
            self._members.lose(worker, reason)
        while state.limits and state.limits[0][0] <= now:
            _, _, task, attempt = heapq.heappop(state.limits)
            if task.state is PROCESSING and task.attempt == attempt:
                self._answers.timed_out(task)
        self._submissions.give_up_unrunnable(self.lease_s)
        return self._decide()

    def _decide(self) -> list[Instruction]:
        """What follows from all that has changed."""
        state = self.state
        assign_queued(state)
        balance(state)
        if state.lookups:
            self._futures.answer_lookups()
        out = state.outbox.take()
        for each in out:
            if type(each) is SendTasks:
                label = state.workers[each.worker].label
                for run in each.runs:
                    state.story.note(state.now, "was given", run.ids, label)
        return out
