"""Plausible bugs of the core, and beside it, one function each, for the simulation to find.

Each takes pytest's monkeypatch and puts the bug in.
"""

from __future__ import annotations

import sys

from attrs import evolve

from twisted_dist.core import transitions
from twisted_dist.core.answers import Answers
from twisted_dist.core.coordination.queues import Queues
from twisted_dist.core.coordination.semaphores import Semaphores
from twisted_dist.core.membership import Membership
from twisted_dist.core.outbox import Outbox
from twisted_dist.core.parcels import Parcels
from twisted_dist.core.replicas import Replicas
from twisted_dist.core.restart import Restarts
from twisted_dist.core.results import Results
from twisted_dist.core.retiring import Retiring
from twisted_dist.core.scheduler import SchedulerCore
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.submission import Submissions
from twisted_dist.core.task import MEMORY
from twisted_dist.core.worker_side.machine import WorkerCore
from twisted_dist.services.errands import Errands


def _replace(patch, name, function):
    """Put another function of `core.transitions` wherever it was imported."""
    original = getattr(transitions, name)
    for module in [m for n, m in sys.modules.items() if n.startswith("twisted_dist.core")]:
        if getattr(module, name, None) is original:
            patch.setattr(module, name, function)


def old_attempts_count(patch):
    """An answer's attempt is not compared: a late one counts."""
    current, finished = Answers._current, Results.tasks_finished

    def latest(self, task_id, attempt):
        task = self._state.tasks.get(task_id)
        return task.attempt if task is not None else attempt

    def mutated(self, worker, task_id, attempt):
        return current(self, worker, task_id, latest(self, task_id, attempt))

    def mutated_finished(self, facts):
        attempts = [[latest(self, *pair) for pair in zip(f.ids, f.attempts)] for f in facts]
        finished(self, [evolve(f, attempts=each) for f, each in zip(facts, attempts)])

    patch.setattr(Answers, "_current", mutated)
    patch.setattr(Results, "tasks_finished", mutated_finished)


def lost_tasks_stay_lost(patch):
    """What a lost worker was to do is done by nobody."""
    patch.setattr(Answers, "worker_lost", lambda self, task, worker, reason: None)


def results_go_while_needed(patch):
    """A result goes with the first task that needed it, though others do."""
    settle_deps = transitions.settle_deps

    def mutated(state, task):
        settle_deps(state, task)
        for dep in task.deps:
            if dep.state is MEMORY and not dep.wanted_by:
                transitions.drop_result(state, dep)

    _replace(patch, "settle_deps", mutated)


def lost_inputs_are_not_counted(patch):
    """A waiting task does not learn that one more of its inputs is missing."""
    lose_result = transitions.lose_result

    def mutated(state, task, worker):
        waiting = {each: each.waiting_on for each in task.dependents or () if each.waiting_on}
        lose_result(state, task, worker)
        for each, count in waiting.items():
            each.waiting_on = min(count, each.waiting_on)

    _replace(patch, "lose_result", mutated)


def joining_makes_nothing_runnable(patch):
    """What waits for a certain worker is not looked at when that comes."""
    patch.setattr(Membership, "_make_runnable", lambda self: None)


def free_threads_are_not_touched(patch):
    """A worker whose tasks have ended is not given what waits for it alone."""

    def mutated(self, workers):
        for worker in workers:
            self.note_room(worker)

    patch.setattr(SchedulerState, "touch", mutated)


def only_one_name_is_told(patch):
    """A client with two futures of one task hears of one of them."""
    report_memory = transitions.report_memory

    def mutated(state, client, task, value):
        names = client.names
        client.names = {**names, task: names.get(task, [task.id])[:1]}
        report_memory(state, client, task, value)
        client.names = names

    _replace(patch, "report_memory", mutated)


def failures_stop_at_their_cause(patch):
    """Clients are not told of tasks that failed because of another."""
    become_erred = transitions._become_erred

    def mutated(state, task, erred_by):
        told = task.wanted_by
        if any(dep.erred_by is erred_by for dep in task.deps):
            task.wanted_by = None
        become_erred(state, task, erred_by)
        task.wanted_by = told

    patch.setattr(transitions, "_become_erred", mutated)


def inputs_in_order_of_age(patch):
    """A task is given its inputs in the order in which they were submitted."""
    find_deps = Submissions._find_deps

    def mutated(self, client, ids):
        deps = find_deps(self, client, ids)
        return deps and sorted(deps, key=lambda task: task.id)

    patch.setattr(Submissions, "_find_deps", mutated)


