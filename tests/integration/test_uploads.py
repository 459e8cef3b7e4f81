"""Files and directories that clients give to real workers."""

import importlib
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from tests.support.daemons import PATIENCE_S, all_gone
from twisted_dist import (
    AsyncClient,
    Client,
    Nanny,
    ReactorThread,
    Scheduler,
    Worker,
    rpc,
    uploaded,
)
from twisted_dist.client.uploads import upload
from twisted_dist.errors import RefusedError, TaskKilledError, UsageProblem
from twisted_dist.execution.upload_rules import MAX_UPLOAD_BYTES

pytestmark = pytest.mark.slow


class Network:
    """A scheduler and workers, whose temporary files are in a directory of their own."""

    def __init__(self, start, tmp_path):
        self._start = start
        self.temporary = tmp_path / "temporary"
        self.temporary.mkdir()
        self.scheduler = start("dscheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self.scheduler.address("^Start scheduler at")
        self.workers = []

    def worker(self, name, *options):
        """Start one more."""
        env = {"TMPDIR": str(self.temporary)}
        command = ("dworker", self.address, "--nthreads", "2", "--name", name, *options)
        self.workers.append(self._start(*command, env=env))
        self.workers[-1].line("^Registered with center at:")
        return self.workers[-1]

    def left(self):
        """What is in the directory for temporary files."""
        return [each.name for each in self.temporary.iterdir()]


@pytest.fixture
def network(start, tmp_path):
    """A scheduler, and no worker yet."""
    return Network(start, tmp_path)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A directory from which this process imports, and workers do not."""
    made = tmp_path / "source"
    made.mkdir()
    monkeypatch.syspath_prepend(made)
    yield made
    for name in [each for each in sys.modules if each.partition(".")[0].startswith("upl_")]:
        del sys.modules[name]


def call(module, function="f", *args):
    """Import a module in the task, and call a function of it."""
    return getattr(importlib.import_module(module), function)(*args)


def read(name, *more):
    """A data file's text."""
    return Path(uploaded(name), *more).read_text()


def pid():
    """The process that runs tasks."""
    return os.getpid()


def on_each(client, names, function, *args):
    """What each worker's task gives."""
    futures = [client.submit(function, *args, workers=[each]) for each in names]
    return [each.result(PATIENCE_S) for each in futures]


@pytest.mark.parametrize("options", [(), ("--no-nanny",)])
def test_a_module(network, source, options):
    """`Client.upload_file` has tasks everywhere import a module, and what takes its place.

    On a later worker too, by whichever way they refer to it; nothing is left when workers end.
    """
    for name in ("a", "b"):
        network.worker(name, *options)
    file = source / "upl_mod.py"
    file.write_text("X = 1\ndef f(): return X\n")
    import upl_mod

    with Client(network.address) as client:
        with pytest.raises(ModuleNotFoundError):
            client.submit(upl_mod.f).result(PATIENCE_S)
        client.upload_file(file)
        assert on_each(client, "ab", upl_mod.f) == [1, 1]
        assert on_each(client, "ab", call, "upl_mod") == [1, 1]
        network.worker("c", *options)
        assert on_each(client, "abc", upl_mod.f) == [1, 1, 1]
        file.write_text("X = 2\ndef f(): return X\n")
        client.upload_file(str(file))
        assert on_each(client, "abc", upl_mod.f) == [2, 2, 2]  # the same pickle as before
        assert on_each(client, "abc", call, "upl_mod") == [2, 2, 2]
        assert len(network.left()) == 3
    for each in network.workers:
        each.process.send_signal(signal.SIGTERM)
        assert each.wait() == 0
    assert network.left() == []


def test_a_child_that_ends(network, source):
    """A nanny's child that was killed, or has ended itself, has a successor with all uploads."""
    network.worker("a")
    (source / "upl_mod.py").write_text("import os\ndef f(): return 5\ndef end(): os._exit(1)\n")
    (source / "data.csv").write_text("1,2")
    with Client(network.address) as client:
        client.upload_file(source / "upl_mod.py")
        client.upload_file(source / "data.csv")
        old = client.submit(pid).result(PATIENCE_S)
        os.kill(old, signal.SIGKILL)
        assert all_gone([psutil.Process(old)] if psutil.pid_exists(old) else [])
        assert client.submit(call, "upl_mod").result(PATIENCE_S) == 5
        assert client.submit(pid).result(PATIENCE_S) != old
        with pytest.raises(TaskKilledError):
            client.submit(call, "upl_mod", "end").result(PATIENCE_S)
        assert client.submit(read, "data.csv").result(PATIENCE_S) == "1,2"
        assert len(network.left()) == 1  # those of children that have ended are gone


def test_a_nanny_that_is_killed(network, source):
    """What a nanny that was killed has left is removed when the next one starts."""
    worker = network.worker("a")
    (source / "data.csv").write_text("1,2")
    with Client(network.address) as client:
        client.upload_file(source / "data.csv")
        family = worker.family()
        left = network.left()
        worker.process.kill()
        assert all_gone(family)
        assert network.left() == left != []
        network.worker("b")
        assert client.submit(read, "data.csv").result(PATIENCE_S) == "1,2"
        assert len(network.left()) == 1
        assert network.left() != left


def test_directories_and_archives(network, source):
    """`Client.upload_directory`: packages, directories of modules and of data; and archives."""
    network.worker("a")
    network.worker("b", "--no-nanny")
    package = source / "upl_pack"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sub" / "__init__.py").write_text("")
    deep = package / "sub" / "deep.py"
    (package / "table.txt").write_text("table")
    plain = source / "scripts"
    plain.mkdir()
    (plain / "upl_script.py").write_text("def f(): return 'script'\n")
    with zipfile.ZipFile(source / "lib.zip", "w") as archive:
        archive.writestr("upl_zipped.py", "def f(): return 'zipped'\n")
    with Client(network.address) as client:
        for value in (1, 2):
            deep.write_text(f"def f(): return {value}\n")
            client.upload_directory(package)
            assert on_each(client, "ab", call, "upl_pack.sub.deep") == [value] * 2
        assert on_each(client, "ab", read, "upl_pack", "table.txt") == ["table"] * 2
        client.upload_directory(plain)
        assert on_each(client, "ab", call, "upl_script") == ["script"] * 2
        client.upload_file(source / "lib.zip")
        assert on_each(client, "ab", call, "upl_zipped") == ["zipped"] * 2


def test_large_files(network, source):
    """`Client.upload_file` sends megabytes in pieces, once, while workers compute."""
    network.worker("a")
    file = source / "large.bin"
    file.write_bytes(os.urandom(20 * 2**20))
    with Client(network.address) as client:
        busy = client.map(time.sleep, [0.01] * 100, key="busy")
        client.upload_file(file)
        size = client.submit(lambda: os.stat(uploaded("large.bin")).st_size)
        assert size.result(PATIENCE_S) == 20 * 2**20
        asked = client.session._questions._last
        with Client(network.address) as other:
            other.upload_file(file)
            assert other.session._questions._last == 1
        assert client.session._questions._last == asked
        client.gather(busy)


def test_what_is_refused(network, source):
    """`Client.upload_file` refuses what is too large, no file, or called what it must not."""
    network.worker("a")
    with open(source / "huge.bin", "wb") as file:
        file.truncate(MAX_UPLOAD_BYTES + 1)
    for name in ("os.py", "a b.py"):
        (source / name).write_text("")
    (source / "bad.zip").write_text("no archive")
    with Client(network.address) as client:
        with pytest.raises(UsageProblem, match=r"huge\.bin takes 64\.0 MiB, more than 64: scatter"):
            client.upload_file(source / "huge.bin")
        with pytest.raises(UsageProblem, match="would hide"):
            client.upload_file(source / "os.py")
        with pytest.raises(UsageProblem, match="cannot be imported"):
            client.upload_file(source / "a b.py")
        with pytest.raises(UsageProblem, match=r"upload_directory\(\) it"):
            client.upload_file(source)
        with pytest.raises(FileNotFoundError):
            client.upload_file(source / "nowhere.py")
        with pytest.raises(RefusedError, match=r"^bad\.zip could not be had by a: it is no zip"):
            client.upload_file(source / "bad.zip")
        for name in ("../evil.py", "/etc/evil", "a/b", "..", "os.py"):  # past the client's checks
            with pytest.raises(RefusedError, match=r"cannot be the name|would hide"):
                client.run_coroutine(upload, client.session, name, b"", 10.0)
        assert client.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_restart_forgets(network, source):
    """`Client.restart` undoes uploads, in a nanny and without one."""
    network.worker("a")
    network.worker("b", "--no-nanny")
    (source / "upl_mod.py").write_text("def f(): return 1\n")
    with Client(network.address) as client:
        client.upload_file(source / "upl_mod.py")
        assert on_each(client, "ab", call, "upl_mod") == [1, 1]
        client.restart()
        for each in "ab":
            with pytest.raises(ModuleNotFoundError):
                client.submit(call, "upl_mod", workers=[each]).result(PATIENCE_S)
        client.upload_file(source / "upl_mod.py")
        assert on_each(client, "ab", call, "upl_mod") == [1, 1]


def test_a_scheduler_that_goes(network, source, start):
    """Workers forget what a scheduler has had when another takes its place."""
    worker = network.worker("a")
    (source / "upl_mod.py").write_text("def f(): return 1\n")
    with Client(network.address) as client:
        client.upload_file(source / "upl_mod.py")
        assert client.submit(call, "upl_mod").result(PATIENCE_S) == 1
    rpc(network.address).terminate()
    assert network.scheduler.wait() == 0
    port = network.address.rpartition(":")[2]
    start("dscheduler", "--host", "127.0.0.1", "--port", port).address("^Start scheduler at")
    worker.line("^Registered with center at:")
    with Client(network.address) as client, pytest.raises(ModuleNotFoundError):
        client.submit(call, "upl_mod").result(PATIENCE_S)


@pytest.mark.parametrize("kind", [Worker, Nanny])
def test_in_one_reactor(kind, tmp_path):
    """`AsyncClient.upload_file` in the reactor of a worker, which leaves nothing in the process."""
    (tmp_path / "upl_here.py").write_text("def f(): return 1\n")
    path = list(sys.path)
    with ReactorThread() as loop:

        async def work():
            scheduler = Scheduler(reactor=loop.reactor, host="127.0.0.1")
            address = await scheduler.start(0)
            worker = kind(address, reactor=loop.reactor, nthreads=2, host="127.0.0.1")
            await worker.start(0)
            client = await AsyncClient(address, reactor=loop.reactor).start()
            await client.upload_file(tmp_path / "upl_here.py")
            value = await client.submit(call, "upl_here").result(PATIENCE_S)
            await client.close()
            await worker.stop()
            await scheduler.stop()
            return value

        assert loop.call(work) == 1
        assert loop.call(loop.reactor.getDelayedCalls) == []
    assert sys.path == path
    assert "upl_here" not in sys.modules
