"""``dcluster`` on real sshds, as its users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import sshd
from tests.support.daemons import PATIENCE_S, all_gone
from tests.support.sshkeys import make_key
from twisted_dist import Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sshd.available(), reason="needs OpenSSH's server"),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Four hosts, each with a home of its own for access files."""
    directory = tmp_path_factory.mktemp("hosts")
    homes = {"TWISTED_DIST_HOME": f"{directory}/home{{number}}"}
    with sshd.serving(directory / "sshds", 4, environment=homes) as four:
        yield four


@pytest.fixture
def cluster(start, hosts, tmp_path):
    """Starts dcluster with words, on any port, in a directory of its own."""

    def run(*words, port="0"):
        return start(
            "dcluster",
            *("--ssh-config", str(hosts.config), "--scheduler-port", port),
            *words,
            cwd=tmp_path,
            env={"COLUMNS": "200"},
        )

    yield run
    for host in hosts:
        assert all_gone(host.running()), f"{host.name}: {host.running()}"


def ready(daemon):
    """The scheduler's address, once all is up."""
    # hosts that fail are tried for a while
    return daemon.line(r'\d+ of \d+ workers; Client\("(.*)"\) uses them', 3 * PATIENCE_S)[1]


def end(daemon, how=signal.SIGINT):
    """Its exit status, once it was told to end."""
    daemon.process.send_signal(how)
    return daemon.wait()


def test_from_start_to_end(cluster, hosts):
    """Workers on all hosts, work, Ctrl-C, and nothing is left."""
    daemon = cluster("h1", "h2", "h3")
    address = ready(daemon)
    with Client(address) as client:
        assert sum(client.map(pow, range(100), [2] * 100)[9:10][0].result(30) for _ in "a") == 81
        names = {client.submit(os.getenv, "TD_HOST", key=w, workers=[w]) for w in client.nthreads()}
        assert {each.result(30) for each in names} == {"h1", "h2", "h3"}
    assert end(daemon) == 0
    text = "\n".join(daemon.output())
    assert "[ worker h2 ] : Registered with center at:" in text
    assert "Remote processes have been terminated. Exiting." in text
    assert not any(host.running() for host in hosts)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_told_to_end(cluster, hosts, how):
    """SIGTERM, a closed terminal, and kill -9 leave nothing either."""
    daemon = cluster("h1", "h2")
    ready(daemon)
    there = [each for host in hosts for each in host.running()]
    assert there
    assert end(daemon, how) == (-9 if how == signal.SIGKILL else 0)
    assert all_gone(there)


def test_end_while_starting(cluster, hosts):
    """Ctrl-C at any moment of the start leaves nothing."""
    for pause_s in (0.3, 0.8, 1.3, 1.8):
        daemon = cluster("h1", "h2", "h3")
        time.sleep(pause_s)
        assert end(daemon) in {0, -signal.SIGINT}
        assert all_gone([each for host in hosts for each in host.running()])


def test_what_dies_comes_back(cluster, hosts):
    """A worker, the scheduler, and a connection: each comes back, and no future is lost."""
    daemon = cluster("h1", "h2")
    address = ready(daemon)
    with Client(address) as client:
        futures = client.map(time.sleep, [0.05] * 400)
        for host, word in ((hosts[2], "dworker"), (hosts[1], "dscheduler")):
            [victim] = [each for each in host.running() if word in sshd.words_of(each)]
            victim.kill()
            daemon.line(r"ended by SIGKILL; it is started again")
        daemon.line(r"\[ scheduler h1 \] : Start scheduler at")
        hosts[2].kill_sessions()
        daemon.line(r"h2: lost:")
        daemon.line(r"\[ worker h2 \] : Registered with center")
        assert client.gather(futures) == [None] * 400
    assert end(daemon) == 0


def test_host_goes_and_comes_back(cluster, hosts):
    """A host that is down for a while has its worker again, and the rest works meanwhile."""
    daemon = cluster("h1", "h3")
    address = ready(daemon)
    hosts[3].kill()
    daemon.line(r"h3: lost:")
    with Client(address) as client:
        assert client.submit(pow, 3, 2).result(30) == 9
        hosts.start(3)
        daemon.line(r"\[ worker h3 \] : Registered with center")
        client.wait_for_workers(2, 30)
    assert end(daemon) == 0


def test_network_ends(cluster):
    """``client.shutdown()`` ends dcluster, too."""
    daemon = cluster("h1", "h2")
    with Client(ready(daemon)) as client:
        client.shutdown()
    assert daemon.wait() == 0
    assert any("the scheduler has ended" in line for line in daemon.output())


