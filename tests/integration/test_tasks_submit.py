"""What tasks and clients share on a real network: tasks of tasks, locks, queues, datasets."""

import time

import pytest

from twisted_dist import (
    Client,
    Event,
    LocalCluster,
    Lock,
    Queue,
    Semaphore,
    Variable,
    get_client,
    rpc,
)
from twisted_dist.errors import LeaseLostError, NoWorkerError, RefusedError, UsageProblem

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


def fib(n):
    """Fibonacci's numbers, each task by two others."""
    if n < 2:
        return n
    client = get_client()
    a, b = client.submit(fib, n - 1, pure=True), client.submit(fib, n - 2, pure=True)
    return a.result() + b.result()


def count_up(_):
    """One more, under a lock."""
    with Lock("counter") as lock:
        variable = Variable("count")
        n = variable.get()
        time.sleep(0.001)
        variable.set(n + 1, fence=lock)


def take(n):
    """Items of a queue, and the results of futures among them."""
    queue = Queue("items")
    return [queue.get(20).result(20) for _ in range(n)]


def inc(x):
    """A task."""
    return x + 1


def test_tasks_of_tasks(client):
    """`get_client` in tasks goes deeper than there are threads, and waiting ends."""
    assert client.submit(fib, 12).result(60) == 144


def test_counter(client):
    """`Lock` lets no two tasks of two processes in at a time."""
    variable = Variable("count", client)
    variable.set(0)
    client.gather(client.map(count_up, range(20)))
    assert variable.get() == 20


def test_futures_through_a_queue(client):
    """`Queue` hands futures from a client to a task."""
    taken = client.submit(take, 3)
    queue = Queue("items", client=client)
    for n in range(3):
        queue.put(client.submit(inc, n))
    assert taken.result(20) == [1, 2, 3]
    with pytest.raises(TimeoutError):
        queue.get(timeout=0.05)


def test_leases(client):
    """`Semaphore` and `Event` say what they are, and what was lost."""
    semaphore = Semaphore("two", 2, client)
    assert semaphore.acquire()
    first = semaphore.token
    assert semaphore.acquire()
    assert semaphore.token > first
    assert semaphore.acquire(timeout=0.05) is False
    semaphore.release()
    semaphore.release()
    with pytest.raises(LeaseLostError):
        semaphore.token  # noqa: B018 - it raises
    with pytest.raises(UsageProblem):
        semaphore.release()
    event = Event("go", client)
    assert event.wait(0.05) is False
    event.set()
    assert event.wait() is True


def test_dataset_of_another_client(cluster, client):
    """`Client.publish_dataset` gives futures to clients that come later."""
    with Client(cluster.scheduler_address) as publisher:
        publisher.publish_dataset(xs=publisher.map(inc, range(5)), n=5)
    assert client.gather(client.get_dataset("xs")) == [1, 2, 3, 4, 5]
    assert sorted(client.list_datasets()) == ["n", "xs"]
    client.unpublish_dataset("xs")
    with pytest.raises(RefusedError, match="there are: n"):
        client.get_dataset("xs")


def test_copies(client):
    """`Client.replicate` copies large results to other workers."""
    data = client.map(bytes, [300_000] * 4)
    client.replicate(data, 2)
    assert {len(holders) for holders in client.who_has(data).values()} == {2}


def test_explain(cluster, client):
    """`Future.explain`, and ``rpc().explain``, say why a task does not run."""
    waiting = client.submit(inc, 1, resources={"GPU": 1}, wait_for_worker=True)
    assert "asks for resources GPU=1" in str(waiting.explain())
    told = rpc(cluster.scheduler_address).explain(key=waiting.key)
    assert told["state"] == "no-worker"
    with pytest.raises(NoWorkerError):
        client.submit(inc, 1, workers="nobody").result(20)


def test_restart(client):
    """`Client.restart` ends what runs, and gives workers that run others."""
    endless = client.submit(time.sleep, 1000)
    client.restart()
    assert endless.status == "cancelled"
    assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
