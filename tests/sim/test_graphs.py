"""Graphs on simulated clusters: `AsyncClient.get` from the dict to the results."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.support.graphs import compute
from tests.support.simcluster import SimCluster
from twisted_dist.client import outbox
from twisted_dist.core import stimuli as s


def leaf(n):
    """A task without inputs."""
    return n


def mix(*parts):
    """A task whose result says what its inputs were."""
    return hash(parts) % 10**9


def add(x, y):
    """A task with two inputs."""
    return x + y


def fail(n):
    """A task that raises."""
    raise LookupError("nothing there")


def random_graph(seed, size):
    """A graph of all forms, and keys that need most of it."""
    random = Random(seed)
    dsk = {("x", n): (leaf, n + 0.5) for n in range(size // 5)}
    while len(dsk) < size:
        inputs = random.choices(list(dsk)[-size // 4 :], k=random.randint(1, 4))
        forms = [
            (mix, *inputs),
            (mix, 0.5, (mix, *inputs)),
            (sum, [(mix, each) for each in inputs]),
            inputs[0],
        ]
        dsk["y", len(dsk)] = random.choice(forms)
    return dsk, [list(dsk)[-size // 10 :], [("x", 0)]]


def tree(levels):
    """A tree of sums of the first numbers, and its root."""
    dsk = {(0, n): (leaf, n + 0.5) for n in range(2**levels)}
    for level in range(1, levels + 1):
        for n in range(2 ** (levels - level)):
            dsk[level, n] = (add, (level - 1, 2 * n), (level - 1, 2 * n + 1))
    return dsk, (levels, 0)


class Cluster(SimCluster):
    """A cluster with a client, which counts what the scheduler hears and has.

    Attributes:
        heard: how many stimuli of each class.
        finished: how often each task did.
        most_held: the most results in memory at a time.
    """

    def __init__(self, seed, nthreads, checked=True):
        super().__init__(seed, checked)
        self.heard = Counter()
        self.finished = Counter()
        self.most_held = 0
        self._take = self.scheduler.core.take
        self.scheduler.core.take = self._count
        for each in nthreads:
            self.wait(self.add_worker(each))
        self.c = self.client()

    def _count(self, fact, now):
        self._take(fact, now)
        self.heard[type(fact)] += 1
        if isinstance(fact, s.TasksFinished):
            self.finished.update(fact.ids)
        held = sum(len(worker.has_what) for worker in self.scheduler.core.state.workers.values())
        self.most_held = max(self.most_held, held)

    def get(self, *graph):
        """The results of a graph, when the scheduler has forgotten it."""
        got = self.wait(self.c.get(*graph))
        self.forget()
        return got

    def forget(self):
        """Wait until the scheduler knows no tasks, and workers hold nothing."""
        state = self.scheduler.core.state
        self.net.run(lambda: not state.tasks, 60)
        assert not any(worker.has_what for worker in state.workers.values())

    def end(self):
        """Close the client and stop everything."""
        self.wait(self.c.close())
        self.stop()


@pytest.mark.parametrize("seed", range(3))
def test_any_graph(seed):
    """`AsyncClient.get` gives the results of a graph; each task runs once, nothing is left."""
    graph = random_graph(seed, 300)
    cluster = Cluster(seed, [1, 2, 4])
    assert cluster.get(*graph) == compute(*graph)
    assert cluster.heard[s.TasksSubmitted] == 1
    assert set(cluster.finished.values()) == {1}
    cluster.end()


@pytest.mark.parametrize("seed", range(3))
def test_graph_in_pieces(seed, monkeypatch):
    """`AsyncClient.get` gives the results of a graph whose messages are split into pieces."""
    monkeypatch.setattr(outbox, "TARGET_BYTES", 2000)
    graph = random_graph(seed, 300)
    cluster = Cluster(seed, [1, 2])
    assert cluster.get(*graph) == compute(*graph)
    assert cluster.heard[s.TasksSubmitted] > 5
    assert set(cluster.finished.values()) == {1}
    cluster.end()


@pytest.mark.parametrize("target", [outbox.TARGET_BYTES, 5000])
def test_deep_tree_holds_little(target, monkeypatch):
    """`AsyncClient.get` holds about two results for each level of a tree, of its thousands."""
    monkeypatch.setattr(outbox, "TARGET_BYTES", target)
    cluster = Cluster(5, [1, 1], checked=False)
    assert cluster.get(*tree(10)) == 2**19
    assert 10 <= cluster.most_held <= 20
    cluster.end()


def test_workers_that_die():
    """`AsyncClient.get` gives the results though workers die with the inputs of what is left."""
    graph = random_graph(7, 300)
    cluster = Cluster(7, [1, 1, 1, 1])
    start = cluster.net.clock.seconds()
    for n in range(1, 4):
        cluster.net.at(start + n, cluster.kill_worker)
    assert cluster.get(*graph) == compute(*graph)
    assert len(cluster.workers) == 1
    cluster.end()


def test_task_that_raises():
    """`AsyncClient.get` fails with what a task raised; the rest is given up."""
    cluster = Cluster(8, [2])
    dsk, root = tree(6)
    dsk |= {(1, n): (fail, n) for n in range(2**5)}
    with pytest.raises(LookupError) as kept:  # with the frames that it came through
        cluster.get(dsk, root)
    cluster.forget()
    assert len(cluster.finished) < 10
    assert kept.value.args == ("nothing there",)
    cluster.end()


def test_graphs_side_by_side():
    """`AsyncClient.get` keeps graphs apart, though their keys are the same."""
    cluster = Cluster(9, [2, 2])
    other = cluster.client()
    waiting = [
        client.get({"x": (leaf, n), "y": (add, "x", 0.5)}, ["y", "x"])
        for n, client in enumerate([cluster.c, other, cluster.c], 10)
    ]
    assert [cluster.wait(each) for each in waiting] == [[10.5, 10], [11.5, 11], [12.5, 12]]
    cluster.forget()
    cluster.wait(other.close())
    cluster.end()


def test_cancelled_get():
    """`AsyncClient.get`'s Deferred, cancelled, gives the graph up."""
    cluster = Cluster(10, [1])
    waiting = cluster.c.get(*tree(8))
    waiting.addErrback(lambda failure: None)
    cluster.net.run(lambda: cluster.finished)
    waiting.cancel()
    cluster.forget()
    assert len(cluster.finished) < 2**7
    cluster.end()


def test_fire_and_forget():
    """`AsyncClient.fire_and_forget` lets tasks run to their end whose futures are dropped."""
    cluster = Cluster(11, [1, 1])
    xs = cluster.c.map(leaf, range(20))
    total = cluster.c.submit(sum, xs)
    cluster.c.fire_and_forget(total)
    kept, dropped = total._record.id, cluster.c.submit(leaf, 1)._record.id
    del xs, total
    cluster.net.run(lambda: kept in cluster.finished)
    cluster.forget()
    assert len(cluster.finished) == 21
    assert dropped not in cluster.finished
    cluster.end()
