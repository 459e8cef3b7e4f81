"""What a nanny does for `dworker`'s options, and when its child cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter

import psutil
import pytest

from tests.support.daemons import BIN, PATIENCE_S
from tests.support.misdeeds import SCHEDULER, forks, moment, size, tally, until
from twisted_dist import Client

pytestmark = pytest.mark.slow


def test_forks_among_tasks(start, tmp_path):
    """Copies that tasks fork end and run no other task, whatever other threads are doing."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    start("dworker", scheduler, "--nthreads", "2").line("^Registered")
    traces, forked, tallied = tmp_path / "traces", [], []
    with Client(scheduler) as client:
        for number in range(400):
            forked.append(client.submit(forks, number))
            tallied += client.map(tally, [traces] * 20, range(20))
        assert [each.result(3) for each in forked] == [("parent", each) for each in range(400)]
        assert [each.result(3) for each in tallied] == [*range(20)] * 400
    assert size(traces) == len(tallied)


def slow_tasks(client):
    """200 tasks of a moment."""
    return client.map(moment, range(200))


def quick_tasks(client):
    """200 tasks of no time at all."""
    return [client.submit(os.getpid) for _ in range(200)]


@pytest.mark.parametrize(
    "tasks",
    [
        slow_tasks,
        quick_tasks,
    ],
)
def test_recycle_after(start, tasks):
    """`dworker --recycle-after` runs tasks in several processes, one after the other."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    worker = start("dworker", scheduler, "--nthreads", "2", "--recycle-after", "20")
    worker.line("^Registered")
    with Client(scheduler) as client:
        futures = tasks(client)
        ran = Counter(each.result(PATIENCE_S) for each in futures)
        assert sum(ran.values()) == 200
        assert worker.process.pid not in ran
        assert {each.explain()["killed"] for each in futures} == {0}
        nanny = psutil.Process(worker.process.pid)
        until(lambda: len(nanny.children(recursive=True)) == 1)
        assert len(client.nthreads()) == 1
    worker.process.terminate()
    assert worker.wait() == 0
    assert worker.output() == worker.lines[:2]
    assert max(ran.values()) <= 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory-limit", "nonsense"), "'nonsense' is no amount of memory"),
        (("--memory-limit", "1"), "'1' is less than a process needs"),
        (("--no-nanny", "--memory-limit", "1GiB"), "--memory-limit is the nanny's"),
        (("--no-nanny", "--recycle-after", "5"), "--recycle-after is the nanny's"),
        (("--recycle-after", "0"), "'0' is not a count"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_option(options, words):
    """`dworker` ends with status 2 and one line where an option cannot be meant."""
    command = [str(BIN / "dworker"), "127.0.0.1:9", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dworker: ")
    assert words in line


@pytest.fixture
def spoilt(tmp_path):
    """A directory to import from, where children cannot start while ``spoilt`` is there."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'twisted_dist.execution' in sys.orig_argv:\n"
        f"    os.path.exists({str(tmp_path / 'spoilt')!r}) and os._exit(3)\n",
        encoding="utf-8",
    )
    return tmp_path


GIVES_UP = r"processes in a row did not start; the last: process \d+ on .* exited with status 3"


def test_child_never_starts(start, spoilt):
    """`dworker` whose child cannot start says so, and ends with a status of its own."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    (spoilt / "spoilt").touch()
    worker = start("dworker", scheduler, env={"PYTHONPATH": str(spoilt)})
    worker.line(f"^dworker: cannot start: .*{GIVES_UP}")
    assert worker.wait() not in (0, None)
    assert not any("Traceback" in line for line in worker.output())


def test_child_starts_no_more(start, spoilt):
    """`dworker` leaves when its child cannot start any more, and its tasks go elsewhere."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    worker = start("dworker", scheduler, "--nthreads", "1", env={"PYTHONPATH": str(spoilt)})
    worker.line("^Registered")
    with Client(scheduler) as client:
        child = client.submit(os.getpid).result(PATIENCE_S)
        (spoilt / "spoilt").touch()
        os.kill(child, signal.SIGKILL)
        future = client.submit(os.getppid)
        worker.line(f"^dworker: a worker leaves: .*{GIVES_UP}")
        assert worker.wait() not in (0, None)
        until(lambda: not client.nthreads())
        other = start("dworker", scheduler, "--nthreads", "1")
        assert future.result(PATIENCE_S) == other.process.pid
