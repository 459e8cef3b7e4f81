"""Daemons that are given their access on standard input, as launchers start them."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.daemons import BIN, PATIENCE_S, still_there
from twisted_dist import Client
from twisted_dist.access.home import Home, machine_name
from twisted_dist.access.network import Network
from twisted_dist.access.roles import ADMIN, SUBMIT, WORKER

pytestmark = pytest.mark.slow

FORMS = [(), ("twistd", "-n", "--pidfile="), ("twist",)]


class Launched:
    """A daemon whose standard input is a pipe, and its output a file.

    Args:
        home: its TWISTED_DIST_HOME.
        words: its command.
        line: the first one of its standard input.
        more: what comes at once with it.
    """

    def __init__(self, home, *words, line, more=""):
        self.output = home.with_name(f"{home.name}-{time.monotonic_ns()}.out")
        env = {**os.environ, "TWISTED_DIST_HOME": str(home)}
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, text=True, env=env,
            )  # fmt: skip
        self.process.stdin.write(f"{line}\n{more}")
        self.process.stdin.flush()

    def says(self, text):
        """Wait until it has said *text*; all that it has said."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in (said := self.output.read_text()):
            assert time.monotonic() < deadline, said
            assert self.process.poll() is None, said
            time.sleep(0.05)
        return said

    def wait(self):
        """Its exit status."""
        return self.process.wait(PATIENCE_S)

    def close(self):
        """End it by force."""
        if self.process.poll() is None:
            for each in [*psutil.Process(self.process.pid).children(True), self.process]:
                each.kill()
        self.process.wait()
        self.process.stdin.close()


@pytest.fixture
def launch(tmp_path):
    """Starts daemons, each in a home of its own; ends those that are left."""
    started = []

    def start(*words, line, more="", home=None):
        home = home or tmp_path / f"home{len(started)}"
        started.append(Launched(home, *words, line=line, more=more))
        return started[-1]

    yield start
    for each in started:
        each.close()


def free_port():
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_credentials_known_before(form, launch, tmp_path):
    """A scheduler and a worker that were given theirs find each other, in homes of their own."""
    network = Network.make()
    port = free_port()
    address = f"127.0.0.1:{port}"
    worker_access = network.access([address], machine_name(), [network.owned[WORKER]])
    worker = launch(
        *form, "dworker", address, "--nthreads=1", "--access-file=-", "--until-stdin-closes",
        line=worker_access.join_string(), more="\n\n",
    )  # fmt: skip
    home = tmp_path / "schedulers"
    scheduler = launch(
        *form, "dscheduler", "--host=127.0.0.1", f"--port={port}", "--network-file", "-",
        "--until-stdin-closes", line=network.line(), more="\n", home=home,
    )  # fmt: skip
    worker.says("Registered with center")
    # what the launcher knows lets its client in, and so does what is in the scheduler's home
    own = network.access([address], machine_name(), [network.owned[ADMIN]])
    found = Home(home).accesses()
    assert [each.scheduler for each in found] == [network.key.certificate]
    for access in (own, found[0]):
        with Client(address, access=access) as client:
            assert client.submit(abs, -3).result(30) == 3
    secret = network.line()[60:100]
    for daemon in (scheduler, worker):
        for each in (daemon.process, *psutil.Process(daemon.process.pid).children(True)):
            for name in ("cmdline", "environ"):
                seen = Path(f"/proc/{each.pid}/{name}").read_text(errors="replace")
                assert secret not in seen
                assert worker_access.join_string() not in seen
        daemon.process.stdin.close()
        assert daemon.wait() == 0
    assert not list(home.glob("*.network*"))


def test_killed_and_started_again(launch, tmp_path):
    """A scheduler that is started again is the same one, with what daccess gave out meanwhile."""
    network = Network.make()
    port = free_port()
    address = f"127.0.0.1:{port}"
    home = tmp_path / "home"
    words = ("dscheduler", "--host=127.0.0.1", f"--port={port}", "--network-file=-")
    first = launch(*words, line=network.line(), home=home)
    first.says("Start scheduler at")
    alice = tmp_path / "alice.access"
    subprocess.run(
        [BIN / "daccess", "make", SUBMIT, address, "--name=alice", f"--output={alice}"],
        env={**os.environ, "TWISTED_DIST_HOME": str(home)}, check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    first.process.kill()
    first.wait()
    launch(*words, line=network.line(), home=home).says("Start scheduler at")
    with Client(address, access=str(alice)) as client:
        assert client.nthreads() == {}


def test_what_came_is_no_access(launch):
    """A first line that is none ends the daemon with one line, which does not repeat it."""
    worker = launch("dworker", "127.0.0.1:9", "--access-file=-", line="my password")
    assert worker.wait() == 1
    said = worker.output.read_text()
    assert said.startswith("dworker: ")
    assert said.count("\n") == 1
    assert "password" not in said
    scheduler = launch("dscheduler", "--port=0", "--network-file=-", line=json.dumps({}))
    assert scheduler.wait() == 1
    assert "dscheduler: standard input: this is no network" in scheduler.output.read_text()


def test_read_before_it_goes_to_the_background(launch, tmp_path):
    """A scheduler that twistd puts into the background has read its network by then."""
    network = Network.make()
    port = free_port()
    pidfile = tmp_path / "pid"
    scheduler = launch(
        "twistd", f"--pidfile={pidfile}", f"--logfile={tmp_path}/log", "dscheduler",
        "--host=127.0.0.1", f"--port={port}", "--network-file=-", line=network.line(),
    )  # fmt: skip
    assert scheduler.wait() == 0
    address = f"127.0.0.1:{port}"
    access = network.access([address], machine_name(), [network.owned[ADMIN]])
    try:
        with Client(address, access=access) as client:
            client.shutdown()
        assert not still_there([psutil.Process(int(pidfile.read_text()))], PATIENCE_S)
    except (psutil.NoSuchProcess, FileNotFoundError):
        pass  # it has ended already
    assert not pidfile.exists()


def test_silence(launch):
    """A daemon ends when its launcher, whose end shows nowhere, says nothing any more."""
    network = Network.make()
    scheduler = launch(
        "dscheduler", "--host=127.0.0.1", "--port=0", "--network-file=-", "--until-stdin-closes",
        "--stdin-silence=1.5", line=network.line(),
    )  # fmt: skip
    scheduler.says("Start scheduler at")
    begin = time.monotonic()
    while time.monotonic() < begin + 4:
        scheduler.process.stdin.write("\n")
        scheduler.process.stdin.flush()
        assert scheduler.process.poll() is None
        time.sleep(0.2)
    assert scheduler.wait() == 1
    assert "nothing came on standard input for 1.5 s" in scheduler.output.read_text()


LAST_RESORT = """
import time
from twisted_dist.cli.standard_input import _LastResort
_LastResort(0.5).start()
time.sleep(60)
"""


@pytest.mark.parametrize(("fed", "is_ended"), [("", True), ("\n", False)])
def test_hangs_in_a_write(fed, is_ended):
    """Who cannot act on silence is ended all the same, but not while something is unread."""
    process = subprocess.Popen(
        [BIN / "python", "-c", LAST_RESORT], stdin=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(fed)
        process.stdin.flush()
        if is_ended:
            assert process.wait(PATIENCE_S) == 1
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
