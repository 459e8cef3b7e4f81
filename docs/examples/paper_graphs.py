"""Graphs of a paper on schedulers' overheads, computed here and on dask.distributed.

"Runtime vs Scheduler: Analyzing Dask's Overheads" (Böhm and Beránek, WORKS 2020) measures
with graphs of which these need no library: merges of 10,000 to 100,000 tasks, a tree of
32,767, and a merge of 5,000 tasks that sleep for 100 ms. One system a run, each in the
environment that has it::

    python docs/examples/paper_graphs.py twisted_dist
    python docs/examples/paper_graphs.py dask merge-10K tree-15

Prints, for each graph, the median makespan, from the submission of the graph to its
result, and the tasks per second that this is. The paper's cluster has 24 workers and more of
one thread each; here there are two, by default. The graph that sleeps is only computed when
it is named, for it takes 250 s on two threads: give it more, which costs no processor::

    python docs/examples/paper_graphs.py twisted_dist --threads 25 merge_slow-5K-0.1
"""

from __future__ import annotations

import argparse
import operator
import statistics
import time
from collections.abc import Callable
from typing import Any

#: {key: task}, the key of the result, and the result
Graph = tuple[dict[Any, Any], Any, int]


class TwistedDist:
    """Daemons of their own, nannies, TLS, defaults."""

    def __init__(self, workers: int, threads: int) -> None:
        from twisted_dist import Client, LocalCluster

        self.cluster = LocalCluster(workers, threads)
        self.client = Client(self.cluster.scheduler_address)
        self.client.wait_for_workers(workers, 60)

    def close(self) -> None:
        """End all of it."""
        self.client.close()
        self.cluster.close()


class Dask:
    """Processes of their own, nannies, no TLS, defaults."""

    def __init__(self, workers: int, threads: int) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=None, silence_logs=50
        )
        self.client = Client(self.cluster)

    def close(self) -> None:
        """End all of it."""
        self.client.close()
        self.cluster.close()


# -- the graphs; *name* is in all keys, since what has a key again need not be computed


def merge(name: str, n: int) -> Graph:
    """Tasks without inputs, and one that needs all of them."""
    graph: dict[Any, Any] = {(name, k): (operator.mul, k, 10) for k in range(n)}
    return {**graph, name: (sum, list(graph))}, name, 5 * n * (n - 1)


def merge_slow(name: str, n: int, seconds: float) -> Graph:
    """The same of tasks that sleep."""
    graph: dict[Any, Any] = {(name, k): (time.sleep, seconds) for k in range(n)}
    return {**graph, name: (len, list(graph))}, name, n


def tree(name: str, levels: int) -> Graph:
    """A binary tree of sums, of 2**levels numbers."""
    graph: dict[Any, Any] = {}
    inputs: list[Any] = list(range(2**levels))
    for level in range(levels):
        keys = [(name, level, k) for k in range(len(inputs) // 2)]
        pairs = zip(inputs[::2], inputs[1::2])
        graph |= {key: (operator.add, *pair) for key, pair in zip(keys, pairs)}
        inputs = keys
    return graph, inputs[0], 2 ** (levels - 1) * (2**levels - 1)


GRAPHS: dict[str, Callable[[str], Graph]] = {
    "merge-10K": lambda name: merge(name, 10_000),
    "merge-15K": lambda name: merge(name, 15_000),
    "merge-20K": lambda name: merge(name, 20_000),
    "merge-25K": lambda name: merge(name, 25_000),
    "merge-30K": lambda name: merge(name, 30_000),
    "merge-50K": lambda name: merge(name, 50_000),
    "merge-100K": lambda name: merge(name, 100_000),
    "tree-15": lambda name: tree(name, 15),
    "merge_slow-5K-0.1": lambda name: merge_slow(name, 5000, 0.1),
}
#: only computed when it is named
SLOW = "merge_slow-5K-0.1"


def main() -> None:
    """Measure one system."""
    parser = argparse.ArgumentParser(description="Graphs of a paper, computed here or on dask.")
    parser.add_argument("system", choices=["twisted_dist", "dask"])
    parser.add_argument("graphs", nargs="*", metavar="graph", help=", ".join(GRAPHS))
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--threads", type=int, default=1, help="of each worker (default 1)")
    parser.add_argument("--samples", type=int, default=3, help="of each graph (default 3)")
    asked = parser.parse_args()
    if unknown := set(asked.graphs) - set(GRAPHS):
        parser.error(f"no such graph: {', '.join(sorted(unknown))}")
    make = {"twisted_dist": TwistedDist, "dask": Dask}[asked.system]
    system = make(asked.workers, asked.threads)
    assert system.client.get(*merge("first", 100)[:2]) == merge("first", 100)[2]
    for title in asked.graphs or [each for each in GRAPHS if each != SLOW]:
        took = []
        for sample in range(asked.samples):
            graph, key, result = GRAPHS[title](f"{title}-{sample}")
            started = time.perf_counter()
            got = system.client.get(graph, key)
            took.append(time.perf_counter() - started)
            assert got == result, f"{title}: {got}, not {result}"
        makespan = statistics.median(took)
        rate = len(graph) / makespan
        print(f"{asked.system}: {title}: {makespan:.2f} s, {rate:,.0f} tasks/s", flush=True)
    system.close()


if __name__ == "__main__":
    main()
