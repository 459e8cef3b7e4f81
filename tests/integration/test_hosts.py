"""The seed page on hosts of its own: 192.168.0.1 to 4, and a client on a fifth."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support import hosts as network
from tests.support.daemons import BIN, PATIENCE_S, all_gone

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


#: what a stranger tries on a host of its own: this package, raw bytes, TLS without a secret
STRANGER = """
import socket, ssl, sys
from twisted_dist import Client, errors, rpc
from twisted_dist.access.access import Access
from twisted_dist.access.network import Network

targets = sys.argv[1:]
own = Network.make()
for target in targets:
    host, port = target.split(":")
    other = own.access([target], "m", own.owned.values())
    for access in (None, other):
        for attempt in (
            lambda: Client(target, timeout=5, access=access),
            lambda: rpc(target, access=access).terminate(),
            lambda: rpc(target, access=access).identity(),
        ):
            try:
                attempt()
            except errors.AccessError as problem:
                assert "no access to" in str(problem) or "is not " in str(problem), problem
            else:
                raise AssertionError("it was let in")
    try:
        Client(target, timeout=5, insecure=True)
    except errors.AccessError as problem:
        assert "speaks TLS" in str(problem)
    else:
        raise AssertionError("it was let in")
    hello = b"\\x00\\x04_ask\\x00\\x011\\x00\\x08_command\\x00\\x05Hello\\x00\\x00"
    for sent in (hello, b"GET / HTTP/1.1\\r\\n\\r\\n", b"\\x00" * 4000):
        with socket.create_connection((host, int(port)), 5) as raw:
            raw.settimeout(15)
            raw.sendall(sent)
            heard = b""
            try:
                while piece := raw.recv(4096):
                    heard += piece
            except ConnectionResetError:
                pass
            # TLS's word that it wants TLS, and nothing else
            assert heard[:1] in (b"", b"\\x15") and len(heard) <= 7, heard
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.settimeout(15)
        heard = b""
        try:
            with context.wrap_socket(raw) as tls:
                tls.sendall(hello)
                while piece := tls.recv(4096):
                    heard += piece
        except (ssl.SSLError, ConnectionResetError):
            pass
        assert heard == b"", heard
print("nothing")
"""

#: what the owner does meanwhile, from where no file is but one variable
OWNER = """
from twisted_dist import Client

with Client("192.168.0.1:8786", timeout=30) as client:
    client.wait_for_workers(2, 30)
    print(*sorted(client.nthreads()), flush=True)
    input()
    for _ in range(20):
        xs = client.map(pow, range(500), [2] * 500)
        assert client.submit(sum, xs).result(30) == sum(x * x for x in range(500))
    there, here = sorted(client.nthreads())
    data = client.submit(bytes, 300_000, workers=[there])
    assert client.submit(len, data, workers=[here]).result(30) == 300_000
    print(*sorted(client.nthreads()))
    client.shutdown()
"""


def test_no_shared_home(start, tmp_path, hosts):
    """One copied file or one variable lets hosts in; a stranger gets nothing; work goes on."""
    homes = {n: {"TWISTED_DIST_HOME": str(tmp_path / f"home{n}")} for n in range(1, 6)}
    scheduler = start("dscheduler", wrap=hosts.wrap[1], env=homes[1])
    scheduler.line("^Start scheduler at 192.168.0.1:8786")

    def daccess(*words):
        return subprocess.run(
            [*hosts.wrap[1], BIN / "daccess", *words],
            env={**os.environ, **homes[1]},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        ).stdout.strip()

    # host 2: the file that dscheduler left, copied to the same place
    left = tmp_path / "home1" / "192.168.0.1-8786.access"
    (tmp_path / "home2").mkdir(mode=0o700)
    shutil.copy(left, tmp_path / "home2")
    # host 3: a variable
    variable = {"TWISTED_DIST_ACCESS": daccess("join", "worker", "192.168.0.1:8786")}
    command = ("dworker", "192.168.0.1:8786", "--nthreads", "1")
    workers = [
        start(*command, wrap=hosts.wrap[2], env=homes[2]),
        start(*command, wrap=hosts.wrap[3], env={**homes[3], **variable}),
    ]
    for worker in workers:
        worker.line("^Registered with center at:  192.168.0.1:8786")

    join = daccess("join", "admin", "192.168.0.1:8786", "--name", "operator")
    owner = subprocess.Popen(
        [*hosts.wrap[5], sys.executable, "-c", OWNER],
        env={**os.environ, **homes[5], "TWISTED_DIST_ACCESS": join},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        addresses = owner.stdout.readline().split()
        assert [a.rpartition(":")[0] for a in addresses] == [hosts.address(2), hosts.address(3)]

        stranger = start(*command, wrap=hosts.wrap[4], env=homes[4])
        assert stranger.wait() == 1
        assert "no access to 192.168.0.1:8786" in stranger.output()[-1]
        tried = subprocess.run(
            [*hosts.wrap[4], sys.executable, "-W", "ignore", "-c", STRANGER]
            + ["192.168.0.1:8786", *addresses],
            env={**os.environ, **homes[4]},
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * PATIENCE_S,
        )
        assert tried.stdout == "nothing\n", tried.stderr

        told, _ = owner.communicate("go\n", timeout=2 * PATIENCE_S)
        assert owner.returncode == 0
        assert told.split() == addresses
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
        owner.stdin.close()
    for daemon in (scheduler, *workers):
        assert daemon.wait() == 0
        assert not any("Traceback" in line for line in daemon.output())
