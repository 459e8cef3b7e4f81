"""Relieves workers that are behind, while others have nothing to do.

Looks now and then, not after each stimulus: a look goes through all workers.
"""

from __future__ import annotations

from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.policy import stealing
from twisted_dist.core.policy.feeding import AHEAD_S, expected_s
from twisted_dist.core.processing import assign
from twisted_dist.core.state import SchedulerState


def balance(state: SchedulerState) -> None:
    """Look, if it is time to, and see to it that `next_deadline` comes back here."""
    if not (state.unbalanced and state.idle):
        state.balance_at = None
        return
    if state.balance_at is None:
        state.balance_at = state.now + stealing.interval_s(len(state.workers))
    if state.balance_at > state.now:
        return
    state.balance_at = None
    victims = [each for each in state.workers.values() if each.backlog or stealing.surplus(each)]
    state.unbalanced = bool(victims)
    victims.sort(key=lambda each: (-stealing.behind_s(each, state.now), each.id))
    for victim in victims:
        _give_backlog(state, victim)
    _recall(state, victims)
    if victims:
        state.balance_at = state.now + stealing.interval_s(len(state.workers))


def _give_backlog(state: SchedulerState, victim: SchedulerWorker) -> None:
    """Give idle workers what waits for *victim* at the scheduler."""
    backlog = victim.backlog
    wait_s = stealing.behind_s(victim, state.now)
    for helper in list(state.idle):
        while helper.busy < helper.nthreads and backlog.peek() is not None:
            task = backlog.first()
            if not stealing.may_run(helper, task):
                break
            if not stealing.is_worth_moving(task, victim, wait_s):
                return
            assign(state, [(helper, backlog.take(1))], expected_s(task.group))
        if backlog.peek() is None:
            state.backlogged.pop(victim, None)
            return


def _recall(state: SchedulerState, victims: list[SchedulerWorker]) -> None:
    """Ask back, from who is most behind, as much as idle threads can take."""
    under_way = sum(len(victim.recalled) for victim in victims)
    threads = sum(each.nthreads - each.busy for each in state.idle) - under_way
    seconds = threads * AHEAD_S
    for victim in victims:
        wait_s = stealing.behind_s(victim, state.now)
        if threads <= 0 or wait_s < stealing.BEHIND_S:
            return
        surplus = stealing.surplus(victim)
        for task in surplus[: (len(surplus) + 1) // 2]:
            if threads <= 0 and seconds <= 0:
                return
            if not any(stealing.may_run(helper, task) for helper in state.idle):
                continue
            if stealing.is_worth_moving(task, victim, wait_s):
                threads -= 1
                seconds -= victim.processing[task]
                victim.recalled[task] = None
                victim.is_odd = True
                state.outbox.drop(victim, task)
