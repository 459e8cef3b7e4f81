"""Workers that leave gracefully, as real processes: nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest

from tests.support.daemons import BIN, PATIENCE_S
from tests.support.misdeeds import SCHEDULER, note, size, until
from twisted_dist import Client
from twisted_dist.errors import RefusedError, UsageProblem

pytestmark = pytest.mark.slow


def traced(path, number, nbytes=200_000):
    """A large result of a task that leaves a byte."""
    note(path)
    return bytes([number % 251]) * nbytes


def traced_moment(path, number):
    """50 ms, and a byte."""
    note(path)
    time.sleep(0.05)
    return number, os.getpid()


def held_back(begun, over):
    """A task that ends when it may."""
    note(begun)
    until(over.exists)
    return os.getpid()


@pytest.fixture
def network(start):
    """A scheduler's address, and workers by name."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    workers = {}
    for name in ("alice", "bob"):
        workers[name] = start("dworker", scheduler, "--nthreads", "2", "--name", name)
        workers[name].line("^Registered")
    return scheduler, workers


def test_results_go_to_others(network, tmp_path):
    """`Client.retire_workers` loses no result and runs nothing again; its process ends with 0."""
    scheduler, workers = network
    path = tmp_path / "traces"
    with Client(scheduler) as client:
        futures = client.map(traced, [path] * 40, range(40), workers=["alice", "bob"])
        until(lambda: all(each.status == "finished" for each in futures))
        held = client.has_what()
        assert all(len(keys) for keys in held.values()), held
        alice = next(
            address
            for address, about in client.scheduler_info()["workers"].items()
            if about["name"] == "alice"
        )
        assert client.retire_workers("alice") == {alice: "alice"}
        assert alice not in client.nthreads()
        (keys,) = client.has_what().values()
        assert sorted(keys) == sorted(each.key for each in futures)
        assert client.gather(futures) == [bytes([n % 251]) * 200_000 for n in range(40)]
        assert workers["alice"].wait() == 0
        assert size(path) == 40
        with pytest.raises(RefusedError, match="no worker here is, or is at, 'alice'"):
            client.retire_workers(workers=["alice", "bob"])
        with pytest.raises(UsageProblem, match="which workers are to retire"):
            client.retire_workers()


def test_lifetime(network, start, tmp_path):
    """`dworker --lifetime` leaves by itself while tasks run: none is lost, none runs twice."""
    scheduler, _ = network
    path = tmp_path / "traces"
    worker = start("dworker", scheduler, "--nthreads", "2", "--lifetime", "2s")
    worker.line("^Registered")
    with Client(scheduler) as client:
        futures = []

        def has_ended():
            """Whether the worker has; some more tasks if not."""
            more = client.map(traced_moment, [path] * 40, range(len(futures), len(futures) + 40))
            futures.extend(more)
            until(lambda: sum(each.status == "pending" for each in futures) < 20)
            return worker.process.poll() is not None

        until(has_ended)
        assert worker.wait() == 0
        numbers, pids = zip(*client.gather(futures))
        assert numbers == tuple(range(len(futures)))
        assert len(set(pids)) == 3
        assert size(path) == len(futures)
        assert len(client.nthreads()) == 2


def test_lifetime_restart(start):
    """`dworker --lifetime-restart` begins anew: the same name, a fresh process and a new turn."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    command = ("--nthreads", "1", "--name", "phoenix", "--lifetime", "1s", "--lifetime-restart")
    worker = start("dworker", scheduler, *command)
    worker.line("^Registered")
    with Client(scheduler) as client:
        pids = set()

        def third_life():
            pids.add(client.submit(os.getpid, workers=["phoenix"]).result(PATIENCE_S))
            return len(pids) == 3

        until(third_life)
        names = {about["name"] for about in client.scheduler_info()["workers"].values()}
        assert names <= {"phoenix"}
    worker.process.terminate()
    assert worker.wait() == 0
    assert sum(line.startswith("Registered") for line in worker.output()) >= 3


def test_deadline(network, tmp_path):
    """`Client.retire_workers` ends a worker at its deadline, and what it ran runs elsewhere."""
    scheduler, workers = network
    begun, over = tmp_path / "begun", tmp_path / "over"
    with Client(scheduler) as client:
        where = ["alice"]
        future = client.submit(held_back, begun, over, workers=where, allow_other_workers=True)
        until(lambda: size(begun) == 1)
        (address,) = client.retire_workers("alice", timeout=0.5)
        assert address not in client.nthreads()
        assert workers["alice"].wait() == 0
        until(lambda: size(begun) == 2)
        over.touch()
        assert future.result(PATIENCE_S) != 0


def test_what_runs_goes_on(network, tmp_path):
    """A worker that retires says so, ends what it runs and takes nothing new meanwhile."""
    scheduler, workers = network
    begun, over = tmp_path / "begun", tmp_path / "over"
    with Client(scheduler) as client:
        future = client.submit(held_back, begun, over, workers=["alice"])
        pinned = client.submit(os.getpid, workers=["alice"], wait_for_worker=True)
        pinned.result(PATIENCE_S)
        until(lambda: size(begun) == 1)
        left = []
        asking = threading.Thread(target=lambda: left.append(client.retire_workers("alice")))
        asking.start()

        def statuses():
            workers = client.scheduler_info()["workers"].values()
            return {about["name"]: about["status"] for about in workers}

        until(lambda: statuses() == {"alice": "retiring", "bob": "running"})
        pids = {each.result(PATIENCE_S) for each in [client.submit(os.getpid) for _ in range(20)]}
        assert len(pids) == 1
        assert not left
        waiting = client.submit(os.getpid, workers=["alice"])
        assert "only workers that retire could give that" in waiting.explain()["why"]
        over.touch()
        assert future.result(PATIENCE_S) not in pids
        asking.join(PATIENCE_S)
        assert list(left[0].values()) == ["alice"]
        assert workers["alice"].wait() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lifetime", "soon"), "'soon' is no duration: 3600, 90s, 15m, 12h or 1 day"),
        (("--lifetime", "-3"), "'-3' is no duration"),
        (("--lifetime-stagger", "5m"), "a lifetime stagger needs a lifetime"),
        (("--lifetime-restart",), "a lifetime restart needs a lifetime"),
        (("--lifetime", "1m", "--lifetime-stagger", "1h"), "is longer than the lifetime"),
        (("--lifetime", "1h", "--lifetime-restart", "--no-nanny"), "is the nanny's"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_option(options, words):
    """`dworker` ends with status 2 and one line where a lifetime cannot be meant."""
    command = [str(BIN / "dworker"), "127.0.0.1:9", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dworker: ")
    assert words in line
