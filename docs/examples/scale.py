"""What scheduling costs at scale: the scheduler's machine alone, with workers that answer at once.

::

    python docs/examples/scale.py              # 10,000 to 1,000,000 tasks, 1,000 workers
    python docs/examples/scale.py --workers 10000
    python docs/examples/scale.py --together 1

Each line is a process of its own. ``map`` are tasks without inputs; in ``pairs``, of three
tasks one adds what the two before it give. Tasks take 0.1 s, so that a worker is given one
at a time: a message for each task and each answer, which is the most work that there can
be. Messages are handled *together* as a reactor hands over what has come in one turn. Times
are of the processor; bytes are what the process grew by while all tasks are on the books,
by their number.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence

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


def answer(message: SendTasks, duration_us: int) -> s.TasksFinished:
    """What a worker says that has run all it was given."""
    ids = [each for run in message.runs for each in run.ids]
    attempts = [each for run in message.runs for each in run.attempts]
    n = len(ids)
    return s.TasksFinished(message.worker, ids, attempts, [8] * n, [duration_us] * n, [None] * n)


def measure(kind: str, n: int, workers: int, together: int, task_ms: float) -> str:
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
    #: what workers have been given and have not answered, the oldest first
    given: deque[SendTasks] = deque()

    def tell(facts: Sequence[s.Stimulus]) -> None:
        """One turn."""
        nonlocal now, seconds
        started = time.process_time()
        for fact in facts:
            now += 1e-6
            core.take(fact, now)
        out = core.decide()
        seconds += time.process_time() - started
        given.extend(each for each in out if isinstance(each, SendTasks))

    for fact in submissions(kind, n):
        tell([fact])
    queued = process.memory_info().rss - before
    while given:
        some = [given.popleft() for _ in range(min(together, len(given)))]
        tell([answer(each, int(task_ms * 1000)) for each in some])
    held = process.memory_info().rss - before
    done = sum(len(each.has_what) for each in core.state.workers.values())
    assert done == n, f"{done} of {n} tasks have a result"
    tell([s.KeysReleased(CLIENT, range(FIRST, FIRST + n))])
    assert not core.state.tasks
    cost = f"{seconds / n * 1e6:8.2f} {queued / n:12.0f} {held / n:12.0f}"
    return f"{kind:6} {n:10,} {workers:9,} {together:9,} {cost}"


def main() -> None:
    """Measure all, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--together", type=int, default=16, help="messages in a turn")
    parser.add_argument("--task-ms", type=float, default=100.0, help="how long each task takes")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "N"), help="measure this one, here")
    given = parser.parse_args()
    if given.one:
        print(
            measure(given.one[0], int(given.one[1]), given.workers, given.together, given.task_ms)
        )
        return
    print("kind        tasks   workers  together  µs/task bytes queued   bytes held")
    for kind in ("map", "pairs"):
        for n in (10_000, 100_000, 1_000_000):
            command = [sys.executable, __file__, "--workers", str(given.workers)]
            command += ["--together", str(given.together), "--task-ms", str(given.task_ms)]
            subprocess.run([*command, "--one", kind, str(n)], check=True)


if __name__ == "__main__":
    main()
