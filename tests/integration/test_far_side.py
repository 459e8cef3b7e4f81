"""Commands, probes and shipments on real hosts, by both clients."""

import os
import subprocess
import sys
import sysconfig

import pytest

from tests.integration.test_ssh_contract import World, by_conch, by_openssh
from tests.support.daemons import PATIENCE_S
from tests.support.misdeeds import until
from tests.support.sshd import available, serving
from twisted_dist import Client, ReactorThread
from twisted_dist.access.home import machine_name
from twisted_dist.access.network import Network
from twisted_dist.access.roles import ADMIN, WORKER
from twisted_dist.errors import SSHError
from twisted_dist.launchers.far_side import probe
from twisted_dist.launchers.far_side.bootstrap import ship
from twisted_dist.launchers.far_side.bundle import bundle_for
from twisted_dist.launchers.far_side.command import Surroundings, remote_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs OpenSSH's server"),
]


@pytest.fixture(scope="module")
def sshds(tmp_path_factory):
    """Two hosts, with a home of access files each, and one cache."""
    directory = tmp_path_factory.mktemp("far")
    environment = {
        "TWISTED_DIST_HOME": f"{directory}/home{{number}}",
        "XDG_CACHE_HOME": f"{directory}/cache",
    }
    with serving(directory / "d", 2, environment=environment) as found:
        yield found


@pytest.fixture(params=[by_conch, by_openssh], ids=["conch", "openssh"])
def world(request, sshds):
    """A client that can enter them."""
    with ReactorThread() as loop:
        found = World(loop, sshds, request.param)
        yield found
        found.run(found.close)
    for each in sshds:
        until(lambda host=each: host.running() == [])


#: a Python that has nothing of ours
BARE = next(
    (each for each in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(each)), ""
)


def lacks_all(python):
    """Whether a Python is new enough, of this one's kind, and has not got this package."""
    test = "import sys, sysconfig; print(sysconfig.get_config_var('SOABI')); import twisted_dist"
    if not python:
        return False
    done = subprocess.run(
        [python, "-E", "-c", test], capture_output=True, text=True, check=False, cwd="/"
    )
    return bool(done.returncode) and done.stdout.strip() == sysconfig.get_config_var("SOABI")


bare = pytest.mark.skipif(not lacks_all(BARE), reason="has no other Python of this version")


async def asked(world, connection, surroundings, **request):
    """A host's report."""
    command = remote_command(probe.arguments(**request), surroundings)
    ending, output, errors = await world.ask(connection, command)
    return probe.read(output, errors, ending)


def test_report(world, sshds):
    """A host says what it has, by the Python that is here and there."""

    async def work():
        here = Surroundings(here=sys.executable, env={"A": "it's $HOME!"})
        connection = await world.enter()
        return await asked(world, connection, here, ports=[(sshds[1].address, sshds[1].port)])

    report = world.run(work)
    assert report.executable == sys.executable
    assert report.addresses[0] == sshds[1].address
    assert list(report.ports.values()) != [""]
    wanted = probe.Wanted(python=sys.version_info[:2])
    assert [each.column for each in probe.problems(report, wanted)] == ["port"]


def test_no_python(world):
    """A host without the Python that was named says so."""

    async def work():
        return await asked(world, await world.enter(), Surroundings(python="/no/python"))

    with pytest.raises(SSHError, match="there is no Python /no/python"):
        world.run(work)


class Running:
    """A daemon on a host, and what it says."""

    def __init__(self):
        self.said = ""
        self.command = None
        self.ending = None

    async def start(self, connection, surroundings, *words, line):
        """With a first line of standard input."""
        command = remote_command(["-m", "twisted_dist.cli", *words], surroundings)
        self.command = await connection.start(command, self.hear, self.hear)
        self.command.write(f"{line}\n".encode())
        self.command.ended().addCallback(lambda ending: setattr(self, "ending", ending))

    def hear(self, data):
        """Output and errors alike."""
        self.said += data.decode()


@bare
def test_from_nothing(world, sshds):
    """Hosts that have only a Python get the package, run daemons, and lose them with the link."""
    surroundings = Surroundings(python=BARE)
    network = Network.make()
    address = f"{sshds[1].address}:28786"

    async def prepare():
        found = []
        for number in (1, 2):
            connection = await world.enter(number)
            report = await asked(world, connection, surroundings)
            wanted = probe.Wanted(python=report.python[:2])
            (problem,) = probe.problems(report, wanted)
            assert problem.column == "package"
            bundle = bundle_for(report.platform, report.abi)
            assert bundle.is_complete
            shipped = await ship(connection, surroundings, bundle)
            # they share a cache
            assert shipped.is_new <= (number == 1)
            found.append((connection, shipped.surroundings(surroundings)))
        return found

    async def start(prepared):
        access = network.access([address], machine_name(), [network.owned[WORKER]])
        stdin = ("--until-stdin-closes", "--stdin-silence=30")
        scheduler, worker = Running(), Running()
        await scheduler.start(
            *prepared[0], "dscheduler", f"--host={sshds[1].address}", "--port=28786",
            "--network-file=-", *stdin, line=network.line(),
        )  # fmt: skip
        await worker.start(
            *prepared[1], "dworker", address, f"--host={sshds[2].address}",
            "--access-file=-", *stdin, line=access.join_string(),
        )  # fmt: skip
        return scheduler, worker

    prepared = world.run(prepare)
    scheduler, worker = world.run(start, prepared)
    until(lambda: "Registered with center" in worker.said)
    access = network.access([address], machine_name(), [network.owned[ADMIN]])
    with Client(address, access=access) as client:
        assert client.submit(lambda x: x + 1, 2).result(PATIENCE_S) == 3
    assert all(each.running() for each in sshds)
    for each in sshds:
        each.kill_sessions()
    for each in sshds:
        until(lambda host=each: host.running() == [])
    until(lambda: scheduler.ending and worker.ending)
