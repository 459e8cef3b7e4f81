"""Tasks that misbehave, and a network that is to bear it.

A misdeed, its *culprit*, runs on a worker of two threads. In the other thread runs a
*neighbour* that ends only after the culprit has, and behind both wait ordinary tasks. They
meet by directories: each attempt of either makes one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time

import psutil

from tests.support.daemons import PATIENCE_S
from twisted_dist import Client, rpc

NAME = "under-test"
#: ordinary tasks beside a misdeed
OTHERS = 300
#: seconds beyond what should pass that may pass on a slow machine
SLACK_S = 10.0
FLOOD_BYTES = 50_000_000
SCHEDULER = ("dscheduler", "--host", "127.0.0.1", "--port", "0")


def until(condition, patience_s=PATIENCE_S):
    """Poll *condition* until it holds; what it gave then."""
    deadline = time.monotonic() + patience_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)
    return result


def size(path):
    """Bytes of a file, 0 while there is none."""
    return path.stat().st_size if path.exists() else 0


def note(path):
    """Append a byte; how many there are now."""
    with path.open("ab") as file:
        file.write(b"x")
        return file.tell()


def begin(path):
    """Note an attempt, without a file that the culprit could close; how many there were."""
    count = 1
    while True:
        try:
            os.mkdir(f"{path}-{count}")
            return count
        except FileExistsError:
            count += 1


def begun(path):
    """How many attempts there were."""
    return len([*path.parent.glob(f"{path.name}-*")])


# -- tasks


def neighbour(place):
    """End when the culprit has; how often it was begun."""
    tries = begin(place / "neighbour")
    until((place / "over").exists)
    return tries


def meet(place):
    """In a culprit: wait until the neighbour has begun as often as it."""
    tries = begin(place / "culprit")
    until(lambda: begun(place / "neighbour") >= tries, SLACK_S)


def segfault(place):
    """Read what is at address 0."""
    meet(place)
    ctypes.string_at(0)


def exits(place):
    """End the process."""
    meet(place)
    os._exit(7)


def aborts(place):
    """End the process as a failed assertion of C does."""
    meet(place)
    os.abort()


def just_exits():
    """End the process, whatever else runs."""
    os._exit(7)


def kills():
    """Kill the process in a way that leaves no trace."""
    os.kill(os.getpid(), signal.SIGKILL)


def closes():
    """Close whatever is open."""
    os.closerange(3, 300)


def eats():
    """Use ever more memory."""
    eaten = []
    while True:
        eaten.append(bytearray(20_000_000))
        time.sleep(0.01)


def breathes(place):
    """End by itself, after a while."""
    begin(place / "neighbour")
    time.sleep(1.0)
    return "alive"


def eats_beside(place):
    """Use ever more memory, while another task runs if there is one."""
    if begin(place / "culprit") == 1:
        until(lambda: begun(place / "neighbour"), SLACK_S)
    eats()


def closes_beside(place):
    """Close whatever is open, while another task runs if there is one."""
    if begin(place / "culprit") == 1:
        until(lambda: begun(place / "neighbour"), SLACK_S)
    closes()
    signal.pause()


def forks(number):
    """Fork; both processes return."""
    pid = os.fork()
    if pid == 0:
        return "child", number
    os.waitpid(pid, 0)
    return "parent", number


def tally(path, number):
    """Leave a trace, so that it is seen how often this was run."""
    note(path)
    return number


def leaves_program():
    """Leave a program behind that never ends."""
    return subprocess.Popen(["sleep", "1000"]).pid


def leaves_fork():
    """Leave a copy of the process behind that never ends."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid


