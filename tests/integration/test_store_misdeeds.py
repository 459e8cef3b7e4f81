"""What tasks may do to shared memory, kinds of workers, and few descriptors."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from tests.support.daemons import PATIENCE_S
from tests.support.misdeeds import SCHEDULER, until
from tests.support.shared import (
    MIB,
    closes_from_5,
    gives_twice,
    is_right,
    numbers,
    part,
    reads_in_copy,
    spoils,
    total,
    where,
)
from twisted_dist import Client, LocalCluster
from twisted_dist.errors import TaskKilledError

pytestmark = pytest.mark.slow

LARGE = 16 * MIB


@pytest.fixture
def site(start):
    """A function that starts workers *a* and *b* with options, and gives a client."""
    with contextlib.ExitStack() as stack:

        def begin(*options, nthreads=1, wrap=()):
            address = start(*SCHEDULER).address("^Start scheduler at")
            command = ("dworker", address, "--nthreads", str(nthreads), *options)
            for name in "ab":
                start(*command, "--name", name, wrap=wrap)
            client = stack.enter_context(Client(address, PATIENCE_S))
            client.wait_for_workers(2, PATIENCE_S)
            return client

        yield begin


def check(client, *names):
    """Large results are right, between workers *names* and here."""
    for seed, (one, other) in enumerate(zip(names, names[1:] + names[:1])):
        made = client.submit(numbers, seed, LARGE, workers=[one])
        used = client.submit(total, made, workers=[other])
        assert used.result(PATIENCE_S) == int(numbers(seed, LARGE).sum())
        assert is_right(made.result(PATIENCE_S), seed, LARGE)


def test_misdeeds(site, tmp_path):
    """Tasks that close, write to or fork what is shared end themselves at most."""
    client = site("--memory-limit", "1GiB")
    kept = client.submit(numbers, 3, LARGE, workers=["b"])
    assert kept.result(PATIENCE_S)[0] == 3

    # what is closed cannot be read: that ends the process, or has it share nothing more
    closed = client.submit(closes_from_5, workers=["a"])
    problem = closed.exception(PATIENCE_S)
    if problem is None:
        assert is_right(closed.result(PATIENCE_S), 1, MIB)
    else:
        assert isinstance(problem, TaskKilledError)
        assert "has closed" in str(problem)
    check(client, "a", "b")

    # a copy reads its input when it is released, and its memory would be used again
    given = client.submit(numbers, 9, LARGE, workers=["b"])
    client.submit(reads_in_copy, given, 9, tmp_path, workers=["a"]).result(PATIENCE_S)
    del given
    for seed in range(20):
        assert is_right(
            client.submit(numbers, seed, LARGE, workers=["b"]).result(PATIENCE_S), seed, LARGE
        )
        check(client, "b", "a")
    (tmp_path / "go").touch()
    until(lambda: [each.name for each in tmp_path.iterdir() if each.name in ("right", "wrong")])
    assert (tmp_path / "right").exists()

    # both returns of a fork
    for seed in range(1, 6):
        assert is_right(
            client.submit(gives_twice, seed, LARGE, workers=["a"]).result(PATIENCE_S), seed, LARGE
        )

    # what is a process' own it can spoil (docs/security.md), but the size: that would end readers
    spoilt = client.submit(spoils, workers=["a"]).result(PATIENCE_S)
    assert set(spoilt) <= {"kept its size"}
    check(client, "a", "b")
    assert is_right(kept.result(PATIENCE_S), 3, LARGE)
    assert sorted(each["name"] for each in client.scheduler_info()["workers"].values()) == [
        "a",
        "b",
    ]


#: a process keeps a file, a copy of it writes: which files both have, at the same time
COPY = """
import os, threading
from twisted_dist.segments import mapping
from twisted_dist.segments.pool import POOL

def number(segment):
    return os.fstat(segment.file.fd).st_ino

value = POOL.write([b"x" * 100_000])
kept = POOL.write([b"y" * 100_000])
value_in, kept_in = number(value), number(kept)
del kept
reading, writing = os.pipe()
with POOL._lock:  # of another thread, for all that a copy knows
    pid = os.fork()
    if pid == 0:
        del value
        made = [number(POOL.write([b"z" * 100_000])) for _ in range(3)]
        os.write(writing, repr(made).encode())
        os._exit(0)
    theirs = eval(os.read(reading, 1000))
    os.waitpid(pid, 0)
assert not {value_in, kept_in} & set(theirs), theirs
assert number(POOL.write([b"y" * 100_000])) == kept_in
assert value.buffers() == [b"x" * 100_000]
"""


def test_copy_writes():
    """A copy of a process writes to none of the files that it has in common with that."""
    subprocess.run([sys.executable, "-c", COPY], check=True, timeout=PATIENCE_S)


def test_threads_of_the_worker(site):
    """`dworker --no-nanny` shares large values as well."""
    client = site("--no-nanny")
    check(client, "a", "b")
    made = client.submit(numbers, 5, LARGE, workers=["a"])
    (inode, _), again = client.gather(
        [client.submit(where, made, workers=["b"]), client.submit(where, made, workers=["a"])]
    )
    assert inode == again[0] != 0
    there = client.scatter(numbers(6, LARGE), workers=["b"])
    assert is_right(there.result(PATIENCE_S), 6, LARGE)


def test_local_cluster():
    """`LocalCluster` shares large values."""
    with LocalCluster(2) as cluster, Client(cluster.scheduler_address, PATIENCE_S) as client:
        client.wait_for_workers(2, PATIENCE_S)
        check(client, *client.nthreads())


def test_few_descriptors(site):
    """2,000 results of 100 kB are right where 256 descriptors are allowed."""
    few = ("sh", "-c", 'ulimit -Sn 256; ulimit -Hn 256; exec "$@"', "sh")
    client = site(wrap=few, nthreads=2)
    count, size = 2000, 100_000
    futures = client.map(numbers, range(count), [size] * count)
    for seed, each in enumerate(client.gather(futures)):
        assert is_right(each, seed, size)
    assert client.submit(part, futures).result(PATIENCE_S) == [*range(count)]
    large = client.map(numbers, range(150), [1_100_000] * 150)
    assert client.submit(part, large).result(PATIENCE_S) == [*range(150)]
    assert is_right(large[149].result(PATIENCE_S), 149, 1_100_000)
