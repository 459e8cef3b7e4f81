"""`Client.run` on real workers: however busy they are, and whatever becomes of them."""

import asyncio
import os
import signal
import threading
import time

import psutil
import pytest
from twisted.internet import defer

from tests.support.daemons import PATIENCE_S
from tests.support.misdeeds import until
from twisted_dist import AsyncClient, Client, ReactorThread
from twisted_dist.access.access import Access
from twisted_dist.errors import (
    AccessError,
    RemoteTraceback,
    TaskKilledError,
    WorkerLostError,
)

from .test_access import daccess

pytestmark = pytest.mark.slow

SCHEDULER = ("dscheduler", "--host", "127.0.0.1", "--port", "0")
both = pytest.mark.parametrize("options", [(), ("--no-nanny",)], ids=["nanny", "worker"])


class Network:
    """A scheduler and workers of one thread, with names."""

    def __init__(self, start):
        self._start = start
        self.address = start(*SCHEDULER).address("^Start scheduler at")
        self.workers = []

    def worker(self, name, *options):
        """One more."""
        command = ("dworker", self.address, "--nthreads", "1", "--name", name, *options)
        self.workers.append(self._start(*command))
        self.workers[-1].line("^Registered with center at:")
        return self.workers[-1]


@pytest.fixture
def network(start):
    """A scheduler, and no worker yet."""
    return Network(start)


# -- what is called


def where():
    """In which process and thread."""
    return os.getpid(), threading.current_thread().name


def spin(path):
    """Keep a thread busy until a file is there, whichever attempt this is."""
    open(path, "w").close()
    while not os.path.exists(f"{path}-stop"):
        pass
    return "spun"


def wait_for(path):
    """Say that it began, and wait until somebody removes what says so."""
    open(f"{path}-{os.getpid()}", "w").close()
    while os.path.exists(f"{path}-{os.getpid()}"):
        time.sleep(0.01)
    return "done"


def large(size):
    """A result that does not ride along."""
    return os.urandom(size)


async def later(value):
    """A coroutine."""
    await asyncio.sleep(0.01)
    return value


def fires(value):
    """A Deferred."""
    return defer.succeed(value)


def oops(word):
    """An exception, after some words."""
    print("about to fail")
    raise KeyError(word)


def fork():
    """Leave a copy of the process that returns as well."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return pid > 0


def die(code):
    """End the process."""
    os._exit(code)


@both
def test_busy_workers(network, tmp_path, options):
    """`Client.run` is at once, in the tasks' process, where every thread is busy."""
    workers = [network.worker(name, *options) for name in "ab"]
    with Client(network.address) as client:
        tasks = [client.submit(spin, str(tmp_path / name), workers=name) for name in "ab"]
        more = client.map(abs, range(100))
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        began = time.monotonic()
        got = client.run(where)
        assert time.monotonic() - began < 5
        assert list(got) == list(client.nthreads())
        pids = [{each.pid for each in worker.family()} for worker in workers]
        for worker, known, (pid, thread) in zip(workers, pids, got.values()):
            assert pid in known
            assert (pid == worker.process.pid) is bool(options)
            assert thread.startswith("errand-")
        assert list(client.run(pow, 2, 3, workers=["b"]).values()) == [8]
        assert not any(each.done() for each in tasks)
        for name in "ab":
            (tmp_path / f"{name}-stop").touch()
        assert client.gather(tasks) == ["spun", "spun"]
        assert client.gather(more) == list(range(100))


@both
def test_all_kinds_of_results(network, options):
    """Large results, coroutines, Deferreds and exceptions come as they are; copies end."""
    for name in "ab":
        network.worker(name, *options)
    with Client(network.address) as client:
        blobs = list(client.run(large, 200_000).values())
        assert [len(each) for each in blobs] == [200_000] * 2
        assert blobs[0] != blobs[1]
        assert [len(each) for each in client.run(large, 5_000_000).values()] == [5_000_000] * 2
        assert set(client.run(later, 5).values()) == {5}
        assert set(client.run(fires, 6).values()) == {6}
        assert set(client.run(lambda x, y: x - y, 7, y=2).values()) == {5}
        with pytest.raises(KeyError, match="word") as caught:
            client.run(oops, "word")
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in oops" in str(caught.value.__cause__)
        got = client.run(oops, "word", on_error="return")
        assert [type(each) for each in got.values()] == [KeyError] * 2
        if not options:
            assert set(client.run(fork).values()) == {True}
            said = until(lambda: [each for each in client.logs("run-oops") if each.text.strip()])
            assert {(each.worker, each.text) for each in said} <= {
                (name, "about to fail\n" * n) for name in "ab" for n in (1, 2)
            }
        until(lambda: client.nbytes() == {})  # what was fetched is let go


