"""A real local cluster: daemons, nannies, a blocking client."""

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
import time

import pytest

from twisted_dist import Client, LocalCluster, as_completed, rpc, wait
from twisted_dist.access.credential import Credential
from twisted_dist.access.network import Network
from twisted_dist.errors import (
    CancelledError,
    ConnectionClosedError,
    RefusedError,
    RemoteError,
    TaskKilledError,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    """A client of two workers."""
    with LocalCluster(2) as cluster, Client(cluster) as client:
        client.wait_for_workers(2, 20)
        yield client


def test_map_and_gather(client):
    """`Client.map` and `gather` keep order; closures travel."""
    k = 3
    assert client.gather(client.map(lambda x: x * k, range(500))) == [x * 3 for x in range(500)]


def test_futures_are_arguments_in_containers(client):
    """`Client.submit` resolves futures nested in lists and dicts."""
    xs = client.map(abs, range(-5, 0))
    assert client.submit(sum, xs).result(20) == 15
    future = client.submit(lambda d: d["a"][0] + 1, {"a": [xs[0]]})
    assert future.result(20) == 6


def test_exception_arrives_as_itself(client):
    """`Future.result` raises the task's own exception, with the remote traceback."""
    future = client.submit(lambda: {}["missing"])
    with pytest.raises(KeyError, match="missing") as caught:
        future.result(20)
    assert "Traceback" in str(caught.value.__cause__)
    assert future.status == "error"


def test_scatter_large_and_gather(client):
    """`Client.scatter` and `gather` move what does not ride inline."""
    blob = os.urandom(3_000_000)
    there = client.scatter(blob)
    assert client.submit(len, there).result(20) == 3_000_000
    assert client.gather(there) == blob


def test_as_completed_and_wait(client):
    """`as_completed` yields every future; `wait` returns when all are done."""
    futures = client.map(abs, range(20))
    assert wait(futures, 20).not_done == set()
    assert sorted(f.result() for f in as_completed(futures)) == list(range(20))


def test_cancelled_future(client):
    """`Future.cancel` ends a task that has no result."""
    futures = client.map(time.sleep, [0.3] * 8)
    futures[-1].cancel()
    with pytest.raises(CancelledError):
        futures[-1].result(20)
    wait(futures, 20)


def test_task_that_kills_its_process_is_named(client):
    """A task that ends its process fails by name after its budget; the workers stay."""
    before = sorted(client.nthreads())
    with pytest.raises(TaskKilledError, match="SIGKILL"):
        client.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).result(60)
    assert sorted(client.nthreads()) == before
    assert client.submit(abs, -1).result(20) == 1


def test_future_of_a_closed_client():
    """`Future.result` and `explain` say so where the value was not fetched before the end."""
    with LocalCluster(1) as cluster:
        with Client(cluster) as client:
            future = client.submit(bytes, 200_000)
            wait([future], timeout=20)
        for call in (future.result, future.explain):
            with pytest.raises(ConnectionClosedError, match="client was closed"):
                call()


def test_rpc_identity(client):
    """`rpc` asks daemons what they are."""
    about = rpc(client.address).identity()
    assert about["type"] == "scheduler"
    assert about["workers"] == 2


def test_broadcast(client):
    """`Client.scatter` with *broadcast* puts each element on every worker."""
    future = client.scatter([7], broadcast=True)[0]
    assert len(client.who_has([future])[future.key]) == 2
    assert client.submit(abs, future).result(20) == 7


def test_results_that_fill_many_frames(client):
    """Results and exceptions of a batch may take more than a frame together."""
    values = client.gather(client.map(bytes, [60_000] * 1000))
    assert {len(each) for each in values} == {60_000}

    def fail(size):
        raise ValueError("x" * size)

    futures = client.map(fail, [500_000] * 100)
    assert all(len(str(each.exception(60))) == 500_000 for each in futures)
    assert "too large" not in futures[0].traceback()


class UnshowableError(Exception):
    """Neither pickles nor prints."""

    def __reduce__(self):
        """Fail."""
        raise RuntimeError("no pickle")

    def __str__(self):
        """Fail."""
        raise RuntimeError("no words")


def test_exception_that_cannot_be_shown(client):
    """An exception that neither pickles nor prints still fails its own task only."""

    def fail(_):
        raise UnshowableError

    def too_long():
        raise ValueError("x" * 3_000_000)

    with pytest.raises(RemoteError, match="UnshowableError"):
        client.submit(fail, 1).result(20)
    with pytest.raises(RemoteError, match="ValueError: xxx"):
        client.submit(too_long).result(20)
    assert client.submit(abs, -1).result(20) == 1