def silence_is_life(patch):
    """No worker is ever given up for not being heard of."""
    expire = SchedulerCore.expire

    def mutated(self, now):
        for worker in self.state.workers.values():
            worker.last_seen = now
        return expire(self, now)

    patch.setattr(SchedulerCore, "expire", mutated)


def one_copy_is_released(patch):
    """Of several copies of a result, only one worker is told to forget its own."""
    take = Outbox.take

    def mutated(self, now):
        told = set()
        for message in self.releases.values():
            first = [row for row in zip(message.ids, message.attempts) if row[0] not in told]
            message.ids, message.attempts = [row[0] for row in first], [row[1] for row in first]
            told.update(message.ids)
        return take(self, now)

    patch.setattr(Outbox, "take", mutated)


def lost_inputs_are_not_missed(patch):
    """A worker runs what it was given although a peer had not the input."""
    fetch_finished = WorkerCore._fetch_finished

    def mutated(self, fact):
        return [each for each in fetch_finished(self, fact) if not hasattr(each, "missing")]

    patch.setattr(WorkerCore, "_fetch_finished", mutated)


def tokens_come_again(patch):
    """A lease that is free has the token that it had before."""
    grant = Semaphores._grant

    def mutated(self, semaphore, client):
        self._last_token -= self._last_token not in client.leases and self._last_token > 0
        return grant(self, semaphore, client)

    patch.setattr(Semaphores, "_grant", mutated)


def locks_of_the_dead_stay_held(patch):
    """The leases of a client that is gone are not given on."""
    patch.setattr(Semaphores, "lose", lambda self, client: None)


def handed_out_is_gone(patch):
    """An item that its taker never got is in nobody's queue."""

    def mutated(self, client):
        for number in [n for n, handed in self._handed.items() if handed[0] is client]:
            self._parcels.drop(self._handed.pop(number)[2])
        self._forget_late()

    patch.setattr(Queues, "client_lost", mutated)


def newcomers_hold_no_copies(patch):
    """Copies for which there were too few workers are not made when another comes."""
    patch.setattr(Replicas, "worker_joined", lambda self: None)


def results_survive_a_restart(patch):
    """What was computed before a restart is held after it."""
    restart = Restarts._restart

    def mutated(self, client, fact):
        tasks = self._state.tasks
        kept = {n: task for n, task in tasks.items() if task.state is MEMORY}
        for each in kept:
            del tasks[each]
        restart(self, client, fact)
        tasks.update(kept)

    patch.setattr(Restarts, "_restart", mutated)


def threads_are_not_taken_back(patch):
    """A task that has waited for others is still said to wait."""
    tasks_seceded = Answers.tasks_seceded

    def mutated(self, fact):
        if fact.waiting:
            tasks_seceded(self, fact)

    patch.setattr(Answers, "tasks_seceded", mutated)


def parcels_hold_nothing(patch):
    """The futures of a published value are not held for it."""
    make = Parcels.make

    def mutated(self, client, fact, name):
        parcel = make(self, client, fact, name)
        self.drop(parcel)
        return parcel

    patch.setattr(Parcels, "make", mutated)


def retired_leave_too_soon(patch):
    """A worker leaves as soon as it runs nothing, with results that nobody else has."""
    patch.setattr(Retiring, "_owes", lambda self, worker: False)


def late_results_stay(patch):
    """Only what a worker holds when it begins to retire is copied to others."""
    tasks_finished = Results.tasks_finished

    def mutated(self, facts):
        state = self._state
        known = set(state.to_replicate)
        tasks_finished(self, facts)
        for task in set(state.to_replicate) - known:
            if any(worker.retiring is not None for worker in task.who_has or ()):
                del state.to_replicate[task]

    patch.setattr(Results, "tasks_finished", mutated)


def lost_errands_are_not_told(patch):
    """What a lost worker was to do beside its tasks is waited for."""
    patch.setattr(Errands, "worker_gone", lambda self, worker, reason: None)


ALL = (
    old_attempts_count,
    lost_tasks_stay_lost,
    results_go_while_needed,
    lost_inputs_are_not_counted,
    joining_makes_nothing_runnable,
    free_threads_are_not_touched,
    only_one_name_is_told,
    failures_stop_at_their_cause,
    inputs_in_order_of_age,
    silence_is_life,
    one_copy_is_released,
    lost_inputs_are_not_missed,
    tokens_come_again,
    locks_of_the_dead_stay_held,
    handed_out_is_gone,
    newcomers_hold_no_copies,
    results_survive_a_restart,
    threads_are_not_taken_back,
    parcels_hold_nothing,
    retired_leave_too_soon,
    late_results_stay,
    lost_errands_are_not_told,
)
