"""Tasks a second and microseconds a task, beside the standard library and dask.

One system a run, each in the environment that has it; two workers of one thread each::

    python docs/examples/benchmark.py twisted_dist
    python docs/examples/benchmark.py ppe
    python docs/examples/benchmark.py dask          # pip install dask distributed

Prints the median of three samples of each figure, a line each.
"""

from __future__ import annotations

import concurrent.futures
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

TASKS = 100_000
WORKERS = 2
SAMPLES = 3


def inc(x: int) -> int:
    """A task that costs nothing."""
    return x + 1


class Network:
    """What has clients and clusters."""

    cluster: Any
    client: Any

    def __init__(self) -> None:
        self.start()
        self.submit, self.map, self.gather = (
            self.client.submit,
            self.client.map,
            self.client.gather,
        )

    def start(self) -> None:
        """Start a cluster and a client."""
        raise NotImplementedError

    def close(self) -> None:
        """End all of it."""
        self.client.close()
        self.cluster.close()


class TwistedDist(Network):
    """Daemons of their own, nannies, defaults."""

    def start(self) -> None:
        """As users start it."""
        from twisted_dist import Client, LocalCluster

        self.cluster = LocalCluster(WORKERS)
        self.client = Client(self.cluster.scheduler_address)
        self.client.wait_for_workers(WORKERS, 60)


class Dask(Network):
    """Processes of their own, nannies, defaults."""

    def start(self) -> None:
        """As users start it."""
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self.client = Client(self.cluster)


class Ppe:
    """ProcessPoolExecutor, chunksize 1; it has no futures as arguments."""

    def __init__(self) -> None:
        self.pool = concurrent.futures.ProcessPoolExecutor(WORKERS)
        self.submit = self.pool.submit

    def map(self, function: Callable[..., Any], xs: Any) -> list[Any]:
        """Futures."""
        return [self.pool.submit(function, x) for x in xs]

    def gather(self, futures: list[Any]) -> list[Any]:
        """Results."""
        return [each.result() for each in futures]

    def close(self) -> None:
        """End the pool."""
        self.pool.shutdown()


def main(name: str) -> None:
    """Measure one system."""
    make = {"twisted_dist": TwistedDist, "dask": Dask, "ppe": Ppe}[name]
    tasks = TASKS if name != "dask" else TASKS // 10  # or it takes minutes
    started = time.perf_counter()
    system = make()
    assert system.submit(inc, 1).result() == 2
    print(f"{name}: first result after {time.perf_counter() - started:.2f} s")

    def a_map(sample: int) -> float:
        base = sample * tasks
        started = time.perf_counter()
        got = system.gather(system.map(inc, range(base, base + tasks)))
        rate = tasks / (time.perf_counter() - started)
        assert got == list(range(base + 1, base + tasks + 1))
        return rate

    def a_merge(sample: int) -> float:
        base = -sample * tasks
        started = time.perf_counter()
        total = system.submit(sum, system.map(inc, range(base, base + tasks))).result()
        rate = tasks / (time.perf_counter() - started)
        assert total == sum(range(base + 1, base + tasks + 1))
        return rate

    def a_latency(sample: int) -> float:
        took = []
        for n in range(500):
            x = -(10**9) * sample - n
            started = time.perf_counter()
            assert system.submit(inc, x).result() == x + 1
            took.append(time.perf_counter() - started)
        return statistics.median(took) * 1e6

    figures = [(f"map of {tasks:,}: tasks/s", a_map), ("latency, p50: µs", a_latency)]
    if name != "ppe":
        figures.insert(1, (f"map of {tasks:,} and its sum: tasks/s", a_merge))
    for title, measure in figures:
        samples = [measure(sample) for sample in range(1, SAMPLES + 1)]
        print(f"{name}: {title} {statistics.median(samples):,.0f}", flush=True)
    system.close()


if __name__ == "__main__":
    main(sys.argv[1])
