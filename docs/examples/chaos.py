"""Ten minutes in which a network's parts are killed, stopped and cut off, while it works.

::

    python docs/examples/chaos.py --seconds 600 --seed 1
    python docs/examples/chaos.py --seconds 60 --futures 5000 --faults kill-worker,kill-child
    python docs/examples/chaos.py --seconds 60 --futures 5000 --faults stop-worker --apart
    python docs/examples/chaos.py --system dask --seconds 60 --futures 5000 --faults kill-worker --apart

Starts a scheduler, workers and a proxy for each connection to the scheduler, all on this machine.
From one client, 100,000 futures go out in rounds of a thousand, evenly over the time there is: maps,
chains, reductions, larger results. Every second or two a fault is done, drawn from the seed. Workers
that have ended are started again at once.

*Recovery* is the time from the end of a fault (where it is a moment, from that moment; where a
process was stopped, from its continuation; where the scheduler was killed, from the moment that it
was started again; where a link was cut, from when it was whole) until, of tasks submitted from then
on, one has ended on each worker that has no other fault just then. A killed worker's successor is
among them, so the time that it takes to start is in it. Where faults overlap, so do their
recoveries; with --apart, none comes before the one before is over.

*Run again* are tasks that have begun more than once, counted with the last fault that had begun
before they did so again.

Ends with status 0 if each future was right and nothing is left behind.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos_parts.faults import KINDS, Chaos, Fault
from chaos_parts.site import Site
from chaos_parts.systems import SYSTEMS
from chaos_parts.work import HANG_S, Work

TELL_S = 30.0


def run_again(tally: Path, faults: list[Fault]) -> tuple[Counter[str], int]:
    """``{kind of the last fault before: tasks begun again}``, and how many tasks began at all."""
    begun: set[int] = set()
    again: Counter[str] = Counter()
    lines = tally.read_text().splitlines() if tally.exists() else []
    entries = sorted((float(at), int(number)) for number, at in map(str.split, lines))
    for at, number in entries:
        if number in begun:
            before = [each for each in faults if each.at <= at]
            again[before[-1].kind if before else "no fault"] += 1
        begun.add(number)
    return again, len(begun)


def table(faults: list[Fault], again: Counter[str]) -> list[str]:
    """The figures, by kind."""
    rows = [
        "| fault | times | recovery, median (s) | at most (s) | not recovered | run again |",
        "|---|---|---|---|---|---|",
    ]
    for kind in (*KINDS, "no fault"):
        some = [each for each in faults if each.kind == kind]
        if not some and not again[kind]:
            continue
        times = [each.recovered_s for each in some if each.recovered_s is not None]
        median = f"{statistics.median(times):.2f}" if times else "–"
        most = f"{max(times):.2f}" if times else "–"
        lost = len(some) - len(times)
        rows.append(f"| {kind} | {len(some)} | {median} | {most} | {lost} | {again[kind]} |")
    return rows


def pair(text: str) -> tuple[float, float]:
    """``1:2``, for argparse."""
    low, high = map(float, text.split(":"))
    return low, high


def kinds(text: str) -> list[str]:
    """Names of kinds, for argparse."""
    names = list(KINDS) if text == "all" else text.split(",") if text != "none" else []
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(KINDS)}")
    return names


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--system", choices=SYSTEMS, default="twisted_dist")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--futures", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--nthreads", type=int, default=2)
    parser.add_argument("--task-ms", type=float, default=10.0, help="what each task sleeps")
    parser.add_argument(
        "--faults", type=kinds, default="all", help=f"all, none, or of {', '.join(KINDS)}"
    )
    parser.add_argument("--gap", type=pair, default="1:2", help="seconds between faults")
    parser.add_argument("--apart", action="store_true", help="wait for recovery between faults")
    parser.add_argument("--bound", type=float, default=90.0, help="seconds a recovery may take")
    parser.add_argument("--port", type=int, default=18900, help="this and the next ones are used")
    parser.add_argument("--logs", type=Path, help="a directory for the daemons' logs")
    return parser.parse_args()


def run(options: argparse.Namespace, directory: Path) -> int:
    """Run it; the exit status."""
    system = SYSTEMS[options.system]()
    os.environ["TWISTED_DIST_HOME"] = str(directory)
    site = Site(system, directory, options.workers, options.nthreads, options.port)
    tally = directory / "tally"
    faults: list[Fault] = []
    try:
        site.start()
        print(f"{system.versions}, Python {platform.python_version()}, seed {options.seed}")
        task_s = options.task_ms / 1000
        work = Work(site, tally, options.futures, options.seconds, task_s)
        work.start()
        chaos = Chaos(
            site, options.faults, options.seed, options.gap, options.apart, options.bound
        )
        faults = chaos.faults
        if options.faults:
            chaos.start()
        began = told = time.monotonic()
        deadline = began + options.seconds + 2 * HANG_S
        over = False
        while not work.is_done() and time.monotonic() < deadline:
            time.sleep(0.1)
            now = time.monotonic()
            if now - began > options.seconds and not over:
                over = True
                chaos.end()  # what hangs now hangs by itself
            if now - told > TELL_S:
                told = now
                seen = f"{sum(work.told.values()):,} futures, {len(faults)} faults"
                print(f"{now - began:.0f} s: {seen}", flush=True)
        if options.faults and not over:
            chaos.end()
        work.told["right"] += 0
        is_over = work.is_done()
    finally:
        problems = site.end()
    again, begun = run_again(tally, faults)
    print(*table(faults, again), sep="\n")
    total = sum(work.told.values())
    became = ", ".join(f"{count:,} {what}" for what, count in sorted(work.told.items()))
    print(f"{total:,} futures in {work.took_s:.0f} s: {became}")
    print(f"{begun:,} tasks have begun; {sum(again.values())} times one began again")
    for problem, count in work.problems.most_common(8):
        print(f"  {count} times {problem}")
    starts = ", ".join(f"{each.label} {each.started}" for each in (site.scheduler, *site.workers))
    print(f"daemons started: {starts}; clients: {site.clients}")
    if not is_over:
        problems.append("the work hangs")
    print(*(problems or ["all ended with status 0; no process is left"]), sep="\n")
    return int(bool(problems) or work.told["right"] != total)


def main() -> None:
    """Run it in a directory of its own."""
    options = parse()
    with tempfile.TemporaryDirectory() as directory:
        status = run(options, Path(directory))
        if options.logs is not None:
            options.logs.mkdir(parents=True, exist_ok=True)
            for each in Path(directory).glob("*.log"):
                (options.logs / each.name).write_bytes(each.read_bytes())
    sys.stdout.flush()
    os._exit(status)  # a client that hangs must not keep this process


if __name__ == "__main__":
    main()
