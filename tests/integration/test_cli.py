"""The daemons as console scripts: their lines, their errors, their ends."""

import os
import signal
import socket

import psutil
import pytest

from tests.support.daemons import all_gone
from twisted_dist import Client, rpc

pytestmark = pytest.mark.slow

SCHEDULER = ("dscheduler", "--host", "127.0.0.1", "--port", "0")


def terminate(daemon, address):
    rpc(address).terminate()


def interrupt(daemon, address):
    daemon.process.send_signal(signal.SIGINT)


def stop(daemon, address):
    daemon.process.send_signal(signal.SIGTERM)


ENDS = pytest.mark.parametrize("end", [terminate, interrupt, stop])


@ENDS
@pytest.mark.parametrize("options", [(), ("--no-nanny",), ("--nprocs", "2")], ids=" ".join)
def test_worker_ends_cleanly(start, end, options):
    """`dworker` says two lines a worker, and ends with status 0 and nothing left."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    worker = start("dworker", scheduler, "--nthreads", "1", *options)
    addresses = []
    for _ in range(2 if "--nprocs" in options else 1):
        addresses.append(worker.address("^Start worker at:           "))
    for _ in addresses:
        assert worker.address("^Registered with center at: ") == scheduler
    with Client(scheduler) as client:
        assert client.submit(pow, 2, 10).result(20) == 1024
    family = worker.family()
    for address in addresses[: None if end is terminate else 1]:
        end(worker, address)
    assert worker.wait() == 0
    assert all_gone(family)
    assert worker.output() == worker.lines
    assert not any("Traceback" in line for line in worker.lines)


@ENDS
def test_scheduler_ends_cleanly(start, end):
    """`dscheduler` ends with status 0 and frees its port, with workers and clients there."""
    scheduler = start(*SCHEDULER)
    address = scheduler.address("^Start scheduler at")
    start("dworker", address, "--no-nanny").line("^Registered")
    with Client(address) as client:
        assert client.submit(abs, -3).result(20) == 3
        end(scheduler, address)
        assert scheduler.wait() == 0
    first, join = scheduler.output()
    assert first == f"Start scheduler at {address}"
    assert join.startswith(f"To join from elsewhere:     daccess make worker {address} ")
    host, port = address.split(":")
    assert (
        start("dscheduler", "--host", host, "--port", port).address("^Start scheduler at")
        == address
    )


def test_worker_waits_for_its_scheduler(start):
    """`dworker` started first registers when the scheduler comes, and again when it is back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    worker = start("dworker", f"127.0.0.1:{port}", "--no-nanny")
    worker.line("^Start worker at:")
    for _ in range(2):
        scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", port)
        worker.line("^Registered with center at:")
        with Client(f"127.0.0.1:{port}") as client:
            assert client.submit(abs, -3).result(20) == 3
        rpc(f"127.0.0.1:{port}").terminate()
        assert scheduler.wait() == 0


def test_killed_nanny_leaves_no_child(start):
    """`dworker`'s child ends when kill -9 takes its nanny, even in the middle of a task."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    worker = start("dworker", scheduler, "--nthreads", "1")
    worker.line("^Registered")
    with Client(scheduler) as client:
        child = client.submit(os.getpid).result(20)
        assert child != worker.process.pid
        forever = client.submit(signal.pause)
        (process,) = psutil.Process(worker.process.pid).children()
        assert process.pid == child
        worker.process.kill()
        assert all_gone([process])
        forever.cancel()


BAD = {
    "no address": (("dworker",), "which scheduler"),
    "no port": (("dworker", "192.168.0.1"), "not HOST:PORT"),
    "no host": (("dworker", ":8786"), "not HOST:PORT"),
    "port out of range": (("dworker", "192.168.0.1:87860"), "1 to 65535"),
    "port of words": (("dscheduler", "--port", "http"), "'http' is not a port"),
    "lease too short": (("dscheduler", "--lease", "5"), "too short for a lease"),
    "lease of words": (("dscheduler", "--lease", "soon"), "soon"),
    "own port out of range": (("dscheduler", "--port", "87860"), "'87860' is not a port"),
    "a name for two": (("dworker", "h:1", "--nprocs", "2", "--name", "x"), "--name is for one"),
    "no threads": (("dworker", "h:1", "--nthreads", "0"), "'0' is not a count"),
    "unknown option": (("dscheduler", "--prot", "1"), "option --prot not"),
    "port for health of words": (("dscheduler", "--http-port", "h:x"), "'x' is not a port"),
    "no duration": (("dworker", "h:1", "--drain-timeout", "soon"), "'soon' is no duration"),
    "too many words": (("dworker", "h:1", "h:2"), "too many words"),
    "no such host": (("dscheduler", "--host", "192.0.2.7"), "cannot listen on 192.0.2.7:8786"),
}


@pytest.mark.parametrize("form", [(), ("twistd", "-n", "--pidfile="), ("twist",)], ids=" ".join)
@pytest.mark.parametrize("case", BAD)
def test_bad_command_line(start, tmp_path, form, case):
    """A bad command line ends in one line that says what to do, and a status of its own."""
    command, words = BAD[case]
    daemon = start(*form, *command, cwd=tmp_path)
    assert daemon.wait() not in (0, None)
    (line,) = daemon.output()
    assert line.startswith(f"{command[0]}: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [(), ("twistd", "-n", "--pidfile=")], ids=" ".join)
def test_taken_port(start, tmp_path, form):
    """A taken port is one line too, of both daemons."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for command in (
            ("dscheduler", "--host", "127.0.0.1", "--port", port),
            ("dworker", "127.0.0.1:9", "--host", "127.0.0.1", "--worker-port", port),
        ):
            daemon = start(*form, *command, cwd=tmp_path)
            assert daemon.wait() != 0
            (line,) = daemon.output()
            assert f"{command[0]}: cannot listen on 127.0.0.1:{port}: Address already" in line


@pytest.mark.parametrize("program", ["dscheduler", "dworker"])
def test_help_and_version(start, program):
    """`--help` teaches, `--version` tells; both end with status 0."""
    helped = start(program, "--help")
    assert helped.wait() == 0
    assert "192.168.0.1:8786" in "\n".join(helped.output())
    told = start(program, "--version")
    assert told.wait() == 0
    assert told.output()[0].startswith(f"{program} (twisted-dist) 0.")


def test_refused_registration(start):
    """A second worker of one name is refused: one line, and a non-zero end."""
    scheduler = start(*SCHEDULER).address("^Start scheduler at")
    start("dworker", scheduler, "--name", "alice").line("^Registered")
    for form in ((), ("twistd", "-n", "--pidfile=")):
        second = start(*form, "dworker", scheduler, "--name", "alice")
        second.line("dworker: cannot start: .*alice")
        assert second.wait() == 1
