"""User code that misbehaves cannot hurt the network, nor what runs beside it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from concurrent.futures import CancelledError

import psutil
import pytest

from tests.support import misdeeds as tasks
from tests.support.daemons import PATIENCE_S, is_gone, starting
from tests.support.misdeeds import FLOOD_BYTES, NAME, SLACK_S, Network, begun, size, until
from twisted_dist.errors import TaskKilledError

pytestmark = pytest.mark.slow

#: how often the scheduler tries a task that kills its process
TRIES = 3
#: seconds that no heartbeat may be missed for; there is one each 5
SILENCE_S = 20.0


@pytest.fixture(scope="module")
def shared_memory():
    """What was in ``/dev/shm`` in the beginning."""
    return set(os.listdir("/dev/shm"))


@pytest.fixture(scope="module")
def started(home, shared_memory, tmp_path_factory):
    """A network for all tests of this module."""
    with starting() as start:
        network = Network(start, tmp_path_factory.mktemp("worker"))
        with contextlib.closing(network):
            yield network


@pytest.fixture
def network(started):
    """The network, which is the same afterwards."""
    yield started
    started.check()


# -- misdeeds that end the process


DEATHS = {
    tasks.segfault: (
        "was killed by SIGSEGV",
        "Fatal Python error: Segmentation fault",
        " in segfault",
    ),
    tasks.aborts: ("was killed by SIGABRT", "Fatal Python error: Aborted", " in aborts"),
    tasks.exits: ("exited with status 7",),
}


@pytest.mark.parametrize("misdeed", DEATHS)
def test_death(network, tmp_path, misdeed):
    """`Nanny` blames who ended the process, says how, and runs the neighbour again."""
    with network.beside(tmp_path, times=TRIES + 1):
        future = network.client.submit(misdeed, tmp_path)
        with pytest.raises(TaskKilledError) as caught:
            future.result(PATIENCE_S)
    text = str(caught.value)
    first = text.partition("\n")[0]
    assert first.startswith(f"{misdeed.__name__}-")
    assert f", attempt {TRIES}, on worker {NAME} ({network.address}): process " in first
    assert f" on {socket.gethostname()} " in first
    for words in DEATHS[misdeed]:
        assert words in text
    assert begun(tmp_path / "culprit") == future.explain()["killed"] == TRIES


@pytest.mark.parametrize(
    ("misdeed", "words"),
    [
        (tasks.kills, r"was killed by SIGKILL"),
        (tasks.eats, r"was killed by SIGKILL: it used \d+ MiB, and --memory-limit is 300 MiB$"),
        (tasks.closes, r"had to end, as a task has closed its connection to the nanny"),
    ],
)
def test_death_without_trace(network, misdeed, words):
    """`Nanny` says what it can of a death whose culprit is known as the only task."""
    with network.others():
        future = network.client.submit(misdeed)
        with pytest.raises(TaskKilledError, match=f"^{misdeed.__name__}-.*{words}"):
            future.result(PATIENCE_S)
    assert future.explain()["killed"] == TRIES


@pytest.mark.parametrize(
    ("misdeed", "words"),
    [
        (tasks.eats_beside, "--memory-limit is 300 MiB"),
        (tasks.closes_beside, "a task has closed its connection to the nanny"),
    ],
)
def test_death_of_which_nobody_knows_whose(network, tmp_path, misdeed, words):
    """`Nanny` runs each suspect alone, so that only the one is blamed that does it again."""
    neighbour = network.client.submit(tasks.breathes, tmp_path)
    with network.others():
        culprit = network.client.submit(misdeed, tmp_path)
        with pytest.raises(TaskKilledError, match=words):
            culprit.result(PATIENCE_S)
    assert neighbour.result(PATIENCE_S) == "alive"
    assert neighbour.explain()["killed"] == 0
    assert culprit.explain()["killed"] == TRIES
    assert begun(tmp_path / "culprit") == TRIES + 1


# -- processes that tasks start


def test_fork(network, tmp_path):
    """A copy that a task forks gives no answer, though it returns as well."""
    with network.beside(tmp_path, times=1):
        assert network.client.submit(tasks.forks, 5).result(PATIENCE_S) == ("parent", 5)


@pytest.mark.parametrize("leaves", [tasks.leaves_program, tasks.leaves_fork])
def test_left_process(network, leaves):
    """What a task has started ends with its process, at the latest."""
    left = psutil.Process(network.client.submit(leaves).result(PATIENCE_S))
    assert not is_gone(left)
    with network.others(), pytest.raises(TaskKilledError):
        network.client.submit(tasks.just_exits).result(PATIENCE_S)
    until(lambda: is_gone(left))


# -- much output


def test_flood(network, tmp_path):
    """50 MB on each of standard output and error hold up nobody, and stay in no memory."""
    before = network.nanny.memory_info().rss
    with network.beside(tmp_path, times=1):
        assert network.client.submit(tasks.floods, tmp_path).result(PATIENCE_S) == "flooded"
    assert network.nanny.memory_info().rss - before < FLOOD_BYTES / 2


# -- tasks that do not end


#: {task: (its process is ended as well, what is said)}
ENDLESS = {
    tasks.spins: (False, "it was at\n", " in spins"),
    tasks.insists: (
        True,
        "it was at\n",
        " in insists",
        "was killed by SIGKILL: a task did not end",
    ),
    tasks.sleeps: (True, "it was at\n", " in sleeps", "was killed by SIGKILL: a task did not end"),
    tasks.backtracks: (True, "was killed by SIGKILL: a task did not end"),
}


@pytest.mark.parametrize("task", ENDLESS)
def test_time_limit(network, tmp_path, task):
    """``timeout=`` ends a task, by an exception or with its process, and says where it was."""
    dies, *words = ENDLESS[task]
    with network.beside(tmp_path, times=1 + dies):
        asked = time.monotonic()
        future = network.client.submit(task, tmp_path, timeout=0.5)
        with pytest.raises(TimeoutError) as caught:
            future.result(PATIENCE_S)
        took = time.monotonic() - asked
    text = str(caught.value)
    assert text.startswith(f"{task.__name__}-")
    for each in ("not done within timeout=0.5 s", *words):
        assert each in text
    assert 0.5 <= took < (2.5 if dies else 0.5) + SLACK_S
    assert begun(tmp_path / "culprit") == 1


@pytest.mark.parametrize("task", [tasks.spins, tasks.insists])
def test_cancel(network, tmp_path, task):
    """`Client.cancel` ends a task that runs, by an exception or with its process."""
    dies = ENDLESS[task][0]
    growing = tmp_path / "growing"
    with network.beside(tmp_path, times=1 + dies):
        future = network.client.submit(task, tmp_path)
        until(lambda: size(growing))
        network.client.cancel([future])
        asked = time.monotonic()
        with pytest.raises(CancelledError):
            future.result(PATIENCE_S)
        assert future.cancelled()
        known, seen = size(growing), asked
        while time.monotonic() - seen < 0.5:  # a hundred times what it takes to grow
            if size(growing) > known:
                known, seen = size(growing), time.monotonic()
            assert seen - asked < (2 if dies else 0) + SLACK_S, "it still grows"
            time.sleep(0.01)


# -- what is left of all that


def test_nothing_is_left(network, shared_memory):
    """After all misdeeds of this module the worker is what it was in the beginning."""
    child = network.child_pid()
    until(lambda: [p.pid for p in network.nanny.children(recursive=True)] == [child])
    until(lambda: abs(network.nanny.num_fds() - network.num_fds) <= 2)
    until(lambda: set(os.listdir("/dev/shm")) <= shared_memory)
    assert network.client.gather(network.client.map(abs, range(-1000, 0))) == [*range(1000, 0, -1)]
    assert network.watch.slowest_s < SLACK_S
    assert network.watch.silence_s < SILENCE_S
