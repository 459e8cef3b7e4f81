"""dask's collections, and the graphs that papers measure with, on a real local cluster."""

import operator
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from twisted_dist import Client, LocalCluster
from twisted_dist.errors import UsageProblem

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
db = pytest.importorskip("dask.bag")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    """A client of two workers, which dask computes with."""
    with LocalCluster(2) as cluster, Client(cluster.scheduler_address) as client:
        client.wait_for_workers(2, 20)
        with dask.config.set({"scheduler": client.get, "dataframe.shuffle.method": "tasks"}):
            yield client


def size(collection):
    """Tasks of a collection as it is written, before dask makes fewer of them."""
    return len(collection.__dask_graph__())


# -- dask.array


def test_array(client):
    """`Client.get` computes an array's blocks, sums and transposes: ten thousand tasks."""
    side, block = 980, 20
    x = da.arange(side * side, chunks=side * block).reshape(side, side).rechunk((block, block))
    y = (x + x.T).sum(axis=0)
    assert size(y) > 10_000
    numbers = np.arange(side * side).reshape(side, side)
    assert np.array_equal(y.compute(), (numbers + numbers.T).sum(axis=0))


def test_array_of_large_blocks(client):
    """`Client.get` computes on blocks that go from worker to worker outside of pickles."""
    x = da.ones((2000, 2000), chunks=(500, 500))
    y = (x @ x.T - x.mean()).std(axis=1)
    assert np.array_equal(y.compute(), np.zeros(2000))


def test_array_of_a_large_one(client):
    """`Client.get` scatters the blocks of an array that are too large for a message."""
    numbers = np.arange(4_000_000.0)
    x = da.from_array(numbers, chunks=2_000_000)
    assert (x + 1).sum().compute() == numbers.sum() + len(numbers)
    assert (x + 1).sum().compute(scheduler=client) == numbers.sum() + len(numbers)
    deadline = time.monotonic() + 20
    while any(client.has_what().values()):
        assert time.monotonic() < deadline, "large data is held after all is done"
        time.sleep(0.05)


# -- dask.bag


def test_bag(client):
    """`Client.get` computes a bag's maps, filters and folds: ten thousand tasks."""
    bag = db.from_sequence(range(30_000), npartitions=3000)
    odd = bag.map(lambda x: 3 * x).filter(lambda x: x % 2)
    total = odd.sum()
    assert size(total) > 10_000
    assert total.compute() == sum(x for x in range(0, 90_000, 3) if x % 2)


def test_bag_groups(client):
    """`Client.get` computes what shuffles a bag."""
    bag = db.from_sequence(range(1000), npartitions=40)
    counts = bag.groupby(lambda x: x % 7).map(lambda group: (group[0], len(group[1])))
    assert dict(counts.compute()) == {n: len(range(n, 1000, 7)) for n in range(7)}


# -- dask.delayed


@dask.delayed
def add(x, y):
    """A task of two inputs."""
    return x + y


def test_delayed_tree(client):
    """`Client.get` computes a tree of calls: eight thousand tasks."""
    level = list(range(2**13))
    while len(level) > 1:
        level = [add(*pair) for pair in zip(level[::2], level[1::2])]
    assert size(level[0]) == 2**13 - 1
    assert level[0].compute() == 2**12 * (2**13 - 1)


def test_delayed_arguments(client):
    """`Client.get` computes what is in containers, keyword arguments and several outputs."""

    @dask.delayed
    def told(*args, **kwargs):
        return args, kwargs

    x = add(1, 2)
    y = told([x, 0], {"a": x, "b": (x, "x")}, key=[{x.key: x}])
    assert y.compute() == (([3, 0], {"a": 3, "b": (3, "x")}), {"key": [{x.key: 3}]})
    assert dask.compute(x, [add(x, x), {"x": x}], 5) == (3, [6, {"x": 3}], 5)


def test_persist(client):
    """`Client.get` gives what `persist` keeps here, to be computed on."""
    kept = da.arange(100, chunks=10).persist()
    assert (kept + 1).sum().compute() == 5050


def test_exception(client):
    """`Client.get` raises a task's own exception."""
    broken = dask.delayed(operator.truediv)(add(1, 0), 0)
    with pytest.raises(ZeroDivisionError):
        add(broken, 1).compute()
    assert add(1, 1).compute(scheduler=client.get) == 2


# -- plain graphs


def inc(x):
    """A task without inputs."""
    return x + 1


def test_merge(client):
    """`Client.get` computes a merge of ten thousand tasks."""
    n = 10_000
    dsk = {("x", k): (inc, k) for k in range(n)}
    assert client.get({**dsk, "total": (sum, list(dsk))}, "total") == sum(range(1, n + 1))


def test_tree(client):
    """`Client.get` computes a tree of thirty thousand tasks, and gives what is on the way."""
    levels = 14
    dsk = {(0, k): (inc, k) for k in range(2**levels)}
    for n in range(1, levels + 1):
        pairs = range(2 ** (levels - n))
        dsk |= {(n, k): (operator.add, (n - 1, 2 * k), (n - 1, 2 * k + 1)) for k in pairs}
    root, halves = client.get(dsk, [(levels, 0), [(levels - 1, 0), (levels - 1, 1)]])
    assert root == sum(halves) == 2 ** (levels - 1) * (2**levels + 1)


def process(*_inputs):
    """The process that a task runs in."""
    return os.getpid()


def test_get_options(client):
    """`Client.get` runs all tasks of a graph on the worker that its options name."""
    dsk = {"x": (process,), "y": (process, "x"), "z": (process, "x", "y")}
    one, two = (set(client.get(dsk, list(dsk), workers=name)) for name in client.nthreads())
    assert len(one) == len(two) == 1
    assert one != two


def test_refusals(client):
    """`Client.get` refuses what lacks a key or has a cycle before it sends anything."""
    with pytest.raises(UsageProblem, match="there is no 'y' in the graph"):
        client.get({"x": 1}, ["x", "y"])
    with pytest.raises(UsageProblem, match="the graph has a cycle: 'x' needs 'y' needs 'x'"):
        client.get({"x": (inc, "y"), "y": (inc, "x")}, "x")
    assert client.get({"x": 1}, []) == []


def test_dask_is_not_needed():
    """`Client.get` computes plain graphs where dask was never imported, here and on workers."""
    script = """
import sys
from twisted_dist import Client

def modules(x):
    return [x, "dask" in sys.modules]

if __name__ == "__main__":
    with Client() as client:
        assert client.get({"x": 1, "y": (modules, ["x", (abs, -1)])}, "y") == [[1, 1], False]
    assert "dask" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
