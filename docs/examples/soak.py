"""A day's wear in ten minutes: many tasks, while the processes that run them are killed.

    python docs/examples/soak.py --small 1000000 --large 2000 --minutes 10

Starts a scheduler and two workers on this machine. Small tasks (a number plus one) go out in maps
of 10,000, large ones (4 MB that another task sums) a few at a time, spread over the time there is.
Every second, one of the processes that run tasks is killed with SIGKILL. All results are
checked. Memory and descriptors of all processes are told at the beginning and at the end.
"""

from __future__ import annotations

import argparse
import array
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from twisted_dist import Client

MIB = 2**20
MAP = 10_000
NUMBERS = 500_000
ADDRESS = "127.0.0.1:18788"
#: seconds of quiet before the last look: memory kept for later values is let go of after five
QUIET_S = 12.0
#: attempts that a task has while its process is killed again and again: of what it did not do
RETRIES = 100


def plus_one(number: int) -> int:
    """A small task."""
    return number + 1


def numbers(seed: int) -> array.array[int]:
    """A large task: 4 MB."""
    return array.array("q", [seed]) * NUMBERS


def total(values: array.array[int]) -> int:
    """A task on what a large one gave."""
    return values[0] + values[-1] + len(values)


def look(processes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """``{name: (MiB of memory, descriptors)}``."""
    told = {}
    for name, pid in processes.items():
        process = psutil.Process(pid)
        about = process.memory_info()
        told[name] = ((about.rss - about.shared) // MIB, process.num_fds())
    return told


def show(when: str, told: dict[str, tuple[int, int]]) -> None:
    """One line."""
    parts = [f"{name} {memory} MiB, {files} descriptors" for name, (memory, files) in told.items()]
    print(f"{when}: {'; '.join(parts)}", flush=True)


class Killer(threading.Thread):
    """Kills a child of a nanny, now and then."""

    def __init__(self, nannies: list[int], seed: int) -> None:
        super().__init__(daemon=True)
        self._nannies = [psutil.Process(each) for each in nannies]
        self._chance = random.Random(seed)
        self.stopping = threading.Event()
        self.killed = 0

    def run(self) -> None:
        """Kill."""
        while not self.stopping.wait(1.0):
            children = self._chance.choice(self._nannies).children()
            if children:
                with suppress(psutil.Error, ProcessLookupError):
                    os.kill(self._chance.choice(children).pid, signal.SIGKILL)
                    self.killed += 1


def work(client: Client, small: int, large: int, seconds: float) -> None:
    """Submit and check all of it, at an even pace."""
    began = time.monotonic()
    rounds = small // MAP
    told = began
    for number in range(rounds):
        first = number * MAP
        futures = client.map(plus_one, range(first, first + MAP), retries=RETRIES)
        seeds = range(number * large // rounds, (number + 1) * large // rounds)
        arrays = client.map(numbers, seeds, retries=RETRIES)
        sums = client.map(total, arrays, retries=RETRIES)
        del arrays
        assert client.gather(sums) == [2 * seed + NUMBERS for seed in seeds]
        assert client.gather(futures) == list(range(first + 1, first + MAP + 1))
        del futures, sums
        time.sleep(max(0.0, began + seconds * (number + 1) / rounds - time.monotonic()))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{told - began:.0f} s: {first + MAP:,} small, {seeds.stop:,} large", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=2_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as home:
        os.environ["TWISTED_DIST_HOME"] = home
        host = ["--host", "127.0.0.1"]
        port = ADDRESS.rpartition(":")[2]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        daemons = [subprocess.Popen([programs / "dscheduler", *host, "--port", port], **quiet)]
        for _ in range(2):
            line = [programs / "dworker", ADDRESS, *host, "--nthreads", "2"]
            daemons.append(subprocess.Popen(line, **quiet))
        client = Client(ADDRESS, timeout=30)
        client.wait_for_workers(2, timeout=30)
        assert client.gather(client.map(plus_one, range(MAP))) == list(range(1, MAP + 1))
        names = ("scheduler", "nanny 1", "nanny 2")
        processes = dict(zip(names, (each.pid for each in daemons)))
        processes["client"] = os.getpid()
        time.sleep(QUIET_S)
        show("before", look(processes))
        killer = Killer([each.pid for each in daemons[1:]], options.seed)
        killer.start()
        began = time.monotonic()
        work(client, options.small, options.large, options.minutes * 60)
        took = time.monotonic() - began
        killer.stopping.set()
        killer.join()
        time.sleep(QUIET_S)
        show("after ", look(processes))
        print(
            f"{options.small:,} small and {options.large:,} large tasks in {took:.0f} s: all right"
        )
        print(f"{killer.killed} processes were killed meanwhile")
        client.shutdown()
        status = [each.wait(30) for each in daemons]
        print(f"exit status {status}")


if __name__ == "__main__":
    main()
