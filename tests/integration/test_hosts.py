"""The seed page on hosts of its own: 192.168.0.1 to 4, and a client on a fifth."""

import subprocess
import sys

import pytest

from tests.support import hosts as network
from tests.support.daemons import PATIENCE_S, all_gone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2"),
]

#: what a user does on the fifth host: work, then the end of the network by rpc
WORK = """
import socket
from twisted_dist import Client, rpc

client = Client("192.168.0.1:8786", timeout=30)
client.wait_for_workers(3, 30)
xs = client.map(pow, range(1000), [2] * 1000)
assert client.submit(sum, xs).result(30) == sum(x * x for x in range(1000))
workers = sorted(client.nthreads())
for address in workers:
    there = client.submit(bytes, 200_000, workers=[address])
    assert client.submit(len, there).result(30) == 200_000
    assert len(there.result(30)) == 200_000
print(*workers)
client.close()
for address in [*workers, "192.168.0.1:8786"]:
    assert rpc(address).terminate() == "OK"
"""


@pytest.fixture(scope="module")
def hosts():
    """Five hosts."""
    with network.building(5) as five:
        yield five


@pytest.mark.parametrize("form", [(), ("twistd", "-n", "--pidfile=")], ids=["scripts", "twistd"])
def test_seed_page(start, tmp_path, hosts, form):
    """The transcript of the seed page, to the letter; work; termination; nothing left."""
    scheduler = start(*form, "dscheduler", wrap=hosts.wrap[1], cwd=tmp_path)
    scheduler.line("^Start scheduler at")
    workers = {}
    for number in (2, 3, 4):
        command = (*form, "dworker", "192.168.0.1:8786")
        workers[number] = start(*command, wrap=hosts.wrap[number], cwd=tmp_path)
        workers[number].line("^Registered")
    families = [each.family() for each in (scheduler, *workers.values())]

    told = subprocess.run(
        [*hosts.wrap[5], sys.executable, "-c", WORK],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        cwd=tmp_path,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    addresses = told.stdout.split()
    assert [each.rpartition(":")[0] for each in addresses] == [hosts.address(n) for n in (2, 3, 4)]
    assert scheduler.wait() == 0
    first, _join = _plain(scheduler)
    assert first == "Start scheduler at 192.168.0.1:8786"
    for address, worker in zip(addresses, workers.values()):
        assert worker.wait() == 0
        assert _plain(worker) == [
            f"Start worker at:            {address}",
            "Registered with center at:  192.168.0.1:8786",
        ]
    assert all(map(all_gone, families))
    assert list(tmp_path.iterdir()) == []


def _plain(daemon):
    """The lines that are not twistd's log, which begin with a date."""
    return [line for line in daemon.output() if not line[:4].isdigit()]
