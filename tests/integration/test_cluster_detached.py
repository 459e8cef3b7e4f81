"""``dcluster --detach``, ``status``, ``add`` and ``down`` on real sshds, as users run them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import sshd
from tests.support.daemons import PATIENCE_S, all_gone
from twisted_dist import Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not sshd.available(), reason="needs OpenSSH's server"),
]
#: seconds that a command may take; a bound, not an expectation
COMMAND_S = 100.0


def until(check, why="it does not come to that"):
    """Wait for something that nobody tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := check()):
        assert time.monotonic() < deadline, why
        time.sleep(0.05)
    return found


class Site:
    """Hosts, a user's home, and what the user's commands say."""

    def __init__(self, hosts, start, directory):
        self.hosts = hosts
        self.home = directory / "home"
        self._start = start
        self._directory = directory

    def begin(self, *words):
        """Start a command."""
        env = {"COLUMNS": "200", "TWISTED_DIST_HOME": str(self.home)}
        return self._start("dcluster", *words, cwd=self._directory, env=env)

    def run(self, *words):
        """Run a command; its status and what it says."""
        daemon = self.begin(*words)
        daemon.process.wait(COMMAND_S)
        lines = daemon.output()
        return daemon.wait(), "\n".join(lines)

    def detach(self, *words):
        """Start a detached cluster; its address."""
        config = ("--ssh-config", str(self.hosts.config), "--scheduler-port", "0")
        status, text = self.run("--detach", *config, *words)
        assert status == 0, text
        return next(line for line in text.splitlines() if 'Client("' in line).split('"')[1]

    def status(self):
        """What ``dcluster status --json`` says of the only cluster, and its status."""
        status, text = self.run("status", "--json")
        [seen] = json.loads(text)
        return status, seen

    def running(self, number, word):
        """The processes of a kind on a host: those that lead their sessions."""
        return [
            each
            for each in self.hosts[number].running()
            if word in sshd.words_of(each) and os.getsid(each.pid) == each.pid
        ]

    def agents(self, number):
        """The agents on a host."""
        return [
            each for each in self.hosts[number].running() if sshd.words_of(each)[-1:] == ["agent"]
        ]

    def files(self):
        """What is left in the homes of hosts, but for logs, locks and empty directories."""
        return [
            path
            for home in self._directory.glob("host*")
            for path in home.rglob("*")
            if path.is_file() and ".log" not in path.name and path.name != ".lock"
        ]


@pytest.fixture
def site(start, tmp_path, monkeypatch):
    """Four hosts, each with a home of its own."""
    homes = {"TWISTED_DIST_HOME": f"{tmp_path}/host{{number}}"}
    with sshd.serving(tmp_path / "sshds", 4, environment=homes) as hosts:
        site = Site(hosts, start, tmp_path)
        monkeypatch.setenv("TWISTED_DIST_HOME", str(site.home))
        yield site


def test_a_life(site):
    """A cluster outlives its launcher and all connections, tells how it is, grows, and ends."""
    address = site.detach("h1", "h2")
    for host in site.hosts:
        host.kill_sessions()
    with Client(address) as client:
        assert client.submit(pow, 3, 2).result(30) == 9
        assert len(client.nthreads()) == 2
        status, text = site.run("status")
        assert status == 0, text
        assert "scheduler h1  up" in " ".join(text.split(" ")), text
        assert "2 workers" in text
        status, text = site.run("add", "h3", "--nthreads", "3")
        assert status == 0, text
        client.wait_for_workers(3, 30)
        assert 3 in client.nthreads().values()
        assert client.submit(os.getenv, "TD_HOST", key="where").result(30)
    status, seen = site.status()
    assert status == 0
    assert seen["scheduler"]["workers"] == 3
    assert [each["host"] for each in seen["agents"]] == ["h1", "h1", "h2", "h3"]
    status, text = site.run("down")
    assert status == 0, text
    assert text.count("ended: ") == 4, text
    for host in site.hosts:
        assert host.running() == []
    assert site.files() == []
    assert [each for each in site.home.rglob("*") if each.is_file() and each.name != ".lock"] == []
    assert site.run("status") == (0, "there is no detached cluster of this user's here")


