"""Closed by default, as users meet it: who gets in, who does not, and what each is told."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.daemons import BIN, PATIENCE_S
from twisted_dist import Client, errors, rpc
from twisted_dist.access.access import Access
from twisted_dist.access.home import Home, read_secret
from twisted_dist.access.network import Network

pytestmark = pytest.mark.slow

#: a Python that ends when anything is unpickled in it, running the command that follows
POISONED = """
import _pickle, pickle, os, sys
def poison(*args, **kwargs):
    os.write(2, b"something was unpickled\\n")
    os._exit(66)
class Poison:
    __init__ = poison
for module in (pickle, _pickle):
    module.load = module.loads = poison
    module.Unpickler = Poison
pickle._loads = pickle._load = poison
pickle._Unpickler = Poison
import cloudpickle
cloudpickle.load = cloudpickle.loads = poison
from twisted_dist.cli import main
sys.exit(getattr(main, sys.argv.pop(1))())
"""


def free_port():
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def elsewhere(tmp_path):
    """Variables of another user, or another machine: nothing is in that home."""
    return {"TWISTED_DIST_HOME": str(tmp_path / "elsewhere")}


@pytest.fixture
def address(start):
    """A scheduler on a port that it would have again; it runs."""
    return start("dscheduler", "--host", "127.0.0.1", "--port", free_port()).address(
        "^Start scheduler at"
    )


def daccess(*words):
    """What ``daccess`` prints; it must succeed."""
    told = subprocess.run(
        [BIN / "daccess", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def made(role, address, name):
    """An access made for *role*."""
    return Access.load(daccess("make", role, address, "--name", name))


def test_without_an_access(start, address, elsewhere, monkeypatch):
    """A worker and a client with none end at once, with one line that says what to do."""
    worker = start("dworker", address, env=elsewhere)
    assert worker.wait() == 1
    first, line = worker.output()
    assert first.startswith("Start worker at:")
    for words in (f"dworker: cannot start: no access to {address}", "--access-file", "--insecure"):
        assert words in line
    monkeypatch.setenv("TWISTED_DIST_HOME", elsewhere["TWISTED_DIST_HOME"])
    began = time.monotonic()
    with pytest.raises(errors.AccessError, match=r"no access to .* TWISTED_DIST_ACCESS"):
        Client(address)
    with pytest.raises(errors.AccessError, match="no access to"):
        rpc(address).terminate()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("form", ["file", "variable", "join string"])
def test_one_file_or_one_variable(start, address, elsewhere, tmp_path, form):
    """With one access file or one variable, a worker elsewhere joins, and work is done there."""
    owner = made("admin", address, "before")
    file = tmp_path / "some.access"
    daccess("make", "worker", address, "--name", form, "--output", str(file))
    access = Access.load(read_secret(file))
    env, options = dict(elsewhere), []
    if form == "file":
        options = ["--access-file", str(file)]
    elif form == "variable":
        env["TWISTED_DIST_ACCESS"] = str(file)
    else:
        env["TWISTED_DIST_ACCESS"] = access.join_string()
    worker = start("dworker", address, "--nthreads", "1", *options, env=env)
    worker.line("^Registered with center")
    with Client(address) as client:
        assert client.submit(os.environ.get, "TWISTED_DIST_ACCESS").result(20) is None
        assert client.submit(sum, client.map(abs, range(-9, 9))).result(20) == 81
        # a worker whose certificate is younger than the access that asks for it
        for asking in (None, owner):
            assert rpc(min(client.nthreads()), access=asking).identity()["type"] == "nanny"
    for process in worker.family():
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        assert access.join_string() not in environment
        assert str(file) not in environment


def test_files_that_do_not_serve(start, address, tmp_path):
    """An access file that is missing, open to others, or none: one line, status 1."""
    (tmp_path / "open").write_text(daccess("make", "worker", address, "--name", "open"))
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "none").write_text("{}")
    (tmp_path / "none").chmod(0o600)
    for name, words in (("open", "chmod 600"), ("none", "no access file"), ("no", "No such file")):
        worker = start("dworker", address, "--access-file", str(tmp_path / name))
        assert worker.wait() == 1
        (line,) = worker.output()
        assert words in line
        assert str(tmp_path / name) in line


def test_roles(start, address, home):
    """Each role does what it may and is told, by name, what it may not."""
    start("dworker", address, "--nthreads", "1").line("^Registered")
    with Client(address, access=made("submit", address, "alice")) as client:
        (worker,) = client.nthreads()
        assert client.submit(pow, 2, 10).result(20) == 1024
        data = client.scatter([1, 2, 3])
        assert client.gather(data) == [1, 2, 3]
        with pytest.raises(errors.RefusedError, match=r"needs .* admin, and this one is for sub"):
            client.shutdown()
        with pytest.raises(errors.RefusedError, match="needs an admin's access: it ends workers"):
            client.retire_workers(n=1)
    for role, words in (("worker", "admin or submit is needed"), ("read-only", "daccess make")):
        access = made(role, address, role)
        with pytest.raises(errors.AccessError, match=words):
            Client(address, access=access)
        assert rpc(address, access=access).identity()["workers"] == 1
        for daemon in (address, worker):
            with pytest.raises(errors.RefusedError, match=f"and this one is for {role}"):
                rpc(daemon, access=access).terminate()
    assert rpc(worker).identity()["type"] == "nanny"  # the owner's own, found in the home


def test_a_worker_where_a_scheduler_was(start, address):
    """`rpc` finds a worker whose port a scheduler of another network once had."""
    port = free_port()
    earlier = start("dscheduler", "--host", "127.0.0.1", "--port", port)
    rpc(earlier.address("^Start scheduler at")).terminate()
    assert earlier.wait() == 0
    worker = start("dworker", address, "--worker-port", port, "--no-nanny")
    worker.line("^Registered")
    assert rpc(f"127.0.0.1:{port}").identity()["type"] == "worker"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["make"], "the following arguments are required: role"),
        (["make", "king"], "invalid choice: 'king'"),
        (["make", "worker", "1.2.3.4"], "'1.2.3.4' is not HOST:PORT"),
        (["make", "worker", "h:1", "--expires", "soon"], "'soon' is no duration"),
        (["make", "worker"], "no scheduler of this user"),
        (["revoke", "alice", "192.168.0.7:1"], "no access to 192.168.0.7:1"),
    ],
)
def test_daccess_says_what_is_wrong(words, told, elsewhere):
    """`daccess` answers what cannot be meant or done by one line and a status that is not 0."""
    ended = subprocess.run(
        [BIN / "daccess", *words],
        env={**os.environ, **elsewhere},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("daccess")
    assert told in line


def test_changes_at_the_same_time(address):
    """`daccess` from many processes at once loses no credential."""
    command = [BIN / "daccess", "make", "worker", address]
    making = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(12)]
    assert [each.wait(PATIENCE_S) for each in making] == [0] * 12
    names = [line.split()[0] for line in daccess("show", address).splitlines()[1:]]
    assert {f"worker-{n}" for n in range(1, 13)} <= set(names)


def test_revoked(start, address):
    """A revoked credential's connections end within seconds; it is told so when it returns."""
    start("dworker", address, "--nthreads", "2").line("^Registered")
    access = made("submit", address, "alice")
    with Client(address) as owner, Client(address, access=access) as alice:
        future = alice.submit(time.sleep, 60)
        daccess("revoke", "alice", address)
        with pytest.raises(errors.ConnectionClosedError):
            future.result(20)
        assert owner.submit(abs, -1).result(20) == 1
        assert "revoked" in daccess("show", address)
    with pytest.raises(errors.RefusedError, match="'alice' was revoked"):
        Client(address, access=access)


