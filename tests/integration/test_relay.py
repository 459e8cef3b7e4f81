"""Workers that cannot be dialled: on hosts that reach the scheduler and not each other."""

import subprocess
import sys

import psutil
import pytest

from tests.support import hosts as network
from tests.support.daemons import PATIENCE_S
from twisted_dist import Client, rpc

pytestmark = pytest.mark.slow

SIZE = 20_000_000
#: what the scheduler may grow by while it relays values many times as large
ROOM = 40_000_000

#: what a user does where neither worker can be dialled: a result, and one that needs another's
WORK = """
import hashlib, os, sys
from twisted_dist import Client

def digest(data):
    return hashlib.sha256(data).hexdigest()

with Client("192.168.0.1:8786", timeout=30) as client:
    client.wait_for_workers(2, 30)
    a, b = sorted(client.nthreads())
    x = client.submit(os.urandom, int(sys.argv[1]), workers=[a])
    y = client.submit(digest, x, workers=[b])
    (here,) = client.gather([x])
    assert y.result(60) == digest(here)
    scattered = client.scatter(here[::-1], workers=[b])
    assert client.submit(digest, scattered, workers=[a]).result(60) == digest(here[::-1])
    workers = client.scheduler_info()["workers"]
    print(workers[a]["relayed"], workers[b]["relayed"])
"""

#: a worker that announces a port and does not listen there
HIDDEN = """
import sys
from twisted.internet import defer, reactor
from twisted_dist import Nanny

class Hidden(Nanny):
    async def listen(self, port):
        address = await super().listen(port)
        port, self._port = self._port, None
        await defer.maybeDeferred(port.stopListening)
        return address

hidden = Hidden(sys.argv[1], host="127.0.0.1", nthreads=1)
hidden.start().addCallback(lambda address: print("Registered", address, flush=True))
hidden.done.addBoth(lambda _: reactor.stop())
reactor.run()
"""


@pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2")
def test_hosts_that_reach_the_scheduler_only(start, tmp_path):
    """Results go to clients, and between workers, that cannot dial; all say what they do."""
    with network.building(4) as hosts:
        hosts.isolate(2, 3, 4)
        scheduler = start("dscheduler", wrap=hosts.wrap[1])
        scheduler.line("^Start scheduler at 192.168.0.1:8786")
        workers = []
        for number in (2, 3):
            command = ("dworker", "192.168.0.1:8786", "--nthreads", "1")
            workers.append(start(*command, wrap=hosts.wrap[number]))
            workers[-1].line("^Registered")
        told = subprocess.run(
            [*hosts.wrap[4], sys.executable, "-c", WORK, str(SIZE)],
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_S,
            cwd=tmp_path,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        assert told.stdout.split() == ["2", "2"]  # for each, the client and the other worker
        scheduler.line(r"relaying a client at 192\.168\.0\.4 to 192\.168\.0\.2:")
        workers[0].line(r"the scheduler relays .* at 192\.168\.0\.[34] to this worker's data")
        workers[1].line(r"cannot reach 192\.168\.0\.2:.*: the scheduler relays")
        for each in (*workers, scheduler):
            each.process.terminate()
            assert each.wait() == 0
            assert not any("Traceback" in line for line in each.output())


def test_a_port_where_nobody_listens(start):
    """A worker that can only dial serves as others do, and the scheduler stays small."""
    scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", "0")
    address = scheduler.address("^Start scheduler at")
    hidden = start("python", "-c", HIDDEN, address).line(r"^Registered (\S+)")[1]
    start("dworker", address, "--nthreads", "1").line("^Registered")
    process = psutil.Process(scheduler.process.pid)
    with Client(address) as client:
        client.wait_for_workers(2, PATIENCE_S)
        (other,) = set(client.nthreads()) - {hidden}
        client.submit(bytes, SIZE // 10, workers=[hidden]).result(PATIENCE_S)
        before = process.memory_info().rss
        xs = [client.submit(bytes, SIZE + n, workers=[hidden]) for n in range(5)]
        ys = [client.submit(len, each, workers=[other]) for each in xs]
        assert client.gather(ys) == [SIZE + n for n in range(5)]
        assert [len(each) for each in client.gather(xs)] == [SIZE + n for n in range(5)]
        assert process.memory_info().rss < before + ROOM
        assert client.scheduler_info()["workers"][hidden]["relayed"] == 2
        assert client.scheduler_info()["workers"][other]["relayed"] == 0
    assert rpc(address).identity()["workers"] == 2
