"""Where memory is short: values go to disk, tasks wait, and what has no room fails by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest

from tests.support.daemons import PATIENCE_S, all_gone
from tests.support.misdeeds import SCHEDULER, begun, until
from tests.support.shared import (
    MIB,
    Sampler,
    holds,
    is_right,
    leaks,
    numbers,
    small,
    total,
)
from twisted_dist import Client, rpc
from twisted_dist.errors import NoRoomError

pytestmark = pytest.mark.slow

LIMIT = 256 * MIB
SIZE = 16 * MIB


@pytest.fixture
def site(start):
    """A function that starts a worker with options; gives a client and the worker."""
    with contextlib.ExitStack() as stack:

        def begin(*options, nthreads=2):
            address = start(*SCHEDULER).address("^Start scheduler at")
            given = ("--memory-limit", "256MiB", "--nthreads", str(nthreads), *options)
            worker = start("dworker", address, *given)
            client = stack.enter_context(Client(address, PATIENCE_S))
            client.wait_for_workers(1, PATIENCE_S)
            return client, worker

        yield begin


def seen(client, what):
    """What the worker's last heartbeat says."""
    (worker,) = client.scheduler_info()["workers"].values()
    return worker["metrics"].get(what, 0)


def test_spilling(site, tmp_path):
    """A worker holds four times its limit, right twice, within its limit and out of sight."""
    client, worker = site("--local-directory", str(tmp_path))
    count = 4 * LIMIT // SIZE
    with Sampler(worker) as sampler:
        futures = client.map(numbers, range(count), [SIZE] * count)
        for seed, each in enumerate(futures):
            assert is_right(each.result(PATIENCE_S), seed, SIZE)
            each._record.value = None  # so that it is fetched again
            assert list(tmp_path.iterdir()) == []
        sums = client.gather(client.map(total, futures))
        assert sums == [int(numbers(seed, SIZE).sum()) for seed in range(count)]
        until(lambda: seen(client, "disk") > 2 * LIMIT)
    assert sampler.seen > 20
    assert sampler.most < LIMIT
    assert list(tmp_path.iterdir()) == []
    del futures, each
    (address,) = client.nthreads()
    until(lambda: rpc(address).identity()["held"] == 0)
    family = worker.family()
    worker.process.terminate()
    assert worker.wait() == 0
    assert all_gone(family)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of 32 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk needs root")
    words = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(tmp_path)]
    if subprocess.run(words, check=False, timeout=PATIENCE_S).returncode:
        pytest.skip("nothing may be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True, timeout=PATIENCE_S)


def test_full_disk(site, small_disk):
    """Where memory and disk are full, large results fail and say so; all else goes on."""
    client, worker = site("--local-directory", str(small_disk))
    count = 2 * LIMIT // SIZE
    futures = client.map(numbers, range(count), [SIZE] * count)
    failed = 0
    for seed, each in enumerate(futures):
        if each.exception(PATIENCE_S) is None:
            assert is_right(each.result(PATIENCE_S), seed, SIZE)
            continue
        failed += 1
        assert isinstance(each.exception(), NoRoomError)
        text = str(each.exception())
        assert "16 MiB" in text
        assert "256 MiB" in text
        assert str(small_disk) in text
    assert 0 < failed < count
    assert client.gather(client.map(small, range(100))) == [*range(100)]
    assert len(client.nthreads()) == 1
    assert not any("Registered" in each for each in worker.lines[3:])
    del futures, each
    (address,) = client.nthreads()
    until(lambda: rpc(address).identity()["held"] == 0)
    for seed in range(4):
        assert is_right(client.submit(numbers, seed, SIZE).result(PATIENCE_S), seed, SIZE)


def test_pausing(site, tmp_path):
    """Above 80% no further task begins beside one that is there, until memory is free again."""
    client, worker = site("--local-directory", str(tmp_path), nthreads=4)
    (address,) = client.nthreads()
    held = client.submit(holds, tmp_path / "first", 200 * MIB)
    until(lambda: begun(tmp_path / "first"))
    worker.line("little memory left: tasks wait")
    others = client.map(holds, [tmp_path / "other"] * 3, [0] * 3)
    until(lambda: rpc(address).identity()["tasks"] == 4)
    assert begun(tmp_path / "other") == 0
    (tmp_path / "over").touch()
    assert held.result(PATIENCE_S) == 0
    assert client.gather(others) == [0] * 3


def test_leak(site):
    """A process that has leaked is replaced between two tasks, and none is blamed for it."""
    client, _ = site(nthreads=1)
    futures = [client.submit(leaks, 40 * MIB, 0.25) for _ in range(10)]
    pids = client.gather(futures)
    assert 1 < len(set(pids)) < 6
    assert {each.explain()["killed"] for each in futures} == {0}
