"""A cluster on fifty hosts, in one command: how long until it is up, and until nothing is left?

::

    python docs/examples/fifty_hosts.py --dask ~/dask/bin/python
    python docs/examples/fifty_hosts.py --hosts 10 --times 1 --only dcluster

Starts an sshd for each host, on 127.0.0.11 and so on, and then, one after the other and all that
several times: ``dcluster``, the same without nannies, ``dask ssh`` (its Python has ``distributed``
and ``paramiko``), and two floors: the same daemons started at once without SSH, and by a process
of ``ssh`` each. The scheduler is on the first host, a worker of one thread on each.

A client, whose process has imported everything before, measures until all workers are registered
and until a task has run on each; then comes Ctrl-C, and the time until the launcher has ended and
no process is left on any host. *Own* is the processor time that the launcher, or the processes of
``ssh``, have used until then. Shown are medians.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import tempfile
from pathlib import Path

from attrs import asdict
from fifty_hosts_parts.hosts import free_port, serving
from fifty_hosts_parts.systems import Row, all_systems, measure

HEADING = ("", "all registered, s", "a task on each, s", "until nothing is left, s", "own, s")


def _told(figures: list[float]) -> str:
    """The median, and between what."""
    middle = f"{statistics.median(figures):.1f}"
    if len(figures) == 1:
        return middle
    return f"{middle} ({min(figures):.1f}–{max(figures):.1f})"


def told(name: str, rows: list[Row]) -> str:
    """A line of the table."""
    columns = [[getattr(each, key) for each in rows] for key in asdict(rows[0]) if key != "left"]
    cells = ["–" if math.isnan(each[0]) else _told(each) for each in columns]
    left = max(each.left for each in rows)
    return f"| {name} | {' | '.join(cells)} |" + (f" {left} processes were left" if left else "")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--dask", help="a Python that has distributed and paramiko")
    parser.add_argument("--only", help="the one system to measure, as the table names it")
    options = parser.parse_args()
    # shells have what runs in the background ignore it, and what that starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    systems = all_systems(options.dask)
    if options.only:
        systems = [each for each in systems if each.name == options.only]
    rows: dict[str, list[Row]] = {each.name: [] for each in systems}
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TWISTED_DIST_HOME"] = f"{directory}/home-here"
        with serving(Path(directory), options.hosts) as hosts:
            for _ in range(options.times):
                for each in systems:
                    row = measure(each, hosts, free_port([*hosts.addresses, "127.0.0.1"]))
                    rows[each.name].append(row)
                    print(told(each.name, [row]), flush=True)
    print(f"\n{options.hosts} hosts, medians of {options.times} (least and most):\n")
    print(f"| {' | '.join(HEADING)} |\n|{'---|' * len(HEADING)}")
    for name, found in rows.items():
        print(told(name, found))


if __name__ == "__main__":
    main()