def test_expired(start, address):
    """A credential that has expired is told so."""
    access = Access.load(daccess("make", "submit", address, "--name", "a", "--expires", "1s"))
    time.sleep(1.1)
    with pytest.raises(errors.RefusedError, match="'a' has expired; ask"):
        Client(address, access=access)


def test_another_network(start, address):
    """The access of one network does not open another, and nothing is sent there."""
    access = made("submit", address, "alice")
    other = start("dscheduler", "--host", "127.0.0.1", "--port", free_port()).address(
        "^Start scheduler at"
    )
    with pytest.raises(errors.AccessError, match="is not the scheduler that this access is for"):
        Client(other, access=access)


@pytest.mark.parametrize("which", ["scheduler", "others"])
def test_insecure_on_one_side(start, address, which):
    """Where one side has --insecure and the other not, both are told at once."""
    if which == "scheduler":
        address = start("dscheduler", "--host", "127.0.0.1", "--port", "0", "--insecure").address(
            "^Start scheduler at"
        )
        options, words = ["--access-file", "FILE"], "needs --insecure"
        Path("FILE").unlink(missing_ok=True)
        network = Network.make()
        access = network.access([address], "m", network.owned.values())
        options = []
        with pytest.raises(errors.AccessError, match="does not speak TLS"):
            Client(address, access=access)
        worker = start("dworker", address, env={"TWISTED_DIST_ACCESS": access.join_string()})
    else:
        words = "leave --insecure"
        with pytest.raises(errors.AccessError, match=words):
            Client(address, insecure=True)
        options = ["--insecure"]
        worker = start("dworker", address, *options)
    assert worker.wait() == 1
    assert words in worker.output()[-1]


