"""Whole clusters under chaos: what is promised holds, and bugs that are put in are found."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.sim import chaos, mutations
from tests.support import simchaos
from tests.support.simcopies import COPIES, NESTING, RESTARTS, RETIRING
from tests.support.simerrands import ERRANDS
from tests.support.simrecipes import LIMITS
from tests.support.simsharing import LOCKS, QUEUES

#: the quick run; the long one is ``python -m tests.sim.chaos --seeds 0:10000 --jobs 2``
SEEDS = range(60)
#: within which each mutation must be found; most are within ten
MUTATION_SEEDS = range(200)

#: what the simulation says of each mutation: by the invariants, or by what clients were told
SIGNS = {
    mutations.old_attempts_count: "second attempt's result is visible|value, .* cannot have one",
    mutations.lost_tasks_stay_lost: "waits for 0, and 0 are missing",
    mutations.results_go_while_needed: "is owed to somebody, and nobody computes it",
    mutations.lost_inputs_are_not_counted: r"waits for \d+, and \d+ are missing",
    mutations.joining_makes_nothing_runnable: "waits for a worker that is there",
    mutations.free_threads_are_not_touched: "could run on|is idle beside its own backlog",
    mutations.only_one_name_is_told: "has not ended",
    mutations.failures_stop_at_their_cause: "has not ended",
    mutations.inputs_in_order_of_age: "not ",
    mutations.silence_is_life: "has not ended|is registered and gone",
    mutations.one_copy_is_released: "holds .* and says",
    mutations.lost_inputs_are_not_missed: "has not ended|dropped|for ever",
    mutations.tokens_come_again: r"token \d+ was given after",
    mutations.locks_of_the_dead_stay_held: "is held by client .*: it is gone",
    mutations.handed_out_is_gone: "items of queues were lost",
    mutations.newcomers_hold_no_copies: r"has \d+ copies, not|retires, and nobody fetches",
    mutations.results_survive_a_restart: "is left of before the restart",
    mutations.threads_are_not_taken_back: "whether it uses a thread",
    mutations.parcels_hold_nothing: "wants .*, which does not know|what it wants is wrong",
    mutations.retired_leave_too_soon: r"left with \[\], and .* only there",
    mutations.late_results_stay: "retires, and may leave with",
    mutations.lost_errands_are_not_told: "errand .* has not ended|errands of nobody",
}


#: what clients must do, beside what they do in every run, for a mutation to show
NEEDS = {
    mutations.old_attempts_count: LIMITS,
    mutations.tokens_come_again: LOCKS,
    mutations.locks_of_the_dead_stay_held: LOCKS,
    mutations.handed_out_is_gone: QUEUES,
    mutations.newcomers_hold_no_copies: COPIES,
    mutations.results_survive_a_restart: RESTARTS,
    mutations.threads_are_not_taken_back: NESTING,
    mutations.parcels_hold_nothing: QUEUES,
    mutations.retired_leave_too_soon: RETIRING,
    mutations.late_results_stay: RETIRING,
    mutations.lost_errands_are_not_told: ERRANDS,
}


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_violated(seed):
    """Every future ends once and rightly, whatever goes wrong, and nothing is left behind."""
    assert not chaos.run_seed(seed).violation


@pytest.mark.parametrize("seed", [1, 4])
def test_same_seed_same_log(seed, tmp_path):
    """A seed gives the same log in every process, whatever ran before and hashes there are."""
    logs = [chaos.lines(chaos.run_seed(seed).log)]
    for hashes in ("1", "2"):
        path = tmp_path / hashes
        command = [sys.executable, "-m", "tests.sim.chaos", "--seed", str(seed), "--log", path]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hashes}, check=True)
        logs.append(path.read_text(encoding="utf-8"))
    assert logs[0] == logs[1] == logs[2]


@pytest.mark.parametrize("mutation", SIGNS, ids=lambda mutation: mutation.__name__)
def test_mutation_is_found(mutation, monkeypatch):
    """A bug of the core that is put in shows within some seeds, as what it is."""
    mutation(monkeypatch)
    if mutation in NEEDS:
        monkeypatch.setattr(simchaos, "MORE", ((NEEDS[mutation], 1.0),))
    violations = (chaos.run_seed(seed).violation for seed in MUTATION_SEEDS)
    found = next(filter(None, violations), "nothing")
    assert re.search(SIGNS[mutation], found)


def test_failing_seed_is_printed(monkeypatch, capsys):
    """`chaos.main` says which seed failed, how, and how to run it again; its status is 1."""
    mutations.failures_stop_at_their_cause(monkeypatch)
    assert chaos.main(["--seeds", "0:4"]) == 1
    printed = capsys.readouterr().out
    seed = re.search(r"seed (\d+):\n.*has not ended", printed)[1]
    assert f"python -m tests.sim.chaos --seed {seed} --log" in printed
    assert chaos.main(["--seed", seed]) == 1
