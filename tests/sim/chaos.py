"""Runs simulated clusters under chaos, one for each seed.

::

    python -m tests.sim.chaos --seeds 0:10000 --jobs 2
    python -m tests.sim.chaos --seed 4711 --log chaos.log

The first says which seeds violate what is promised, and exits with status 1 where any does;
the second runs one of them again and writes what happened in it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

from twisted.logger import globalLogBeginner

from tests.support.simchaos import Chaos, Violation
from twisted_dist.errors import InsecureWarning
from twisted_dist.wire import data

#: seeds between two lines of progress
PROGRESS: Final = 500
#: of prctl(2)
PR_SET_PDEATHSIG: Final = 1
#: seeds that a process is given at a time
CHUNK: Final = 20


class Outcome(NamedTuple):
    """What became of a seed: what was violated ("" for nothing), and what happened."""

    seed: int
    violation: str
    log: list


def run_seed(seed):
    """One run.

    The collector rests meanwhile: when it comes depends on all that was before, and what it
    ends acts once more, and complains. Nothing is shared: numbers of processes and descriptors
    would be in what is sent.
    """
    gc.disable()
    _sweep()
    try:
        with mock.patch.object(data, "lend_probe", return_value=None):
            return _run_seed(seed)
    finally:
        gc.enable()


def _run_seed(seed):
    chaos = Chaos(seed)
    violation = ""
    try:
        chaos.run()
    except Violation as problem:
        violation = str(problem)
    except Exception:
        violation = traceback.format_exc()
    outcome = Outcome(seed, violation, chaos.log)
    del chaos
    _sweep()
    return outcome


def _sweep():
    """Collect what is young: all that a run made. What that ends may leave some more."""
    while gc.collect(1):
        pass


def lines(log):
    """A log as text, the same for the same seed in every process."""
    return "".join(
        f"{now:.9f} {kind} {' '.join(map(str, details))}".rstrip() + "\n"
        for now, kind, *details in log
    )


def _begin_process():
    """Say nothing but what the runs say; scan nothing but what they make."""
    warnings.simplefilter("ignore", InsecureWarning)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    gc.freeze()


def _begin_worker():
    """As `_begin_process`, and end with who started it: a run may be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _begin_process()


def _violation(seed):
    return seed, run_seed(seed).violation


def _violations(seeds, jobs):
    """``(seed, violation)`` of each, as they come from *jobs* processes."""
    if jobs == 1:
        yield from map(_violation, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _begin_worker) as pool:
        yield from pool.imap_unordered(_violation, seeds, CHUNK)


def run_seeds(seeds, jobs=1):
    """Run seeds, saying how it goes; how many violate something."""
    bad = 0
    for done, (seed, violation) in enumerate(_violations(seeds, jobs), 1):
        if violation:
            bad += 1
            print(f"\nseed {seed}:\n{violation}")
            print(f"again: python -m tests.sim.chaos --seed {seed} --log chaos.log\n")
        if done % PROGRESS == 0 or done == len(seeds):
            print(f"{done} of {len(seeds)} seeds, {bad} with a violation", flush=True)
    return bad


def _range(text):
    first, _, end = text.partition(":")
    return range(int(first), int(end)) if end else range(int(first))


def main(argv=None):
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.chaos", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=_range, help="FIRST:END, or how many from 0 on")
    which.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--log", type=Path, help="with --seed: write there what happens")
    options = parser.parse_args(argv)
    if options.seed is None:
        return 1 if run_seeds(options.seeds, options.jobs) else 0
    outcome = run_seed(options.seed)
    if options.log is not None:
        options.log.write_text(lines(outcome.log), encoding="utf-8")
    print(outcome.violation or f"seed {options.seed}: all is well")
    return 1 if outcome.violation else 0


if __name__ == "__main__":
    _begin_process()
    sys.exit(main())