def test_what_dies(site):
    """A daemon that dies comes back; without their agent, daemons end by themselves."""
    address = site.detach("h1", "h2")
    with Client(address) as client:
        [worker] = site.running(2, "dworker")
        worker.kill()
        until(lambda: [e for e in site.running(2, "dworker") if e != worker])
        [scheduler] = site.running(1, "dscheduler")
        scheduler.kill()
        until(lambda: [e for e in site.running(1, "dscheduler") if e != scheduler])
        client.wait_for_workers(2, 60)
        assert client.submit(pow, 3, 2).result(60) == 9
    status, seen = until(lambda: (s := site.status())[0] == 0 and s)
    restarts = {each["label"]: each["restarts"] for a in seen["agents"] for each in a["daemons"]}
    assert restarts["worker h2"] == 1
    assert restarts["scheduler h1"] == 1
    [agent] = site.agents(2)
    there = site.hosts[2].running()
    agent.kill()
    assert all_gone(there)
    status, seen = site.status()
    assert status == 1
    assert [each["state"] for each in seen["agents"]] == ["up", "up", "gone"]
    assert "killed" in seen["agents"][2]["why"]
    status, text = site.run("add", "h2")
    assert status == 0, text
    status, seen = site.status()
    assert (status, len(seen["agents"])) == (0, 3)
    [agent] = site.agents(2)
    agent.kill()
    status, text = site.run("down")
    assert status == 0, text
    assert "h2: was not there any more" in text
    assert site.files() == []


def test_a_host_that_is_away(site):
    """`dcluster down` names a host that it cannot enter, and ends the rest there later."""
    site.detach("h1", "h2", "--cluster", "mine")
    listener = site.hosts[2].process
    there = site.hosts[2].running()
    assert there
    listener.kill()
    listener.wait()
    site.hosts[2].process = None
    status, text = site.run("status", "mine")
    assert status == 1
    assert "not reached" in text, text
    status, text = site.run("down", "mine")
    assert status == 1
    assert "h2: not reached" in text, text
    assert site.hosts[1].running() == []
    site.hosts.start(2)
    status, text = site.run("down")
    assert status == 0, text
    assert all_gone(there)
    assert site.files() == []


def test_network_ends(site):
    """``client.shutdown()`` ends all agents, too, and leaves nothing but logs."""
    address = site.detach("h1", "h2")
    there = [each for host in site.hosts for each in host.running()]
    with Client(address) as client:
        client.shutdown()
    assert all_gone(there)
    until(lambda: site.files() == [])
    assert site.run("status")[0] == 1
    status, text = site.run("down")
    assert status == 0, text


def test_too_little(site):
    """Where the policy wants more, what was started is ended again, and nothing is recorded."""
    site.hosts[3].kill()
    words = ("--ssh-config", str(site.hosts.config), "--scheduler-port", "0")
    status, text = site.run("--detach", *words, "h1", "h2", "h3", "--min-workers", "3")
    assert status == 1
    assert "2 of 3 workers, and 3 are wanted" in text, text
    for host in site.hosts:
        assert all_gone(host.running())
    assert site.files() == []
    assert site.run("status")[0] == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(site, how):
    """A launcher that is interrupted leaves nothing, and one that is killed what it can find."""
    config = ("--ssh-config", str(site.hosts.config), "--scheduler-port", "0")
    for pause_s in (0.4, 0.9, 1.4, 1.9, 2.6, 3.3):
        daemon = site.begin("--detach", *config, "h1", "h2")
        time.sleep(pause_s)
        daemon.process.send_signal(how)
        daemon.wait()
        if how == signal.SIGKILL:
            # who has not reported yet ends by itself
            time.sleep(1)
        if list(site.home.glob("clusters/*.json")):
            status, text = site.run("down")
            assert status == 0, text
        left = [each for host in site.hosts for each in host.running()]
        assert all_gone(left), list(map(sshd.words_of, left))
        assert site.files() == []
        assert list(site.home.glob("clusters/*.json")) == []


def test_logs(site):
    """Lines are in files on the hosts, for their user only."""
    address = site.detach("h1", "h2", "--nprocs", "2")
    with Client(address) as client:
        assert len(client.nthreads()) == 4
        client.submit(print, "a line of a task").result(30)
    logs = [each for each in site.home.parent.glob("host*/clusters/*/*.log")]
    assert len(logs) == 6
    assert {each.stat().st_mode & 0o777 for each in logs} == {0o600}
    until(lambda: any("a line of a task" in Path(each).read_text() for each in logs))
    assert site.run("down")[0] == 0
