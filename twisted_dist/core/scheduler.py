"""The scheduler's machine: stimuli, with the instants at which they came → instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from twisted_dist.aliases import ATTEMPTS_A_GENERATION, PeerId, TaskId
from twisted_dist.core import stimuli as s
from twisted_dist.core.answers import Answers
from twisted_dist.core.assignment import assign_queued
from twisted_dist.core.balance import balance
from twisted_dist.core.broadcast import Broadcast
from twisted_dist.core.claims import Claims
from twisted_dist.core.coordination.desk import Coordination
from twisted_dist.core.datasets import Datasets
from twisted_dist.core.futures import Futures
from twisted_dist.core.instructions import Instruction
from twisted_dist.core.membership import Membership
from twisted_dist.core.parcels import Parcels
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.replicas import Replicas
from twisted_dist.core.requests import Requests
from twisted_dist.core.restart import Restarts
from twisted_dist.core.results import Results
from twisted_dist.core.retiring import Retiring
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.submission import Submissions
from twisted_dist.core.task import SchedulerTask

#: seconds without a heartbeat until a worker is given up
LEASE_S: Final = 60.0

#: told of a worker, and of tasks whose copies it has or could not get
Settle: TypeAlias = Callable[[SchedulerWorker, list[SchedulerTask]], None]


class SchedulerCore:
    """Decides everything; does nothing.

    `handle` never raises on any stimulus that `wire` lets through: what refers to unknown
    peers or tasks is stale and is ignored.

    Args:
        lease_s: seconds without a heartbeat until a worker is given up.
        first_token: fencing tokens are higher; to be more than an earlier life gave.
    """

    def __init__(self, lease_s: float = LEASE_S, first_token: int = 0) -> None:
        self.state = state = SchedulerState()
        self.lease_s = lease_s
        #: how often tasks that had run before were submitted again, as far as members have told
        self.generation = 0
        self._claims = claims = Claims(state)
        self._answers = answers = Answers(state)
        self._results = results = Results(state, claims.is_held_at)
        #: taken in and not looked at yet: many are handled in less time than one by one
        self._finished: list[s.TasksFinished] = []
        claims.waits = answers.tasks_seceded
        self._submissions = submissions = Submissions(state, claims)
        self._futures = futures = Futures(state)
        self._replicas = replicas = Replicas(state, futures)
        parcels = Parcels(state, futures, submissions)
        datasets = Datasets(state, parcels)
        self.coordination = coordination = Coordination(state, parcels, first_token)
        self._members = members = Membership(state, answers, replicas, coordination, lease_s)
        restarts = Restarts(state, members, datasets, coordination)
        self._retiring = retiring = Retiring(state, members, replicas, claims)
        requests = Requests(state)
        self._broadcast = broadcast = Broadcast(state, futures, replicas)
        for part in (replicas, broadcast, datasets, coordination, restarts, retiring):
            requests.add(part.operations())
        self._handlers: dict[type, Callable[[Any], None]] = {
            s.TasksFinished: lambda fact: results.tasks_finished([fact]),
            s.TasksSubmitted: submissions.tasks_submitted,
            s.KeysReleased: futures.keys_released,
            s.FunctionDefined: submissions.function_defined,
            s.TasksErred: answers.tasks_erred,
            s.TasksReturned: answers.tasks_returned,
            s.TasksKilled: answers.tasks_killed,
            s.TasksStopped: answers.tasks_stopped,
            s.TasksSeceded: answers.tasks_seceded,
            s.InputsMissing: self._inputs_missing,
            s.ReplicasAdded: self._replicas_added,
            s.DataScattered: submissions.data_scattered,
            s.DataPut: submissions.data_put,
            s.CancelRequested: futures.cancel_requested,
            s.RunawaysNamed: futures.runaways_named,
            s.LocationsAsked: futures.locations_asked,
            s.Asked: requests.asked,
            s.Heartbeat: members.heartbeat,
            s.WorkerJoined: members.worker_joined,
            s.WorkerLost: members.worker_lost,
            s.MemberReturned: self._member_returned,
            s.ResultsClaimed: claims.results_claimed,
            s.TasksClaimed: claims.tasks_claimed,
            s.AllClaimed: claims.all_claimed,
            s.WorkerCut: members.worker_cut,
            s.WorkerBack: members.worker_back,
            s.RetirementWanted: retiring.wanted,
            s.ClientJoined: self._client_joined,
            s.ClientCut: self._client_cut,
            s.ClientBack: members.client_back,
            s.ClientLost: self._client_lost,
        }

    def _member_returned(self, fact: s.MemberReturned) -> None:
        """Begin a generation of our own, and wait for those that come."""
        self._begin_generation(max(self.generation, fact.generation + 1))
        self._claims.recover(fact.peers)

    def _begin_generation(self, generation: int) -> None:
        self.generation = generation
        self.state.attempt_base = generation * ATTEMPTS_A_GENERATION

    def _client_joined(self, fact: s.ClientJoined) -> None:
        if fact.returns:  # its tasks may have run under the same numbers
            self._begin_generation(self.generation + 1)
        self._members.client_joined(fact)

    def _settle_claims(self, fact: s.Stimulus) -> None:
        """Something of what was claimed may have ended before anybody has asked for it."""
        if isinstance(fact, s.TasksFinished):
            self._claims.finished(fact)
        elif isinstance(
            fact, (s.TasksErred, s.TasksKilled, s.TasksReturned, s.TasksStopped, s.InputsMissing)
        ):
            self._claims.ended(fact.worker, fact.ids, fact.attempts)

    def _inputs_missing(self, fact: s.InputsMissing) -> None:
        self._answers.inputs_missing(fact)
        self._settle(fact.worker, fact.missing, self._replicas.failed)

    def _replicas_added(self, fact: s.ReplicasAdded) -> None:
        self._results.replicas_added(fact)
        self._settle(fact.worker, fact.ids, self._replicas.arrived)

    def _settle(self, worker_id: PeerId, ids: Sequence[TaskId], how: Settle) -> None:
        """Tell of copies that a worker was to fetch."""
        worker = self.state.workers.get(worker_id)
        if worker is not None and self.state.copying:
            known = map(self.state.tasks.get, ids)
            how(worker, [task for task in known if task is not None])

    def excuse(self, seconds: float, now: float) -> None:
        """This process has stood still for so long: no lease ran meanwhile."""
        self.catch_up()
        self.state.now = now
        self._members.excuse(seconds)

    def _client_cut(self, fact: s.ClientCut) -> None:
        self._members.client_cut(fact, self._client_lost)

    def _client_lost(self, fact: s.ClientLost) -> None:
        client = self.state.clients.get(fact.client)
        if client is not None:
            self._broadcast.client_lost(client)
        self._members.client_lost(fact)

    def _see_off(self) -> None:
        """Let workers leave; what that changes for others is seen to at once."""
        count = -1
        while count != len(self.state.retiring):
            count = len(self.state.retiring)
            self._retiring.maintain()
            if self.state.to_replicate:
                self._replicas.maintain()
            if self.state.fresh and not self.state.recovering:
                assign_queued(self.state)

    def handle(self, stimulus: s.Stimulus, now: float) -> list[Instruction]:
        """Take a fact in; give back what is to be done about it, in order."""
        self.take(stimulus, now)
        return self.decide()

    def take(self, stimulus: s.Stimulus, now: float) -> None:
        """Take a fact in. What is to be done is said by `decide`, after as many as one likes.

        Facts that came together are better decided on together: each peer is told once, and
        what one would have led to is left out where another undoes it.
        """
        state = self.state
        if type(stimulus) is s.TasksFinished and not self._claims.running:
            state.now = now
            self._finished.append(stimulus)
            return
        if self._finished:
            self.catch_up()
        state.now = now
        worker = state.workers.get(getattr(stimulus, "worker", 0))
        if worker is not None:
            worker.last_seen = now
        if self._claims.running:
            self._settle_claims(stimulus)
        self._handlers[type(stimulus)](stimulus)

    def catch_up(self) -> None:
        """Handle the results that were taken in; for who looks at the state before `decide`.

        All else that is done here does it first.
        """
        finished, self._finished = self._finished, []
        self._results.tasks_finished(finished)

    def next_deadline(self) -> float | None:
        """The instant at which `expire` has something to do; None for never."""
        state = self.state
        first = state.alarms.next()
        if state.unrunnable and state.workers:
            given_up = next(iter(state.unrunnable.values())) + self.lease_s
            first = given_up if first is None or given_up < first else first
        if state.balance_at is not None and (first is None or state.balance_at < first):
            return state.balance_at
        return first

    def expire(self, now: float) -> list[Instruction]:
        """Do what the time has come for."""
        state = self.state
        self.catch_up()
        state.now = now
        state.alarms.ring(now)
        self._submissions.give_up_unrunnable(self.lease_s)
        return self.decide()

    def decide(self) -> list[Instruction]:
        """What is to be done, in order, about all that was taken in since the last time."""
        state = self.state
        if self._finished:
            self.catch_up()
        if state.measured:
            state.learn()
        if not state.recovering:
            assign_queued(state)
            if state.unbalanced:
                balance(state)
        if state.to_replicate:
            self._replicas.maintain()
        self._broadcast.maintain()
        if state.retiring or self._retiring.waiting:
            self._see_off()
        if state.limited:
            self._answers.watch_limits()
        if state.lookups:
            self._futures.answer_lookups()
        return state.outbox.take(state.now)