def test_hostfile_and_options(cluster, tmp_path, hosts):
    """Options for all, and lines of a hostfile, reach the workers; a host twice has two."""
    file = tmp_path / "hosts.txt"
    file.write_text(
        "# three of them\n"
        f"h2 nprocs=2 nthreads=3 env.TD_COLOUR='deep blue' resources='GPU=2'\n"
        f"h3 h3 name={'x'}\n".replace(" name=x", "")
        + "h4 name=bob role=worker\n"
    )
    daemon = cluster(
        *("--hostfile", str(file), "--scheduler", "h1", "--nthreads", "1"),
        *("--env", "TD_SHAPE=it's $HOME", "--remote-python", sys.executable),
    )
    with Client(ready(daemon)) as client:
        threads = client.nthreads()
        assert sorted(threads.values()) == [1, 1, 1, 3, 3]
        of_gpu = client.submit(os.getenv, "TD_COLOUR", resources={"GPU": 1})
        assert of_gpu.result(30) == "deep blue"
        assert client.submit(os.getenv, "TD_SHAPE", workers=["bob"]).result(30) == "it's $HOME"
    # two on h3 are two processes
    words = [sshd.words_of(each) for each in hosts[3].running()]
    assert sum("dworker" in each for each in words) == 2
    assert end(daemon) == 0


def test_log_directory(cluster, tmp_path):
    """Each daemon has a file there, and the terminal only what happens."""
    daemon = cluster("h1", "h2", "--log-directory", str(tmp_path / "logs"))
    with Client(ready(daemon)) as client:
        client.submit(print, "a line of a task", workers=None).result(30)
    assert end(daemon) == 0
    files = {each.name: each.read_text() for each in (tmp_path / "logs").iterdir()}
    assert [name.startswith("dscheduler_h1") for name in sorted(files)] == [True, False, False]
    assert "Start scheduler at" in next(text for name, text in files.items() if "sched" in name)
    both = files["dworker_h1.log"] + files["dworker_h2.log"]
    assert both.count("Registered with center") == 2
    assert "a line of a task" in both
    assert not any("a line of a task" in line for line in daemon.output())


def test_log_directory_that_is_full(cluster, tmp_path):
    """A full disk costs lines, is told once, and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    place = tmp_path / "full"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", place], check=True)
    try:
        daemon = cluster("h1", "h2", "--log-directory", str(place))
        with Client(ready(daemon)) as client:
            client.submit(print, "x\n" * 100_000).result(30)
            assert client.submit(pow, 3, 2).result(30) == 9
        assert end(daemon) == 0
        assert any("No space left on device; lines are lost" in line for line in daemon.output())
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_insecure(cluster):
    """--insecure is for scheduler and workers, and said loudly."""
    daemon = cluster("h1", "h2", "--insecure")
    with Client(ready(daemon), insecure=True) as client:
        assert client.submit(pow, 3, 2).result(30) == 9
    assert end(daemon) == 0
    assert any("INSECURE" in line for line in daemon.output())


def _old_package(directory: Path) -> Path:
    """A Python that has another version of this package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    [site] = directory.glob("lib/python3*/site-packages")
    (site / "twisted_dist").mkdir()
    (site / "twisted_dist/__init__.py").touch()
    (site / "twisted_dist/version.py").write_text('VERSION = "0.0.1"\n')
    return directory / "bin/python"


def test_hosts_that_fail(start, tmp_path):
    """Each host that cannot be used is named with its reason, and the rest works."""
    old = _old_package(tmp_path / "old")
    lines_of = {3: ["Ciphers aes256-gcm@openssh.com"], 4: ["AuthorizedKeysFile none"]}
    with sshd.serving(tmp_path / "sshds", 6, lines_of=lines_of) as hosts:
        hosts[2].kill()
        # as if a host had been set up anew, or somebody were in between
        other = make_key(tmp_path / "other")
        known = hosts.known_hosts.read_text().splitlines()
        theirs = f"{hosts[5].known_name} "
        changed = Path(f"{other}.pub").read_text().split()[:2]
        hosts.known_hosts.write_text(
            "\n".join(
                [each for each in known if not each.startswith(theirs)]
                + [" ".join([hosts[5].known_name, *changed]), ""]
            )
        )
        file = tmp_path / "hosts.txt"
        file.write_text(
            "h1\nh2\nh3\nh4\nh5\nno-such-host.invalid\n"
            f"127.0.0.16:{hosts[6].port} python=/no/such/python\n"
            f"localhost:{hosts[1].port}\n"
        )
        words = ("--ssh-config", str(hosts.config), "--scheduler-port", "0")
        daemon = start("dcluster", *words, "--hostfile", str(file), cwd=tmp_path)
        with Client(ready(daemon)) as client:
            assert client.submit(pow, 3, 2).result(30) == 9
        assert end(daemon) == 0
        text = "\n".join(daemon.output())
        for host, reason in {
            "h2": "refused",
            "h3": "aes256-gcm",
            "h4": "key",
            "h5": "HOST KEY HAS CHANGED",
            "no-such-host.invalid": "resolve",
            "127.0.0.16": "there is no Python /no/such/python",
            "localhost": "refused",
        }.items():
            [told] = [line for line in daemon.lines if f": {host}" in line and "failed:" in line]
            assert reason in told, text
        file.write_text(f"h1\nh6 python={old}\n")
        daemon = start("dcluster", *words, "--hostfile", str(file), "--require-all", cwd=tmp_path)
        assert daemon.wait() == 1
        text = "\n".join(daemon.output())
        assert "twisted_dist 0.0.1, and here" in text, text
        assert not any("Start scheduler" in line for line in daemon.lines)