def test_tasks_may_print_much(client, monkeypatch):
    """What tasks print never fills a pipe that nobody reads; it is printed here."""

    class Printed(list):
        write = list.extend

    printed = Printed()
    monkeypatch.setattr(sys, "stdout", printed)

    def talk(n):
        print("\n".join([f"task {n} says this"] * 5000))
        return n

    assert client.gather(client.map(talk, range(4))) == [0, 1, 2, 3]
    assert client.submit(abs, -1).result(20) == 1
    deadline = time.monotonic() + 20
    while printed.count("\n") < 20_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert printed.count("\n") == 20_000


def test_modules_beside_the_script(tmp_path, monkeypatch):
    """Tasks of a `LocalCluster` can import what the process that started it can."""
    (tmp_path / "td_helper.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    helper = importlib.import_module("td_helper")
    with Client() as client:
        assert client.gather(client.map(helper.triple, range(3))) == [0, 3, 6]


def test_beside_a_variable_for_another_network(monkeypatch):
    """`Client()` works where `TWISTED_DIST_ACCESS` is for some other network."""
    other = Network.make().access(["192.168.0.1:8786"], "elsewhere", [Credential.make("submit")])
    monkeypatch.setenv("TWISTED_DIST_ACCESS", other.join_string())
    with Client() as client:
        assert client.submit(pow, 2, 10).result(20) == 1024
        assert rpc(client.address).identity()["workers"] > 0


def test_exception_with_half_a_character(client):
    """A message that UTF-8 cannot say, as of a file's odd name, costs nobody a worker."""

    def fail(_):
        raise ValueError("no file \udcff")

    problem = client.submit(fail, 1).exception(20)
    assert isinstance(problem, ValueError)
    assert str(problem) == "no file \udcff"
    assert client.gather(client.map(abs, range(-4, 0))) == [4, 3, 2, 1]


async def nap(seconds, n):
    """A task that waits, and uses nothing meanwhile."""
    await asyncio.sleep(seconds)
    return n


def fire_later(seconds, n):
    """The same, with Twisted."""
    from twisted.internet import reactor, task

    return task.deferLater(reactor, seconds, lambda: n)


@pytest.mark.parametrize("function", [nap, fire_later], ids=["coroutine", "deferred"])
def test_a_thousand_wait_together(client, function):
    """Coroutines and Deferreds of a thousand tasks wait together on two threads."""
    begun = time.monotonic()
    futures = client.map(function, [1.0] * 1000, range(1000))
    assert client.gather(futures) == list(range(1000))
    assert time.monotonic() - begun < 100  # one after another on two threads: 500 s


def speak(n):
    """A task that writes in all the ways there are."""
    print("said", n)
    print("complained", n, file=sys.stderr)
    logging.getLogger("mine").warning("warned %s", n)
    os.write(1, b"raw\n")


def last_words():
    """A task that says something and ends its process."""
    print("farewell")
    os._exit(3)


def logged(client, enough, *args):
    """`Client.logs` once there is enough: the workers tell it a little later."""
    pause = threading.Event()
    for _ in range(400):
        logs = client.logs(*args)
        if enough(logs):
            return logs
        pause.wait(0.05)
    raise AssertionError(f"only {logs}")


def test_logs(client):
    """`Client.logs` has what a task wrote, by task and by worker, and what is no task's."""
    one, two = client.map(speak, [1, 2])
    client.gather([one, two])
    logs = logged(client, lambda logs: len(logs) >= 2, one)
    texts = {each.stream: each.text for each in logs}
    assert texts == {"stdout": "said 1\n", "stderr": "complained 1\nwarned 1\n"}
    assert {each.key for each in logs} == {one.key}
    assert logged(client, lambda logs: len(logs) >= 4, [one, two.key])
    (name,) = {each.worker for each in logs}
    assert logged(client, lambda logs: any(each.text == "raw\n" for each in logs), None, name)


def test_logs_are_for_submitters(client):
    """`rpc`, which a read-only credential may use as well, shows nothing that tasks write."""
    asked = {"after": 0, "keys": None, "worker": None}
    with pytest.raises(RefusedError, match="no such view"):
        rpc(client.address).query(what="logs", arguments=asked)


def test_last_words(client):
    """`Client.logs` has what a task wrote that ended its process just then, each time."""
    future = client.submit(last_words)
    with pytest.raises(TaskKilledError):
        future.result(20)
    logs = logged(client, lambda logs: len(logs) == 3, future)
    assert {each.text for each in logs} == {"farewell\n"}


def test_logs_as_they_come(client):
    """`Client.follow_logs` gives what was written, and then what is."""
    future = client.submit(speak, 3)
    future.result(20)
    following = client.follow_logs(key for key in [future.key, "later"])
    assert next(following).key == future.key
    client.submit(speak, 4, key="later").result(20)
    assert next(each for each in following if each.key == "later").text == "said 4\n"
