"""Workers that are told to end: what they hand over, and how soon they are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.daemons import BIN, PATIENCE_S, all_gone
from tests.support.misdeeds import SCHEDULER, note, size, until
from twisted_dist import Client, LocalCluster

pytestmark = pytest.mark.slow

#: seconds that nobody notices; the interpreter's own end takes some of them
AT_ONCE_S = 3.0


def traced(path, number, nbytes=200_000):
    """A large result of a task that leaves a byte."""
    note(path)
    return bytes([number % 251]) * nbytes


def held_back(begun, over):
    """A task that ends when it may."""
    note(begun)
    until(over.exists)
    return os.getpid()


def took(daemon):
    """Seconds until it has ended, with status 0."""
    before = time.monotonic()
    assert daemon.wait() == 0
    return time.monotonic() - before


@pytest.fixture
def scheduler(start):
    """A scheduler's address."""
    return start(*SCHEDULER).address("^Start scheduler at")


def joined(start, scheduler, *options, count=1):
    """A `dworker` that has registered."""
    worker = start("dworker", scheduler, *options)
    for _ in range(count):
        worker.line("^Registered")
    return worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("options", [(), ("--no-nanny",), ("--nprocs", "2")], ids=" ".join)
def test_nothing_is_lost(start, scheduler, tmp_path, options, number):
    """A worker that is told to end ends what it runs and hands over: nothing runs twice."""
    count = 2 if "--nprocs" in options else 1
    worker = joined(start, scheduler, "--nthreads", "2", *options, count=count)
    path, begun, over = tmp_path / "traces", tmp_path / "begun", tmp_path / "over"
    with Client(scheduler) as client:
        futures = client.map(traced, [path] * 20, range(20))
        last = client.submit(held_back, begun, over)
        until(lambda: all(each.status == "finished" for each in futures) and size(begun))
        other = joined(start, scheduler, "--nthreads", "2")
        worker.process.send_signal(number)
        line = worker.line("leaving within")[0]
        assert line
        over.touch()
        assert worker.wait() == 0
        assert last.result(PATIENCE_S)
        assert client.gather(futures) == [bytes([n % 251]) * 200_000 for n in range(20)]
        assert (size(path), size(begun)) == (20, 1)
        assert len(client.nthreads()) == 1
    assert other.process.poll() is None
    (told,) = (each for each in worker.output() if "leaving" in each)
    assert told.startswith("dworker: leaving within 25 s: ")


@pytest.mark.parametrize("options", [(), ("--no-nanny",), ("--nprocs", "2")], ids=" ".join)
def test_nobody_there_to_wait_for(start, scheduler, tmp_path, options):
    """Workers with results that nobody is there to take leave at once, and say nothing."""
    count = 2 if "--nprocs" in options else 1
    worker = joined(start, scheduler, "--nthreads", "1", *options, count=count)
    with Client(scheduler) as client:
        futures = client.map(traced, [tmp_path / "traces"] * 10, range(10))
        until(lambda: all(each.status == "finished" for each in futures))
        worker.process.send_signal(signal.SIGTERM)
        assert took(worker) < AT_ONCE_S
    assert worker.output() == worker.lines
    assert not any("leaving" in line for line in worker.lines)


def test_no_scheduler(start):
    """A worker that has no scheduler, or no longer, leaves at once."""
    scheduler = start(*SCHEDULER)
    address = scheduler.address("^Start scheduler at")
    worker = joined(start, address)
    scheduler.process.kill()
    waiting = start("dworker", "127.0.0.1:9")
    waiting.line("^Start worker at")
    for each in (worker, waiting):
        each.line("lost the scheduler|waiting for")
        each.process.send_signal(signal.SIGTERM)
        assert took(each) < AT_ONCE_S


def test_deadline(start, scheduler, tmp_path):
    """A worker leaves at its deadline though a task runs, which then runs elsewhere."""
    worker = joined(start, scheduler, "--name", "alice", "--drain-timeout", "1s")
    joined(start, scheduler)
    begun, over = tmp_path / "begun", tmp_path / "over"
    with Client(scheduler) as client:
        where = ["alice"]
        future = client.submit(held_back, begun, over, workers=where, allow_other_workers=True)
        until(lambda: size(begun) == 1)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
        until(lambda: size(begun) == 2)
        over.touch()
        assert future.result(PATIENCE_S)


def test_no_drain(start, scheduler, tmp_path):
    """With `--drain-timeout 0` a worker ends at once, whatever it runs."""
    worker = joined(start, scheduler, "--drain-timeout", "0")
    begun, over = tmp_path / "begun", tmp_path / "over"
    with Client(scheduler) as client:
        future = client.submit(held_back, begun, over)
        until(lambda: size(begun) == 1)
        worker.process.send_signal(signal.SIGTERM)
        assert took(worker) < AT_ONCE_S + 2.0  # which its child has to end
        future.cancel()
    over.touch()


