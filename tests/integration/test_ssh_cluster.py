"""`SSHCluster` and `AsyncSSHCluster` on real sshds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from twisted.internet.defer import Deferred

from tests.support import sshd
from tests.support.daemons import all_gone
from twisted_dist import AsyncClient, AsyncSSHCluster, Client, ReactorThread, SSHCluster
from twisted_dist.errors import ClusterError, UsageProblem

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sshd.available(), reason="needs OpenSSH's server"),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Three hosts, of which one is down."""
    directory = tmp_path_factory.mktemp("hosts")
    homes = {"TWISTED_DIST_HOME": f"{directory}/home{{number}}"}
    with sshd.serving(directory / "sshds", 3, environment=homes) as three:
        three[3].kill()
        yield three


@pytest.fixture
def how(hosts):
    """Arguments that lead to the hosts."""
    yield {"ssh_config": str(hosts.config), "scheduler_port": 0}
    for host in hosts:
        assert all_gone(host.running())


def test_context(how, capfd):
    """A cluster for a block, which a client takes; what tasks print is printed."""
    with SSHCluster("h[1-2]", nthreads=3, **how) as cluster, Client(cluster) as client:
        assert set(client.nthreads().values()) == {3}
        client.submit(print, "from a task").result(30)
    assert "] : from a task" in capfd.readouterr().out


def test_too_little(how, hosts):
    """`ClusterError` says which hosts failed; nothing is left of the others."""
    with pytest.raises(ClusterError, match=r"2 of 3 workers, and 3 are wanted: .*h3: nobody"):
        SSHCluster(["h1", "h2", "h3"], min_workers=3, **how)
    with pytest.raises(UsageProblem, match="which hosts"):
        SSHCluster()


def test_in_a_reactor(how):
    """The same in a reactor: every result a Deferred."""
    with ReactorThread() as thread:

        async def work():
            cluster = AsyncSSHCluster(["h1", "h2"], reactor=thread.reactor, **how)
            address = await cluster.start()
            assert address == cluster.scheduler_address
            client = AsyncClient(address, reactor=thread.reactor)
            await client.start()
            result = await client.submit(pow, 3, 2).result()
            await client.close()
            assert await cluster.close() == []
            assert await cluster.close() == []
            return result

        assert thread.call(lambda: Deferred.fromCoroutine(work())) == 9


def test_program_that_forgets_it(how, hosts):
    """A cluster that nobody closes ends with its program, killed ones included."""
    text = f"""
import os, sys
from twisted_dist import SSHCluster
cluster = SSHCluster("h1 h2".split(), **{how!r})
print("up", flush=True)
if sys.argv[1] == "die":
    os.kill(os.getpid(), 9)
"""
    for word, status in (("end", 0), ("die", -9)):
        ran = subprocess.run(
            [sys.executable, "-c", text, word],
            capture_output=True,
            timeout=60,
            text=True,
            check=False,
        )
        assert ran.returncode == status, ran.stderr
        assert "up" in ran.stdout
        assert all_gone([each for host in hosts for each in host.running()])
