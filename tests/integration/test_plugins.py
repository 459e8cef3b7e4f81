"""The daemons as twistd plugins, in the foreground and as daemons."""

import os
import signal
import time

import psutil
import pytest

from tests.support.daemons import PATIENCE_S, all_gone
from twisted_dist import Client, rpc

pytestmark = pytest.mark.slow


def test_three_workers_from_one_directory(start, tmp_path):
    """Three `twistd -n --pidfile= dworker` share a directory, and leave nothing in it."""
    twistd = ("twistd", "-n", "--pidfile=")
    first = start(*twistd, "dscheduler", "--host", "127.0.0.1", "--port", "0", cwd=tmp_path)
    scheduler = first.address("^Start scheduler at")
    workers = [
        start(*twistd, "dworker", scheduler, "--nthreads", "1", cwd=tmp_path) for _ in range(3)
    ]
    addresses = [each.address("^Start worker at:") for each in workers]
    with Client(scheduler) as client:
        client.wait_for_workers(3, PATIENCE_S)
        assert client.gather(client.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert {*client.nthreads()} == {*addresses}
    families = [each.family() for each in workers]
    rpc(addresses[0]).terminate()
    workers[1].process.send_signal(signal.SIGTERM)
    workers[2].process.send_signal(signal.SIGINT)
    assert [each.wait() for each in workers] == [0, 0, 0]
    assert all(map(all_gone, families))
    rpc(scheduler).terminate()
    assert first.wait() == 0
    assert list(tmp_path.iterdir()) == []


def test_twist(start, tmp_path):
    """`twist dscheduler` and `twist dworker` are the same daemons."""
    first = start("twist", "dscheduler", "--host", "127.0.0.1", "--port", "0", cwd=tmp_path)
    scheduler = first.address("^Start scheduler at")
    worker = start("twist", "dworker", scheduler, "--nthreads", "1", cwd=tmp_path)
    worker.line("^Registered with center at:")
    with Client(scheduler) as client:
        assert client.submit(pow, 2, 10).result(PATIENCE_S) == 1024
    for each in (worker, first):
        each.process.send_signal(signal.SIGTERM)
        assert each.wait() == 0


def test_daemonised(start, tmp_path):
    """`twistd dscheduler` goes to the background with a pid file and a log file."""
    processes = []
    try:
        command = ("dscheduler", "--host", "127.0.0.1", "--port", "0")
        scheduler, log = _daemonise(start, tmp_path, "s", command, processes)
        address = _logged(log, "Start scheduler at ")
        worker, _log = _daemonise(start, tmp_path, "w", ("dworker", address), processes)
        with Client(address) as client:
            assert client.submit(pow, 2, 10).result(PATIENCE_S) == 1024
        family = [worker, *worker.children(recursive=True)]
        assert len(family) > 1
        os.kill(worker.pid, signal.SIGTERM)
        assert all_gone(family)
        rpc(address).terminate()
        assert all_gone([scheduler])
        assert sorted(each.name for each in tmp_path.iterdir()) == ["s.log", "w.log"]
        assert "Traceback" not in log.read_text()
    finally:
        for each in processes:
            if each.is_running():
                each.kill()


def _daemonise(start, directory, name, command, processes):
    pid, log = directory / f"{name}.pid", directory / f"{name}.log"
    launcher = start("twistd", f"--pidfile={pid}", f"--logfile={log}", *command, cwd=directory)
    assert launcher.wait() == 0
    processes.append(psutil.Process(int(pid.read_text())))
    return processes[-1], log


def _logged(log, words):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        _, found, rest = log.read_text().partition(words)
        if found and "\n" in rest:
            return rest.split()[0]
        time.sleep(0.05)
    raise AssertionError(f"no {words!r} in {log.read_text()}")
