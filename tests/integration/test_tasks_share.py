"""What tasks give back to clients by name, on a real network: queues, variables, datasets."""

import time

import pytest

from twisted_dist import Client, Event, LocalCluster, Queue, Semaphore, Variable, get_client
from twisted_dist.errors import RefusedError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread each."""
    with LocalCluster(2, 1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """A client of it."""
    with Client(cluster.scheduler_address) as client:
        client.wait_for_workers(2, 20)
        yield client


def inc(x):
    """A task."""
    return x + 1


def down(n):
    """A chain of tasks, each of which waits for the next."""
    return 0 if n == 0 else 1 + get_client().submit(down, n - 1).result()


def fan(n):
    """Tasks of a task, gathered."""
    client = get_client()
    return sum(client.gather(client.map(inc, range(n))))


def numbers(n):
    """Numbers, and then what cannot be pickled."""
    yield from range(n)
    yield (each for each in ())


def failing():
    """A task of a task that raises."""
    return get_client().submit(inc, "x").result()


def produce(n):
    """Numbers, and futures of a task's own, into a queue that holds two."""
    queue, client = Queue("out", maxsize=2), get_client()
    for each in range(n):
        queue.put((each, client.submit(inc, each)))
    Event("produced").set()


def tell(value):
    """Set what the client waits for."""
    Variable("said").set({"value": value})


def enter(_):
    """How many were inside together with this one, at the least."""
    with Semaphore("door", 2):
        queue = Queue("inside")
        queue.put(1)
        there = queue.qsize()
        queue.get()
        return there


def test_map_that_breaks(client):
    """`Client.map` releases the tasks that it has sent when a later argument cannot be pickled."""
    assert client.gather(client.map(inc, range(5000))) == list(range(1, 5001))
    with pytest.raises(TypeError, match="generator"):
        client.map(inc, numbers(5000))
    deadline = time.monotonic() + 20
    while client.scheduler_info()["tasks"]:
        assert time.monotonic() < deadline, "tasks are left that nobody has a future of"
        time.sleep(0.05)
    assert client.map(inc, []) == []


def test_chain_of_waiting_tasks(client):
    """`get_client` lets twenty tasks wait for one another on two threads."""
    assert client.submit(down, 20).result(60) == 20


def test_gather_in_tasks(client):
    """`Client.gather` in several tasks at once ends, and gives the right results."""
    assert client.gather(client.map(fan, [5, 10, 20, 40])) == [15, 55, 210, 820]


def test_exception_through_a_task(client):
    """`Future.result` in a task raises what its own task raised, and so does the client's."""
    with pytest.raises(TypeError):
        client.submit(failing).result(30)


def test_queue_from_a_task(client):
    """`Queue` gives a client what a task puts, futures of the task's among it, in order."""
    done = client.submit(produce, 6)
    queue = Queue("out", maxsize=2, client=client)
    got = [queue.get(30) for _ in range(6)]
    assert [(n, future.result(30)) for n, future in got] == [(n, n + 1) for n in range(6)]
    assert Event("produced", client).wait(30)
    assert done.result(30) is None
    assert queue.qsize() == 0


def test_variable_from_a_task(client):
    """`Variable.get` waits for a task to set it; a delete is seen by all."""
    variable = Variable("said", client)
    with pytest.raises(TimeoutError):
        variable.get(0.02)
    told = client.submit(tell, 5)
    assert variable.get(30) == {"value": 5}
    assert told.result(30) is None
    variable.delete()
    with pytest.raises(TimeoutError):
        variable.get(0.02)


def test_semaphore_in_tasks(client):
    """`Semaphore` lets as many in as it has leases."""
    assert set(client.gather(client.map(enter, range(10)))) <= {0, 1, 2}


def test_dataset_is_not_replaced_by_chance(cluster, client):
    """`Client.publish_dataset` refuses a name that is taken; *override* is seen by others."""
    client.publish_dataset(client.submit(inc, 1), name="d")
    with Client(cluster.scheduler_address) as other:
        with pytest.raises(RefusedError, match="already"):
            other.publish_dataset(5, name="d")
        assert other.get_dataset("d").result(30) == 2
        other.publish_dataset(5, name="d", override=True)
    assert client.get_dataset("d") == 5
    client.unpublish_dataset("d")
    assert client.list_datasets() == []


def test_story_of_a_result(client):
    """`Future.explain` tells where the time of a task that is done went."""
    future = client.submit(inc, 1)
    assert future.result(30) == 2
    told = future.explain()
    assert [what for _, what, _ in told["story"]] == ["was submitted", "was given", "finished"]
    assert "is memory: it is done" in str(told)


def test_restart_forgets_what_is_shared(cluster, client):
    """`Client.restart` empties what is shared, tells who waits, and other clients go on."""
    with Client(cluster.scheduler_address) as other:
        mine = other.scatter(b"x" * 300_000)
        other.publish_dataset(mine, name="d")
        Variable("v", other).set(1)
        client.restart()
        assert other.list_datasets() == []
        with pytest.raises(TimeoutError):
            Variable("v", other).get(0.02)
        assert other.submit(inc, 1).result(30) == 2
        assert len(other.nthreads()) == 2
