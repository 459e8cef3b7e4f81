"""What a client does while a network's parts fail: tasks that leave a trace, and their sum.

    python -m tests.support.workload ADDRESS TALLY

Each task appends a line to the file TALLY when it begins: its number, its process and the
time. The client writes one line, of JSON, to standard output: what became of it all.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twisted_dist import Client

TASKS = 600
TASK_S = 0.05
#: tasks whose results one task of the reduction adds up
GROUP = 20
RIGHT = sum(n * n for n in range(TASKS))
#: seconds without a result after which the client gives up; the test's own bound is the judge
GIVE_UP_S = 240.0


def trace(tally: str, number: int) -> None:
    """One line, whole, whoever else writes."""
    line = f"{number} {os.getpid()} {time.time():.3f}\n".encode()
    file = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def square(tally: str, number: int) -> int:
    """A task."""
    trace(tally, number)
    time.sleep(TASK_S)
    return number * number


def add(tally: str, number: int, values: list[int]) -> int:
    """A task of the reduction."""
    trace(tally, number)
    return sum(values)


def run(client: Client, tally: str) -> dict[str, Any]:
    """Submit all of it, and look at every result."""
    squares = client.map(square, [tally] * TASKS, range(TASKS))
    groups = [squares[n : n + GROUP] for n in range(0, TASKS, GROUP)]
    sums = [client.submit(add, tally, TASKS + n, group) for n, group in enumerate(groups)]
    total = client.submit(add, tally, TASKS + len(sums), sums)
    everything = [*squares, *sums, total]
    try:
        wrong = total.result(GIVE_UP_S) != RIGHT
        wrong |= [each.result(GIVE_UP_S) for each in squares] != [n * n for n in range(TASKS)]
        outcome = "wrong" if wrong else "right"
    except Exception as problem:
        outcome = f"{type(problem).__name__}: {problem}"
    return {"outcome": outcome, "states": Counter(each.status for each in everything)}


def times_run(tally: Path) -> Counter[int]:
    """``{task number: how many times it was begun}``."""
    if not tally.exists():
        return Counter()
    return Counter(int(line.split()[0]) for line in tally.read_text().splitlines())


def main() -> None:
    """Do it once; the time is that from the first submission to the last result."""
    address, tally = sys.argv[1:]
    with Client(address, timeout=30) as client:
        client.wait_for_workers(3, 30)
        print("ready", flush=True)
        began = time.monotonic()
        told = run(client, tally)
        told["seconds"] = round(time.monotonic() - began, 2)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
