"""Shipping this package to a host that has not got it."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest
from twisted.internet.defer import Deferred, succeed

from twisted_dist.errors import SSHError, UsageProblem
from twisted_dist.launchers.far_side import bootstrap, bundle
from twisted_dist.launchers.far_side.bootstrap import MARKER, Shipment, arguments, ship
from twisted_dist.launchers.far_side.bundle import Bundle, complete_bundle, package_bundle
from twisted_dist.launchers.far_side.command import Surroundings, remote_command
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.version import VERSION

DONE = Ending(How.EXITED, 0)
HERE = Surroundings(python=sys.executable)


def packed(files, **more):
    """A bundle of some files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made(data.getvalue(), **more)


def made(data, name="1-abc", requirements=()):
    """A bundle of some bytes."""
    return Bundle(name, data, hashlib.sha256(data).hexdigest(), requirements)


class Command:
    """A process in place of one on a host."""

    def __init__(self, command, home, output, errors):
        self.process = subprocess.Popen(
            ["sh", "-c", f"echo noise; {command}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        self.output, self.errors = output, errors
        self.written = b""

    def write(self, data):
        """Kept until the end of input."""
        self.written += data

    def end_input(self):
        """Nothing more comes."""

    def ended(self):
        """All its life at once."""
        # what it wants it says first; then it waits
        while b'"send"' not in (line := self.process.stdout.readline()) and line:
            self.output(line)
        self.output(line)
        rest, errors = self.process.communicate(self.written, timeout=100)
        self.output(rest)
        self.errors(errors)
        status = self.process.returncode
        return succeed(Ending(How.EXITED, status))


class Connection:
    """Starts processes here, in a home directory of its own."""

    def __init__(self, home):
        self.home = home
        self.commands = []

    async def start(self, command, output, errors):
        """As `ssh.interface.Connection` has it."""
        self.commands.append(Command(command, self.home, output, errors))
        return self.commands[-1]


def shipped(home, what, surroundings=HERE):
    """What `ship` gives, or its failure."""
    results = []
    Deferred.fromCoroutine(ship(Connection(home), surroundings, what)).addBoth(results.append)
    (result,) = results
    if isinstance(result, Exception) or hasattr(result, "raiseException"):
        result.raiseException()
    return result


@pytest.fixture
def easy(monkeypatch):
    """What must run there is not the daemons."""
    monkeypatch.setattr(bootstrap, "CHECK", "import mine; assert mine.X == 1")


GOOD = {"mine/__init__.py": b"X = 1\n", "mine/data/x": b"\0" * 10}


def left(home):
    """Names in the cache."""
    return sorted(each.name for each in (home / ".cache/twisted_dist").iterdir())


def test_sent_once(tmp_path, easy):
    """`ship` sends it where it is not there, under its name, and not again."""
    first = shipped(tmp_path, packed(GOOD))
    assert first.is_new
    assert first.python == sys.executable
    assert first.path == str(tmp_path / ".cache/twisted_dist/1-abc/site")
    assert (tmp_path / ".cache/twisted_dist").stat().st_mode & 0o777 == 0o700
    again = shipped(tmp_path, packed(GOOD))
    assert (again.path, again.is_new) == (first.path, False)
    assert left(tmp_path) == ["1-abc"]


def test_damaged(tmp_path, easy):
    """`ship` sends it again where a file is gone or cut."""
    site = tmp_path / ".cache/twisted_dist/1-abc/site"
    shipped(tmp_path, packed(GOOD))
    (site / "mine/data/x").unlink()
    assert shipped(tmp_path, packed(GOOD)).is_new
    (site / "mine/data/x").write_bytes(b"\0")
    assert shipped(tmp_path, packed(GOOD)).is_new
    assert (site / "mine/data/x").read_bytes() == b"\0" * 10
    assert left(tmp_path) == ["1-abc"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (made(b"no archive"), "the archive cannot be read"),
        (packed({"mine/__init__.py": b"X = 2\n"}), "it does not run there: .*AssertionError"),
        (packed({"../out": b""}), "the archive has '../out'"),
        (packed({"/out": b""}), "the archive has '/out'"),
        (packed({"a/./b": b""}), "the archive has"),
        (packed({"mine/zero": b"\0" * 50_000_000}), "larger than it could be"),
    ],
)
def test_refused_there(tmp_path, easy, what, why):
    """A host takes no archive that is not ours or does not run, and keeps nothing of it."""
    with pytest.raises(SSHError, match=f"^--bootstrap: .*({why})") as caught:
        shipped(tmp_path, what)
    assert caught.value.kind == "command"
    assert left(tmp_path) == []
    assert not (tmp_path / ".cache/out").exists()


def test_cut(tmp_path, easy):
    """A host keeps nothing of an archive that did not come whole."""
    what = packed(GOOD)
    command = Command(
        remote_command(arguments(what), HERE), tmp_path, Shipment(what).feed, lambda _: None
    )
    command.write(what.data[:-1])
    said = []
    command.output = said.append
    command.ended()
    assert b"of the archive, %d of %d bytes came" % (
        len(what.data) - 1,
        len(what.data),
    ) in b"".join(said)
    assert left(tmp_path) == []


def test_open_cache(tmp_path, easy):
    """A host does not use a directory that others can write to."""
    cache = tmp_path / ".cache/twisted_dist"
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(SSHError, match="can be written by others"):
        shipped(tmp_path, packed(GOOD))


def test_requirements(tmp_path, easy):
    """Where not all is sent, pip there installs the rest beside it."""
    wheel = tmp_path / "needed-1-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: needed\nVersion: 1\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("needed.py", "X = 1\n")
        file.writestr("needed-1.dist-info/METADATA", about)
        file.writestr(
            "needed-1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr("needed-1.dist-info/RECORD", "")
    what = packed({"mine/__init__.py": b"from needed import X\n"}, requirements=(str(wheel),))
    found = shipped(tmp_path, what)
    assert os.path.exists(f"{found.path}/needed.py")
    missing = packed(GOOD, name="2", requirements=(str(tmp_path / "no.whl"),))
    with pytest.raises(SSHError, match=r"pip install: .*no\.whl"):
        shipped(tmp_path, missing)
    assert left(tmp_path) == ["1-abc"]


@pytest.mark.parametrize(
    ("output", "errors", "ending", "why"),
    [
        (b"", b"sh: no python3", Ending(How.EXITED, 127), "it says: sh: no python3"),
        (b"", b"", Ending(How.LOST, reason="cut"), "connection was lost: cut"),
        (f"{MARKER}{{]\n".encode(), b"", DONE, "no Python answers"),
        (f'{MARKER}{{"state": "failed", "why": "/x: \\u001b full"}}\n'.encode(), b"", DONE,
         r"/x: \? full$"),
        (b"x" * 300_000, b"", DONE, "says nothing"),
    ],
)  # fmt: skip
def test_no_shipment(output, errors, ending, why):
    """`Shipment.finish` says why it is not there."""
    shipment = Shipment(packed(GOOD))
    assert shipment.feed(output) == b""
    with pytest.raises(SSHError, match=why):
        shipment.finish(errors, ending)


def test_shipment_in_pieces():
    """`Shipment.feed` gives the archive once, in whatever pieces the host speaks."""
    shipment = Shipment(packed(GOOD))
    said = f'hello{MARKER}\n{MARKER}{{"state": "send"}}\n{MARKER}{{"state": "x"}}\n'.encode()
    sent = [shipment.feed(said[at : at + 1]) for at in range(len(said))]
    assert [each for each in sent if each] == [packed(GOOD).data]
    done = {"state": "done", "python": "/p", "path": "/s", "new": ""}
    shipment.feed(f"\n{MARKER}{json.dumps(done)}\n".encode())
    found = shipment.finish(b"", DONE)
    assert (found.python, found.path, found.is_new) == ("/p", "/s", False)
    assert found.surroundings(Surroundings(env={"A": "1"})) == Surroundings(
        python="/p", env={"A": "1", "PYTHONPATH": "/s"}
    )
    env = found.surroundings(Surroundings(env={"PYTHONPATH": "/mine"})).env
    assert env["PYTHONPATH"] == "/s:/mine"


def names(what):
    """Of the files in a bundle."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(what.data))) as archive:
        return set(archive.getnames())


def test_complete():
    """`complete_bundle` has this package and all that it needs, no tests, and is reproducible."""
    found = complete_bundle()
    assert found == complete_bundle()
    assert found.is_complete
    assert found.name.startswith(VERSION)
    files = names(found)
    for each in ("twisted_dist/py.typed", "twisted/internet/tcp.py", "attr/__init__.py",
                 "msgpack/__init__.py", "zope/interface/__init__.py"):  # fmt: skip
        assert each in files
    for each in files:
        assert not each.startswith(("/", ".."))
        assert "__pycache__" not in each
        assert "/test/" not in each


def test_package_alone():
    """`package_bundle` has this package, and names what it needs; each kind of host has its own."""
    found = package_bundle("cpython-313")
    assert not found.is_complete
    assert any(each.startswith("twisted") for each in found.requirements)
    assert not any("pytest" in each or ";" in each for each in found.requirements)
    assert "twisted_dist/cli/worker.py" in names(found)
    assert found.name != package_bundle("cpython-312").name


def test_bundle_for(monkeypatch):
    """`bundle_for` sends all where it runs as it is here, and the package alone elsewhere."""
    monkeypatch.setattr(bundle, "complete_bundle", lambda: made(b"all"))
    bundle.bundle_for.cache_clear()
    assert bundle.bundle_for(sysconfig.get_platform(), bundle.abi()).data == b"all"
    for platform, abi in (("linux-aarch64", bundle.abi()), (sysconfig.get_platform(), "other")):
        assert bundle.bundle_for(platform, abi).requirements
    bundle.bundle_for.cache_clear()


def test_too_large(monkeypatch):
    """`complete_bundle` refuses what is larger than anything of ours."""
    monkeypatch.setattr(bundle, "MAX_ARCHIVE", 1000)
    with pytest.raises(UsageProblem, match="1000 at most"):
        complete_bundle()
