"""The seed page's ``dcluster`` on hosts of its own: 192.168.0.1 to 4, from a fifth."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys

import pytest

from tests.support import hosts as network
from tests.support import sshd
from tests.support.daemons import BIN, PATIENCE_S, describe, still_there
from twisted_dist.launchers.cluster.far_daemon import SILENCE_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2"),
    pytest.mark.skipif(not sshd.available(), reason="needs OpenSSH's server"),
]

#: what a user does on the fifth host
WORK = """
import os, sys
from twisted_dist import Client
with Client({address!r}, timeout=30) as client:
    client.wait_for_workers({workers}, 30)
    xs = client.map(pow, range(1000), [2] * 1000, workers={where})
    assert client.submit(sum, xs, workers={where}).result(30) == sum(x * x for x in range(1000))
    if {where}:
        sys.exit()
    there = [client.submit(os.getenv, "TD_HOST", key=w, workers=[w]) for w in client.nthreads()]
    print(*sorted(client.gather(there)))
"""
FOUR = "192.168.0.1 192.168.0.2 192.168.0.3 192.168.0.4"


@pytest.fixture(scope="module")
def hosts():
    """Five hosts."""
    with network.building(5) as five:
        five.widen()
        yield five


@pytest.fixture(scope="module")
def sshds(hosts, tmp_path_factory):
    """An sshd on port 22 of four of them, each with a home of its own for access files."""
    directory = tmp_path_factory.mktemp("sshds")
    homes = {"TWISTED_DIST_HOME": f"{directory}/home{{number}}"}
    with sshd.serving(directory / "sshds", 4, environment=homes, hosts=hosts) as four:
        # a cut link is noticed soon
        four.config.write_text(four.config_text("ServerAliveInterval 1"), encoding="utf-8")
        yield four


@pytest.fixture
def cluster(start, hosts, sshds, tmp_path):
    """Starts dcluster on the fifth host, as words for bash."""

    def run(words):
        line = f"exec {BIN}/dcluster --ssh-config {shlex.quote(str(sshds.config))} {words}"
        wrap = (*hosts.wrap[5], "bash", "-c", line)
        return start("dcluster", wrap=wrap, cwd=tmp_path)

    yield run
    left = [each for host in sshds for each in host.running()]
    describe(left)
    # a daemon whose link was cut ends when it has heard nothing for a while
    assert not still_there(left, SILENCE_S + PATIENCE_S)


def work(hosts, workers=4, where=None, address="192.168.0.1:8786"):
    """What a client on the fifth host says: where its tasks have run, if they may run anywhere."""
    told = subprocess.run(
        [
            *hosts.wrap[5],
            sys.executable,
            "-c",
            WORK.format(workers=workers, where=where, address=address),
        ],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.split()


@pytest.mark.parametrize(
    "words",
    [
        FOUR,
        "192.168.0.{1,2,3,4}",
        "'192.168.0.{1,2,3,4}'",
        "'192.168.0.[1-4]'",
        "--hostfile hostfile.txt",
        "192.168.0.1 192.168.0.2 --hostfile two.txt",
    ],
    ids=["four", "shell", "braces", "range", "hostfile", "both"],
)
def test_seed_page(cluster, hosts, sshds, tmp_path, words):
    """Each form gives a network in which a client computes; Ctrl-C leaves nothing."""
    (tmp_path / "hostfile.txt").write_text(FOUR)
    (tmp_path / "two.txt").write_text("192.168.0.3\n192.168.0.4\n")
    daemon = cluster(words)
    daemon.line(r"\[ scheduler 192.168.0.1:8786 \] : Start scheduler at 192.168.0.1:8786$")
    daemon.line(r'4 of 4 workers; Client\("192.168.0.1:8786"\) uses them')
    assert work(hosts) == ["h1", "h2", "h3", "h4"]
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.wait() == 0
    assert not any(host.running() for host in sshds)


@pytest.mark.parametrize("interface", ["data0", "10.77.0.0/24"])
def test_another_network(cluster, hosts, interface):
    """SSH goes one way, and all else by the network that was named: by interface or subnet."""
    daemon = cluster(f"{FOUR} --interface {interface}")
    daemon.line(r'4 of 4 workers; Client\("10.77.0.1:8786"\) uses them')
    assert work(hosts, address="10.77.0.1:8786") == ["h1", "h2", "h3", "h4"]
    there = [f"10.77.0.{number}" for number in (1, 2, 3, 4)]
    work(hosts, 4, there, address="10.77.0.1:8786")
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.wait() == 0


def test_network_that_a_host_is_not_in(cluster, hosts):
    """Who has no address there is named, with those that it has."""
    daemon = cluster("192.168.0.1 192.168.0.2 --interface 10.78.0.0/24 --check")
    daemon.line("no address in 10.78.0.0/24: give another --interface; it has 192.168.0.1")
    daemon.line("no address in 10.78.0.0/24: give another --interface; it has 192.168.0.2")
    assert daemon.wait() == 1


def test_link_is_cut(cluster, hosts):
    """A host that cannot be reached is lost, and comes back; work goes on without it."""
    daemon = cluster(FOUR)
    daemon.line("4 of 4 workers")
    hosts.cut(4)
    daemon.line("192.168.0.4: lost:")
    # what its worker was given waits for its lease
    work(hosts, 3, ["192.168.0.1", "192.168.0.2"])
    hosts.mend(4)
    daemon.line(r"\[ worker 192.168.0.4 \] : Registered with center")
    # the one that was cut off is there, too, until it has heard nothing for long enough
    assert set(work(hosts)) == {"h1", "h2", "h3", "h4"}
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.wait() == 0


def test_power_is_lost(cluster, hosts, sshds):
    """A host that dies is back in the cluster once it has started again."""
    daemon = cluster(FOUR)
    daemon.line("4 of 4 workers")
    sshds[2].kill()
    daemon.line("192.168.0.2: lost:")
    sshds.start(2)
    daemon.line(r"\[ worker 192.168.0.2 \] : Registered with center")
    assert work(hosts) == ["h1", "h2", "h3", "h4"]
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.wait() == 0
