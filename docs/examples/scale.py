"""What scheduling costs at scale: the scheduler's machine alone, with workers that answer at once.

::

    python docs/examples/scale.py              # 10,000 to 1,000,000 tasks, 1,000 workers
    python docs/examples/scale.py --workers 10000

Each line is a process of its own. ``map`` are tasks without inputs; ``pairs`` are half as
many, and for each two neighbours one that adds them. Times are of the processor; bytes are
what the process grew by while all tasks are on the books, by their number.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections import deque

import psutil

from twisted_dist.core import stimuli as s
from twisted_dist.core.instructions import SendTasks
from twisted_dist.core.options import PLAIN
from twisted_dist.core.scheduler import SchedulerCore

CLIENT = 10**6
FIRST = CLIENT << 40
DIGEST = b"d" * 16
#: tasks in a message, as a client's frames of a megabyte hold
AT_ONCE = 20_000


def submissions(kind: str, n: int):
    """The messages that submit *n* tasks, each with a call of its own, as from the wire."""
    for start in range(0, n, AT_ONCE):
        ids = range(start, min(start + AT_ONCE, n))
        deps = []
        if kind == "pairs":
            deps = [[FIRST + i - 1, FIRST + i - 2] if i % 3 == 2 else [] for i in ids]
        calls = [b"call %010d" % i for i in ids]
        yield s.TasksSubmitted(
            CLIENT, FIRST + start, [DIGEST], [], calls, deps, [], False, [], PLAIN
        )


def answer(message: SendTasks) -> s.TasksFinished:
    """What a worker says that has run all it was given."""
    ids = [each for run in message.runs for each in run.ids]
    attempts = [each for run in message.runs for each in run.attempts]
    n = len(ids)
    return s.TasksFinished(message.worker, ids, attempts, [8] * n, [100_000] * n, [None] * n)


def measure(kind: str, n: int, workers: int) -> str:
    """Run it; a line of the table."""
    core = SchedulerCore(lease_s=1e9)
    for number in range(1, workers + 1):
        core.handle(s.WorkerJoined(number, f"10.0.0.{number}:1", f"w{number}", 1), 0.0)
    core.handle(s.ClientJoined(CLIENT, "scale"), 0.0)
    core.handle(s.FunctionDefined(CLIENT, DIGEST, "f", b"pickle"), 0.0)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as the daemons have it
    process = psutil.Process()
    before = process.memory_info().rss
    now = 0.0
    seconds = 0.0
    given: deque[SendTasks] = deque()

    def tell(fact: s.Stimulus) -> None:
        nonlocal now, seconds
        now += 1e-6
        started = time.process_time()
        out = core.handle(fact, now)
        seconds += time.process_time() - started
        given.extend(each for each in out if isinstance(each, SendTasks))

    for fact in submissions(kind, n):
        tell(fact)
    queued = process.memory_info().rss - before
    while given:
        tell(answer(given.popleft()))
    held = process.memory_info().rss - before
    done = sum(len(each.has_what) for each in core.state.workers.values())
    assert done == n, f"{done} of {n} tasks have a result"
    tell(s.KeysReleased(CLIENT, range(FIRST, FIRST + n)))
    assert not core.state.tasks
    cost = f"{seconds / n * 1e6:8.2f} {queued / n:12.0f} {held / n:12.0f}"
    return f"{kind:6} {n:10,} {workers:9,} {cost}"


def main() -> None:
    """Measure all, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "N"), help="measure this one, here")
    given = parser.parse_args()
    if given.one:
        print(measure(given.one[0], int(given.one[1]), given.workers))
        return
    print("kind        tasks   workers  µs/task   bytes queued  bytes held")
    for kind in ("map", "pairs"):
        for n in (10_000, 100_000, 1_000_000):
            command = [sys.executable, __file__, "--workers", str(given.workers)]
            subprocess.run([*command, "--one", kind, str(n)], check=True)


if __name__ == "__main__":
    main()