@pytest.mark.parametrize("twice", [False, True], ids=["once more", "both at a time"])
def test_second_signal(start, scheduler, tmp_path, twice):
    """A second signal ends a worker at once, with status 1; two at a time are one."""
    worker = joined(start, scheduler, "--nthreads", "1")
    family = worker.family()
    begun, over = tmp_path / "begun", tmp_path / "over"
    with Client(scheduler) as client:
        future = client.submit(held_back, begun, over)
        until(lambda: size(begun) == 1)
        for _ in range(1 + twice):
            worker.process.send_signal(signal.SIGINT)
        worker.line("leaving within 25 s: 1 tasks may end")
        if twice:
            over.touch()
            assert worker.wait() == 0
        else:
            worker.process.send_signal(signal.SIGINT)
            before = time.monotonic()
            assert worker.wait() == 1
            assert time.monotonic() - before < AT_ONCE_S
            over.touch()
        assert all_gone(family)
        future.cancel()


def test_everybody_at_once(tmp_path):
    """A scheduler and workers of one shell, all told by Ctrl-C: nobody waits for anybody."""
    out, begun = tmp_path / "out", tmp_path / "begun"
    code = (
        f"{BIN}/dscheduler --host 127.0.0.1 --port 0 > {out} & "
        f"until grep -q Start {out}; do sleep 0.1; done; "
        f"address=$(head -1 {out} | cut -d' ' -f4); "
        f"{BIN}/dworker $address --nprocs 2 --nthreads 1 & {BIN}/dworker $address --nthreads 1 & "
        "wait; wait"
    )
    # what runs in the background of a shell begins with SIGINT ignored; the daemons hear it
    shell = subprocess.Popen(
        ["bash", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for _ in range(3):
            while not shell.stdout.readline().startswith("Registered"):
                assert shell.poll() is None
        address = out.read_text(encoding="utf-8").splitlines()[0].split()[-1]
        with Client(address) as client:
            futures = client.map(traced, [tmp_path / "traces"] * 30, range(30))
            until(lambda: all(each.status == "finished" for each in futures))
            forever = client.submit(held_back, begun, tmp_path / "never")
            until(lambda: size(begun))
            family = psutil.Process(shell.pid).children(recursive=True)
            # not the shell, which a test cannot give a terminal
            group = [each for each in family if os.getpgid(each.pid) == shell.pid]
            before = time.monotonic()
            for each in group:  # at once: who was told first may have ended, and its child too
                each.send_signal(signal.SIGINT)
            assert all_gone(family)
            assert time.monotonic() - before < AT_ONCE_S + 2.0
            forever.cancel()
    finally:
        for each in psutil.Process(shell.pid).children(recursive=True):
            each.kill()
        shell.kill()
        shell.wait(PATIENCE_S)
        shell.stdout.close()


LOCAL = """
import signal, time
from twisted_dist import Client, LocalCluster
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this began with
with LocalCluster(2) as cluster, Client(cluster.scheduler_address) as client:
    futures = client.map(lambda n: bytes(200_000) + bytes([n]), range(20))
    client.gather(futures)
    forever = client.submit(signal.pause)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_local_cluster_by_ctrl_c():
    """Ctrl-C for a program with a `LocalCluster` and for its daemons: it is over at once."""
    program = subprocess.Popen(
        [sys.executable, "-c", LOCAL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while program.stdout.readline() != "ready\n":
        assert program.poll() is None
    family = psutil.Process(program.pid).children(recursive=True)
    before = time.monotonic()
    os.killpg(program.pid, signal.SIGINT)
    try:
        assert program.wait(PATIENCE_S) != 0
        assert all_gone(family)
        assert time.monotonic() - before < AT_ONCE_S + 2.0
    finally:
        program.kill()
        program.wait(PATIENCE_S)
        program.stdout.close()


def test_local_cluster_closes_at_once(tmp_path):
    """`LocalCluster.close` waits for no task and no copy."""
    with LocalCluster(2) as cluster, Client(cluster.scheduler_address) as client:
        futures = client.map(bytes, range(200_000, 200_020))
        client.gather(futures)
        forever = client.submit(held_back, tmp_path / "begun", tmp_path / "never")
        until(lambda: size(tmp_path / "begun"))
        before = time.monotonic()
        cluster.close()
        assert forever.status == "lost"
        assert time.monotonic() - before < AT_ONCE_S + 2.0