def test_insecure_on_both_sides(start):
    """--insecure works, and says loudly what it means, on every side."""
    scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", "0", "--insecure")
    scheduler.line("INSECURE: no TLS and no credentials")
    address = scheduler.address("^Start scheduler at")
    worker = start("dworker", address, "--insecure")
    worker.line("INSECURE")
    worker.line("^Registered")
    with pytest.warns(errors.InsecureWarning, match="neither TLS nor a credential"):
        client = Client(address, insecure=True)
    with client:
        assert client.submit(sum, client.map(abs, range(-9, 9))).result(20) == 81
    assert rpc(address, insecure=True).terminate() == "OK"
    assert scheduler.wait() == 0


def test_a_restarted_scheduler_is_the_same(start):
    """After kill -9, a scheduler on its address takes its workers and clients in as before."""
    port = free_port()
    command = ("dscheduler", "--host", "127.0.0.1", "--port", port)
    scheduler = start(*command)
    address = scheduler.address("^Start scheduler at")
    worker = start("dworker", address, "--nthreads", "1")
    worker.line("^Registered")
    alice = made("submit", address, "alice")
    scheduler.process.kill()
    scheduler.wait()
    start(*command).line("^Start scheduler at")
    worker.line("^Registered")
    with Client(address, access=alice) as client:
        assert client.submit(abs, -3).result(20) == 3


def test_nothing_is_unpickled(start):
    """Scheduler and nanny carry a whole workload with pickle and cloudpickle poisoned."""
    scheduler = start("python", "-c", POISONED, "dscheduler", "--host", "127.0.0.1", "--port", "0")
    address = scheduler.address("^Start scheduler at")
    workers = [start("python", "-c", POISONED, "dworker", address, "--nthreads", "1") for _ in "ab"]
    for worker in workers:
        worker.line("^Registered")
    with Client(address) as client:
        xs = client.map(lambda x: x * x, range(2000))
        assert client.submit(sum, xs).result(30) == sum(x * x for x in range(2000))
        with pytest.raises(ZeroDivisionError):
            client.submit(divmod, 1, 0).result(20)
        data = client.scatter({"a": b"x" * 200_000, "b": [1, 2]})
        assert client.submit(len, data["a"]).result(20) == 200_000
        here = client.submit(bytes, 300_000, workers=[min(client.nthreads())])
        there = client.submit(len, here, workers=[max(client.nthreads())])
        assert there.result(20) == 300_000
        slow = client.map(time.sleep, [0.2] * 20)
        client.cancel(slow)
        assert client.submit(os._exit, 3).exception(30) is not None
        assert client.submit(abs, -1).result(20) == 1
        assert len(client.who_has(xs)) == len(xs)
        assert [len(each) for each in client.run(bytes, 300_000).values()] == [300_000] * 2
        with pytest.raises(ZeroDivisionError):
            client.run(divmod, 1, 0)
        client.shutdown()
    for daemon in (scheduler, *workers):
        assert daemon.wait() == 0


def test_no_secret_is_seen(start, tmp_path):
    """No secret is in a command line, an environment, or a log with everything in it."""
    home = {"TWISTED_DIST_HOME": str(tmp_path / "home")}
    port = free_port()
    address = f"127.0.0.1:{port}"
    form = ("twist", "--log-level", "debug")
    scheduler = start(
        *form, "dscheduler", "--host", "127.0.0.1", "--port", port, env=home, cwd=tmp_path
    )
    scheduler.line("Start scheduler at")
    files = Home(Path(home["TWISTED_DIST_HOME"]))
    network = files.load_network(address)
    access = network.access([address], "m", [network.owned["worker"]])
    word = access.join_string()
    worker = start(*form, "dworker", address, env={"TWISTED_DIST_ACCESS": word}, cwd=tmp_path)
    worker.line("Registered with center")
    owner = Access.load(read_secret(files.access_path(address)))
    stranger = Network.make().access([address], "m", Network.make().owned.values())
    with Client(address, access=owner) as client:
        with pytest.raises(ZeroDivisionError):
            client.submit(divmod, 1, 0).result(20)
        with pytest.raises(errors.TwistedDistError) as caught:
            Client(address, access=stranger)
        told = [repr(client), repr(owner), repr(caught.value), str(caught.value)]
        for process in (*scheduler.family(), *worker.family()):
            told += process.cmdline()
            told.append(Path(f"/proc/{process.pid}/environ").read_text())
        client.shutdown()
    told += scheduler.output() + worker.output()
    assert any("Terminate" in line or "terminat" in line for line in told) or len(told) > 20
    secrets = [word, word[8:80]]
    for each in (network.key, *network.owned.values(), *stranger.credentials.values()):
        secret = each.reveal()
        secrets += [secret.hex(), repr(secret)[2:-1], each.pem().decode().splitlines()[1]]
        text = files.network_path(address).read_text() + stranger.dump()
        secrets += [line for line in text.split('"') if line and _is_secret(line, secret)]
    for secret in secrets:
        assert not [line for line in told if secret in line]


def _is_secret(text, secret):
    import base64

    return base64.urlsafe_b64encode(secret).decode().rstrip("=") == text