def test_a_worker_is_killed(network, tmp_path):
    """`Client.run` names a worker that was killed meanwhile, soon; the other's result is there."""
    doomed = network.worker("a")
    network.worker("b")
    with Client(network.address) as client:
        got = {}

        def run():
            got.update(client.run(wait_for, str(tmp_path / "x"), on_error="return"))

        running = threading.Thread(target=run)
        running.start()
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        for each in doomed.family():
            each.kill()
        for each in tmp_path.iterdir():
            each.unlink()
        running.join(PATIENCE_S)
        assert not running.is_alive()
        a, b = got.values()
        assert type(a) is WorkerLostError
        assert "run-wait_for: worker a (127.0.0.1:" in str(a)
        assert b == "done"


def test_a_process_is_killed(network, tmp_path):
    """Of what a killed process was doing, the errand is lost with its words; the task is not."""
    network.worker("a")
    with Client(network.address) as client:
        task = client.submit(spin, str(tmp_path / "task"))
        until((tmp_path / "task").exists)
        for _ in range(5):  # more than a task may kill
            (address,) = client.nthreads()
            with pytest.raises(TaskKilledError, match=rf"run-die on worker a \({address}\): .*st"):
                client.run(die, 7)
        (pid, _) = client.run(where)[address]
        got = []
        path = str(tmp_path / "errand")
        running = threading.Thread(
            target=lambda: got.append(client.run(wait_for, path, on_error="return"))
        )
        running.start()
        until((tmp_path / f"errand-{pid}").exists)
        psutil.Process(pid).send_signal(signal.SIGKILL)
        running.join(PATIENCE_S)
        (problem,) = got[0].values()
        assert type(problem) is TaskKilledError
        assert "was killed by SIGKILL" in str(problem)
        (tmp_path / "task-stop").touch()
        assert task.result(PATIENCE_S) == "spun"


def test_a_time_limit(network, tmp_path):
    """What takes longer than ``timeout=`` is stopped, and has failed with TimeoutError."""
    network.worker("a")
    with Client(network.address) as client:
        path = str(tmp_path / "x")
        got = client.run(wait_for, path, timeout=0.5, on_error="return")
        assert [type(each) for each in got.values()] == [TimeoutError]

        def threads():
            (names,) = client.run(lambda: [t.name for t in threading.enumerate()]).values()
            return sum(name.startswith("errand-") for name in names)

        until(lambda: threads() == 1)  # itself


def test_a_worker_that_ends(network, tmp_path):
    """`Client.run` on a worker without a nanny that is ended says so."""
    worker = network.worker("a", "--no-nanny")
    with Client(network.address) as client:
        got = []
        path = str(tmp_path / "x")
        running = threading.Thread(
            target=lambda: got.append(client.run(wait_for, path, on_error="return"))
        )
        running.start()
        until(lambda: list(tmp_path.iterdir()))
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
        running.join(PATIENCE_S)
        assert [type(each) for each in got[0].values()] == [WorkerLostError]


def test_roles(network):
    """Who may submit may run; workers and who may only look may not."""
    network.worker("a")

    def client_of(role):
        return Client(network.address, access=Access.load(daccess("make", role, network.address)))

    with client_of("submit") as client:
        assert list(client.run(pow, 2, 3).values()) == [8]
    for role in ("worker", "read-only"):
        with pytest.raises(AccessError, match=r"admin or submit|daccess make"):
            client_of(role)


def test_in_a_reactor(network):
    """`AsyncClient.run` and `nbytes` give Deferreds."""
    network.worker("a")
    with ReactorThread() as thread:

        async def go():
            client = AsyncClient(network.address, reactor=thread.reactor)
            await client.start()
            got = await client.run(large, 200_000)
            try:
                await client.run(oops, "word")
            except KeyError:
                return [len(each) for each in got.values()], await client.nbytes([])
            finally:
                await client.close()

        assert thread.call(go) == ([200_000], {})
