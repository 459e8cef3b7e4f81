"""Both SSH clients on hosts of their own, 192.168.0.1 and so on, whose links can be cut."""

import subprocess
import sys

import pytest

from tests.support import hosts as network
from tests.support.daemons import PATIENCE_S
from tests.support.misdeeds import until
from tests.support.sshd import available, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2"),
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
]

#: on the third host: enters the first two, and tells how commands there end
SCRIPT = """
import os, sys
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted_dist.launchers.ssh.conch_client import ConchClient
from twisted_dist.launchers.ssh.config import Resolver
from twisted_dist.launchers.ssh.openssh import OpenSSHClient
from twisted_dist.launchers.ssh.secrets import Secrets

def say(*words):
    print(*words, flush=True)

async def main():
    own = sys.argv[1] == "conch"
    client = ConchClient(reactor, Secrets(None)) if own else OpenSSHClient(
        reactor, None, environ=os.environ)
    resolver = Resolver(reactor, environ=os.environ, config_file=sys.argv[2])
    running = []
    for host in ("192.168.0.1", "192.168.0.2"):
        settings = evolve(await resolver.resolve(host), alive_interval_s=1, alive_count=2)
        connection = await client.connect(settings)
        await connection.start("hostname; cat", lambda data: say(data.decode().strip()), say)
        command = await connection.start("cat", say, say)
        command.ended().addCallback(lambda ending, host=host: say(host, ending.how.name))
        running.append((connection, command))
    first, second = running
    await first[0].lost()
    await second[0].lost()
    await client.close()

def end(failure):
    if failure is not None:
        failure.printTraceback()
    reactor.stop()

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addBoth(end))
reactor.run()
"""


@pytest.fixture(scope="module")
def hosts():
    """Three hosts."""
    with network.building(3) as three:
        yield three


@pytest.mark.parametrize("kind", ["conch", "openssh"])
def test_cut_and_power_loss(hosts, tmp_path, kind):
    """A link that is cut, and a host that loses its power, are both noticed by themselves."""
    with serving(tmp_path / "d", 2, hosts=hosts) as sshds:
        client = subprocess.Popen(
            [*hosts.wrap[3], sys.executable, "-c", SCRIPT, kind, str(sshds.config)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert client.stdout.readline() == "h1\n"
            assert client.stdout.readline() == "h2\n"
            until(lambda: all(len(each.running()) >= 2 for each in sshds))
            hosts.cut(1)
            assert client.stdout.readline() == "192.168.0.1 LOST\n"
            sshds[2].kill()
            assert client.stdout.readline() == "192.168.0.2 LOST\n"
            assert client.wait(PATIENCE_S) == 0
        finally:
            client.kill()
            client.wait()
            client.stdout.close()
            hosts.mend(1)
