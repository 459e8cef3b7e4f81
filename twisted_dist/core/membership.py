"""Who comes and goes: workers and clients."""

from __future__ import annotations

from collections.abc import Callable

from twisted_dist.core import stimuli as s
from twisted_dist.core.answers import Answers
from twisted_dist.core.coordination.desk import Coordination
from twisted_dist.core.holders import wanted_tasks
from twisted_dist.core.peers import SchedulerClient, SchedulerWorker
from twisted_dist.core.processing import unassign
from twisted_dist.core.replicas import Replicas
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import NO_WORKER, QUEUED, WAITING
from twisted_dist.core.transitions import lose_result, make_ready, unwant


class Membership:
    """Handles the stimuli about members themselves."""

    def __init__(
        self,
        state: SchedulerState,
        answers: Answers,
        replicas: Replicas,
        coordination: Coordination,
        lease_s: float,
    ) -> None:
        self._state = state
        self._lease_s = lease_s
        self._answers = answers
        self._replicas = replicas
        self._coordination = coordination

    # -- workers

    def worker_joined(self, fact: s.WorkerJoined) -> None:
        """A worker registered; what only it can run becomes runnable."""
        state = self._state
        old = state.by_address.get(fact.address)
        if old is not None:  # its connection broke, and only it has noticed
            state.outbox.end_worker(old, "it registered anew")
            self.lose(old, "it registered anew")
        worker = SchedulerWorker(
            fact.worker, fact.address, fact.name, fact.nthreads, state.now, fact.resources
        )
        if not state.workers:  # patience with those that never came begins now
            state.unrunnable = dict.fromkeys(state.unrunnable, state.now)
        state.workers[worker.id] = worker
        state.by_address[worker.address] = worker
        self._watch(worker)
        worker.is_cut = fact.claims
        state.touch((worker,))
        for demand in state.demands.values():
            state.choose(demand)
        self._make_runnable()
        self._replicas.worker_joined()

    def _make_runnable(self) -> None:
        for task in [t for t in self._state.unrunnable if t.group.demand and t.group.demand.able]:
            del self._state.unrunnable[task]
            make_ready(self._state, task)

    def _watch(self, worker: SchedulerWorker) -> None:
        due = worker.last_seen + self._lease_s
        worker.lease_alarm = self._state.alarms.at(due, lambda: self._look_at(worker))

    def _look_at(self, worker: SchedulerWorker) -> None:
        """Give a worker up if it was silent for its lease."""
        if worker.last_seen + self._lease_s > self._state.now:
            self._watch(worker)
            return
        reason = f"no heartbeat for {self._lease_s:g} s"
        self._state.outbox.end_worker(worker, reason)
        self.lose(worker, reason)

    def heartbeat(self, fact: s.Heartbeat) -> None:
        """A worker is alive, and says how it is."""
        worker = self._state.workers.get(fact.worker)
        if worker is not None:
            worker.metrics = fact.metrics

    def worker_cut(self, fact: s.WorkerCut) -> None:
        """A worker's connection was lost: nobody knows yet whether it lives."""
        worker = self._state.workers.get(fact.peer)
        if worker is not None:
            worker.is_cut = True
            self._state.note_room(worker)

    def worker_back(self, fact: s.WorkerBack) -> None:
        """It lives."""
        worker = self._state.workers.get(fact.worker)
        if worker is not None:
            worker.is_cut = False
            self._state.unbalanced = True
            self._state.touch((worker,))

    def excuse(self, seconds: float) -> None:
        """The scheduler itself has stood still so long: nobody was silent for that."""
        for worker in self._state.workers.values():
            worker.last_seen = min(worker.last_seen + seconds, self._state.now)
        for client in self._state.clients.values():
            client.cut_until += seconds

    def worker_lost(self, fact: s.WorkerLost) -> None:
        """A worker's session is over."""
        worker = self._state.workers.get(fact.worker)
        if worker is not None:
            self.lose(worker, fact.reason)

    def lose(self, worker: SchedulerWorker, reason: str) -> None:
        """Give a worker up: what it had and was to do is done by others."""
        state = self._state
        del state.workers[worker.id]
        if worker.lease_alarm is not None:
            worker.lease_alarm.cancel()
        if state.by_address.get(worker.address) is worker:
            del state.by_address[worker.address]
        for table in (state.idle, state.roomy, state.backlogged, state.touched):
            table.pop(worker, None)
        state.retiring.pop(worker, None)
        if worker.retiring is not None and worker.retiring.alarm is not None:
            worker.retiring.alarm.cancel()
        state.outbox.forget_worker(worker)
        self.take_demands(worker)
        processing = list(worker.processing)
        if processing:
            state.story.note(state.now, "lost its worker", [t.id for t in processing], worker.label)
        for task in processing:
            unassign(task)
            task.state = WAITING
        for task in list(worker.has_what):
            lose_result(state, task, worker)
        self._replicas.worker_lost(worker)
        for task in processing:
            self._answers.worker_lost(task, worker, reason)
        for task in [t for t in worker.backlog if t.state is QUEUED]:
            make_ready(state, task)
        state.outbox.forget_worker(worker)

    def take_demands(self, worker: SchedulerWorker) -> None:
        """A worker takes no tasks any more: who else may run those that it alone could?"""
        state = self._state
        parted = []
        for demand in list(state.demands.values()):
            if worker not in demand.able and worker not in demand.parting:
                continue
            state.choose(demand)
            if demand.able:
                continue
            for task in [t for t in demand.ready if t.state is QUEUED]:
                task.state = NO_WORKER
                state.unrunnable[task] = state.now
            if not demand.parting:
                parted.append(demand)
        if parted:  # patience with those that left begins now
            for task in [t for t in state.unrunnable if t.group.demand in parted]:
                del state.unrunnable[task]
                state.unrunnable[task] = state.now

    # -- clients

    def client_joined(self, fact: s.ClientJoined) -> None:
        """A client registered."""
        self._state.clients[fact.client] = SchedulerClient(fact.client, fact.name, fact.returns)

    def client_cut(self, fact: s.ClientCut, lose: Callable[[s.ClientLost], None]) -> None:
        """A client's connection was lost: *lose* gives it up when its lease is over."""
        client = self._state.clients.get(fact.client)
        if client is None or client.cut_alarm is not None:
            return

        def give_up() -> None:
            if client.cut_until > self._state.now:
                client.cut_alarm = self._state.alarms.at(client.cut_until, give_up)
                return
            self._state.outbox.end_client(client, f"it was not heard of for {self._lease_s:g} s")
            lose(s.ClientLost(fact.client))

        client.cut_until = self._state.now + self._lease_s
        client.cut_alarm = self._state.alarms.at(client.cut_until, give_up)

    def client_back(self, fact: s.ClientBack) -> None:
        """It lives."""
        client = self._state.clients.get(fact.client)
        if client is not None and client.cut_alarm is not None:
            client.cut_alarm.cancel()
            client.cut_alarm = None

    def client_lost(self, fact: s.ClientLost) -> None:
        """A client is gone: what only it wanted is released."""
        client = self._state.clients.pop(fact.client, None)
        if client is None:
            return
        if client.cut_alarm is not None:
            client.cut_alarm.cancel()
        for key in [k for k in self._state.lookups if k[0] is client]:
            del self._state.lookups[key]
        self._replicas.client_lost(client)
        self._coordination.client_lost(client)
        for task in wanted_tasks(client, self._state.tasks):
            unwant(self._state, client, task)
