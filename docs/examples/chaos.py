"""Ten minutes in which a network's parts are killed, stopped and cut off, while it works.

::

    python docs/examples/chaos.py --seconds 600 --seed 1
    python docs/examples/chaos.py --seconds 60 --futures 5000 --faults kill-worker,kill-child
    python docs/examples/chaos.py --seconds 60 --futures 5000 --faults stop-worker --apart
    python docs/examples/chaos.py --seconds 45 --futures 5000 --each
    python docs/examples/chaos.py --seconds 45 --futures 5000 --each --system dask

Starts a scheduler, workers and a proxy for each connection to the scheduler, all on this machine.
From one client, 100,000 futures go out in rounds of a thousand, evenly over the time there is:
maps, chains, reductions, larger results. Every second or two a fault is done, drawn from the
seed. Workers that have ended are started again at once.

*Recovery* is the time from the end of a fault (where it is a moment, from that moment; where a
process was stopped, from its continuation; where the scheduler was killed, from the moment that it
was started again; where a link was cut, from when it was whole) until, of tasks submitted from then
on, one has ended on each worker that has no other fault just then. A killed worker's successor is
among them, so the time that it takes to start is in it. Where faults overlap, so do their
recoveries; with --apart, none comes before the one before is over, and --each does that for one
kind after the other.

*Run again* are tasks that have begun more than once, counted with the last fault that had begun
before they did so again.

Ends with status 0 if each future was right and nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos_parts.faults import KINDS, Chaos, Fault
from chaos_parts.site import Site
from chaos_parts.systems import SYSTEMS
from chaos_parts.work import SHOW_S, Work

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


def figures(faults: list[Fault], again: Counter[str]) -> list[dict[str, Any]]:
    """What there is to say of each kind."""
    told = []
    for kind in (*KINDS, "no fault"):
        some = [each for each in faults if each.kind == kind]
        times = [each.recovered_s for each in some if each.recovered_s is not None]
        if some or again[kind]:
            told.append(
                {
                    "fault": kind,
                    "times": len(some),
                    "recovery, median (s)": f"{statistics.median(times):.2f}" if times else "–",
                    "at most (s)": f"{max(times):.2f}" if times else "–",
                    "not recovered": len(some) - len(times),
                    "run again": again[kind],
                }
            )
    return told


def table(rows: list[dict[str, Any]]) -> list[str]:
    """As Markdown has it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, 0) for name in names] for row in rows)]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


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
    parser.add_argument("--each", action="store_true", help="each kind by itself, and --apart")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--bound", type=float, default=90.0, help="seconds a recovery may take")
    parser.add_argument("--hang", type=float, default=180.0, help="seconds a round may take")
    parser.add_argument("--port", type=int, default=18900, help="this and the next ones are used")
    parser.add_argument("--logs", type=Path, help="a directory for the daemons' logs")
    return parser.parse_args()


def watch(options: argparse.Namespace, work: Work, chaos: Chaos | None) -> bool:
    """Wait until the work is over, with faults for as long as they are to come; whether it is."""
    began = told = time.monotonic()
    deadline = began + options.seconds + 2 * (options.hang + SHOW_S)
    while not work.is_done() and time.monotonic() < deadline:
        time.sleep(0.1)
        now = time.monotonic()
        if now - began > options.seconds and chaos is not None:
            chaos.end()  # what hangs now hangs by itself
            chaos = None
        if now - told > TELL_S:
            told = now
            print(f"{now - began:.0f} s: {sum(work.told.values()):,} futures", flush=True)
    if chaos is not None:
        chaos.end()
    return work.is_done()


def run(options: argparse.Namespace, directory: Path) -> int:
    """Run it; the exit status."""
    system = SYSTEMS[options.system]()
    os.environ["TWISTED_DIST_HOME"] = str(directory)
    site = Site(system, directory, options.workers, options.nthreads, options.port)
    tally = directory / "tally"
    task_s = options.task_ms / 1000
    work = Work(site, tally, options.futures, options.seconds, task_s, options.hang)
    chaos = Chaos(site, options.faults, options.seed, options.gap, options.apart, options.bound)
    try:
        site.start()
        print(f"{system.versions}, Python {platform.python_version()}, seed {options.seed}")
        work.start()
        if options.faults:
            chaos.start()
        is_over = watch(options, work, chaos if options.faults else None)
    finally:
        problems = site.end()
    outlived = sum(each.outlived for each in chaos.faults)
    if outlived:
        problems.append(f"{outlived} processes outlived the worker that had started them")
    if not is_over:
        problems.append("the work hangs")
    tell(options, site, work, chaos.faults, tally)
    print(*(problems or ["all ended with status 0; no process is left"]), sep="\n")
    return int(bool(problems) or work.told["right"] != sum(work.told.values()))


def tell(
    options: argparse.Namespace, site: Site, work: Work, faults: list[Fault], tally: Path
) -> None:
    """Print the figures."""
    again, begun = run_again(tally, faults)
    rows = figures(faults, again)
    if rows:
        print(*table(rows), sep="\n")
    total = sum(work.told.values())
    became = ", ".join(f"{count:,} {what}" for what, count in sorted(work.told.items()))
    print(f"{total:,} futures in {work.took_s:.0f} s: {became}")
    print(f"{begun:,} tasks have begun; {sum(again.values())} times one began again")
    for kind, (count, example) in work.problems.items():
        print(f"  {count} times {kind}: {example}")
    starts = ", ".join(f"{each.label} {each.started}" for each in (site.scheduler, *site.workers))
    print(f"daemons started: {starts}; clients: {site.clients}")
    if options.json is not None:
        ends = {name: work.told[name] for name in ("right", "wrong", "failed", "hung")}
        outlived = sum(each.outlived for each in faults)
        more = {**ends, "clients": site.clients, "outlived": outlived}
        options.json.write_text(json.dumps([{**row, **more} for row in rows]))


def run_each(options: argparse.Namespace) -> int:
    """Run each kind by itself; the highest exit status."""
    rows = []
    status = 0
    with tempfile.TemporaryDirectory() as directory:
        told = Path(directory) / "told"
        for kind in options.faults:
            print(f"-- {kind}", flush=True)
            own = [each for each in sys.argv[1:] if each != "--each"]
            own += ["--faults", kind, "--apart", "--json", str(told)]
            ended = subprocess.run([sys.executable, __file__, *own], check=False)
            status = max(status, ended.returncode)
            if told.exists():
                rows += [row for row in json.loads(told.read_text()) if row["fault"] == kind]
                told.unlink()
    print(*table(rows), sep="\n")
    return status


def main() -> None:
    """Run it in a directory of its own."""
    options = parse()
    if options.each:
        sys.exit(run_each(options))
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