def floods(place):
    """Write much to standard output and to standard error."""
    meet(place)
    for _ in range(FLOOD_BYTES // 1_000_000):
        print("x" * 999_999)
    left = FLOOD_BYTES
    while left:
        left -= os.write(2, b"y" * min(left, 1_000_000))
    return "flooded"


def spins(place):
    """Do a little, for ever."""
    meet(place)
    while True:
        note(place / "growing")
        time.sleep(0.005)


def insists(place):
    """Do a little, for ever, whatever is raised."""
    meet(place)
    while True:
        with contextlib.suppress(BaseException):
            while True:
                note(place / "growing")
                time.sleep(0.005)


def sleeps(place):
    """Wait in C."""
    meet(place)
    time.sleep(1000)


def backtracks(place):
    """Hold the interpreter's lock for hours."""
    meet(place)
    re.match(r"(a+)+$", "a" * 40 + "b")


def moment(_number):
    """Take a moment; the process that did."""
    time.sleep(0.005)
    return os.getpid()


# -- the network


class Watch:
    """Looks at the worker all the time, as the scheduler sees it and as it answers itself."""

    def __init__(self, client, address):
        self._client = client
        self._address = address
        self._stopped = threading.Event()
        #: seconds that its nanny took to answer, at most
        self.slowest_s = 0.0
        #: longest time without a heartbeat that differs from the one before
        self.silence_s = 0.0
        self.problems = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        metrics, changed = None, time.monotonic()
        while not self._stopped.wait(0.1):
            try:
                seen = self._client.scheduler_info()["workers"][self._address]["metrics"]
                asked = time.monotonic()
                assert rpc(self._address).identity()["name"] == NAME
            except Exception as problem:
                self.problems.append(problem)
                continue
            now = time.monotonic()
            self.slowest_s = max(self.slowest_s, now - asked)
            self.silence_s = max(self.silence_s, now - changed)
            if seen != metrics:
                metrics, changed = seen, now

    def stop(self):
        """Look no more."""
        self._stopped.set()
        self._thread.join(PATIENCE_S)


class Network:
    """A scheduler, one worker and a client, and how they were in the beginning."""

    def __init__(self, start, directory):
        self.scheduler = start(*SCHEDULER).address("^Start scheduler at")
        self._log = directory / "worker.log"
        redirect = f'exec "$@" >{self._log} 2>&1'
        options = ("--nthreads", "2", "--memory-limit", "300MiB", "--name", NAME)
        daemon = start("dworker", self.scheduler, *options, wrap=("sh", "-c", redirect, "sh"))
        self.client = Client(self.scheduler, PATIENCE_S)
        self.client.wait_for_workers(1, PATIENCE_S)
        (self.address,) = self.client.scheduler_info()["workers"]
        self.nanny = psutil.Process(daemon.process.pid)
        self.child_pid()
        self.num_fds = self.nanny.num_fds()
        self.watch = Watch(self.client, self.address)

    def close(self):
        """The watch and the client end; who started the daemons ends them."""
        self.watch.stop()
        self.client.close()

    def child_pid(self):
        """The process in which tasks run now."""
        return self.client.submit(os.getpid).result(PATIENCE_S)

    def check(self):
        """It is the same worker, which never left, and it works."""
        (worker,) = self.client.scheduler_info()["workers"].items()
        assert (worker[0], worker[1]["name"]) == (self.address, NAME)
        assert self.nanny.is_running()
        assert self.nanny.status() != psutil.STATUS_ZOMBIE
        assert self.client.submit(os.getppid).result(PATIENCE_S) == self.nanny.pid
        assert self._log.read_bytes().count(b"Registered with center at:") == 1
        assert self.watch.problems == []

    @contextlib.contextmanager
    def others(self):
        """Ordinary tasks while something goes wrong; they give right answers."""
        futures = self.client.map(abs, range(-OTHERS, 0))
        yield
        futures += self.client.map(abs, range(OTHERS))
        expected = [*range(OTHERS, 0, -1), *range(OTHERS)]
        assert [each.result(PATIENCE_S) for each in futures] == expected

    @contextlib.contextmanager
    def beside(self, place, times):
        """A neighbour and ordinary tasks while something goes wrong.

        Args:
            place: a directory.
            times: how often the neighbour is begun, none of which is a failure of its own.
        """
        future = self.client.submit(neighbour, place)
        until(lambda: begun(place / "neighbour"))
        try:
            with self.others():
                yield
                # a process that is killed may have the neighbour begun again a while later
                until(lambda: begun(place / "neighbour") >= times)
                (place / "over").touch()
            assert future.result(PATIENCE_S) == times
        finally:
            (place / "over").touch()
        told = future.explain()
        assert [told[each] for each in ("raised", "lost", "killed")] == [0, 0, 0]
        assert told["attempts"] == times
