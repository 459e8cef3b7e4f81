"""The probe: what hosts say of themselves, and what is made of it."""

import ast
import inspect
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.errors import SSHError
from twisted_dist.launchers.far_side import probe, probe_script
from twisted_dist.launchers.far_side.command import Surroundings, remote_command
from twisted_dist.launchers.far_side.probe import (
    MARKER,
    NEEDED,
    Report,
    Wanted,
    arguments,
    clock_skew,
    problems,
)
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.version import VERSION

DONE = Ending(How.EXITED, 0)
HERE = sys.version_info[:2]
WANTED = Wanted(python=HERE)
GOOD = Report(
    python=(*HERE, 9),
    executable="/usr/bin/python3",
    package=VERSION,
    versions=dict.fromkeys(NEEDED, "1"),
    ports={("", 8786): ""},
    directories={"/tmp": ""},
    wall=1e9,
)


def asked(surroundings, *, home, **request):
    """What this machine says, asked as a host is."""
    done = subprocess.run(
        ["sh", "-c", f"echo noise; {remote_command(arguments(**request), surroundings)}"],
        capture_output=True,
        env={**os.environ, "HOME": str(home), "SSH_CONNECTION": "10.0.0.9 51000 10.0.0.1 22"},
        stdin=subprocess.DEVNULL,
        check=False,
        cwd=home,
    )
    return probe.read(done.stdout, done.stderr, Ending(How.EXITED, done.returncode))


def test_this_machine(tmp_path):
    """`read` gives what the probe finds: versions, ports, directories, clock and addresses."""
    (tmp_path / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = time.time()  # noqa: TID251 - the far side's clock is the system's
        report = asked(
            Surroundings(here=sys.executable),
            home=tmp_path,
            ports=[("127.0.0.1", port), ("127.0.0.1", 0), ("192.0.2.7", 1), ("no.such.host.", 1)],
            directories=["~/not/yet", str(tmp_path), "~/file/x", "/proc/nothing"],
        )
    after = time.time()  # noqa: TID251
    assert report.python == sys.version_info[:3]
    assert report.executable == sys.executable
    assert report.package == VERSION
    assert set(report.versions) == set(NEEDED)
    assert None not in report.versions.values()
    assert report.hostname == socket.gethostname()
    assert report.home == str(tmp_path)
    assert report.cores >= 1
    assert report.memory_bytes > 2**20
    assert report.addresses[0] == "10.0.0.1"
    assert before <= report.wall <= after
    assert clock_skew(report.wall, before, after) == 0
    assert "in use" in report.ports.pop(("127.0.0.1", port))
    assert report.ports.pop(("127.0.0.1", 0)) == ""
    assert all(report.ports.values())
    whys = list(report.directories.values())
    assert whys[:2] == ["", ""]
    assert whys[2] == f"{tmp_path}/file: Not a directory"
    assert whys[3].startswith("/proc: ")
    assert [each.column for each in problems(report, WANTED)] == ["port"] * 2 + ["directory"] * 2


PYTHONS = sorted(Path.home().glob(".pyenv/versions/*/bin/python")) + [
    Path(path) for name in ("python3", "python2") if (path := shutil.which(name, path="/usr/bin"))
]


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
def test_other_pythons(python, tmp_path):
    """Any Python from 2.7 on says its version, and whether the package is there."""
    report = asked(Surroundings(python=str(python)), home=tmp_path, ports=[("", 0)])
    assert report.is_too_old == (report.python < (3, 10))
    found = problems(report, Wanted(python=(3, 99)))
    assert found[0].is_fatal
    if report.is_too_old:
        assert "is too old" in found[0].what
    else:
        assert [each.column for each in found] == ["package", "python"]
        assert not found[1].is_fatal
    if report.python >= (3, 6):
        assert report.platform
        assert report.abi


def test_script_is_old():
    """The script that is sent has nothing in it that Python 3.7 cannot read."""
    ast.parse(inspect.getsource(probe_script), feature_version=(3, 7))


@pytest.mark.parametrize(
    ("output", "errors", "ending", "kind", "why"),
    [
        (b"", b"x", Ending(How.LOST, reason="cut"), "lost", "connection was lost: cut"),
        (b"", b"noise\ntwisted_dist: there is no Python /x\n", Ending(How.EXITED, 127), "command",
         "^there is no Python /x; name one that is: --remote-python"),
        (b"", b"fish: nothing\n", Ending(How.EXITED, 127), "command", "status 127; it says: fish"),
        (b"", b"conda: no\ntwisted_dist: the activation failed with status 1: conda activate x\n",
         Ending(How.EXITED, 125), "command", "^--activate: conda: no | twisted_dist: the activ"),
        (b"This account is not available\n", b"", Ending(How.EXITED, 1), "command",
         "it says: This account is not available$"),
        (b"", b"", Ending(How.SIGNALLED, signal="KILL"), "command", "SIGKILL and says nothing"),
        (f"{MARKER}{{]".encode(), b"", DONE, "command", "is garbage: {]"),
        (f"{MARKER}{{}}".encode(), b"", DONE, "command", "is garbage"),
        (f"{MARKER}[1, 2]".encode(), b"", DONE, "command", "is garbage"),
        (b"\x1b[2J" + b"x" * 999, b"", DONE, "command", "it says: …xxx"),
    ],
)  # fmt: skip
def test_no_report(output, errors, ending, kind, why):
    """`read` says why a host gave no report, in one line that does nothing to a terminal."""
    with pytest.raises(SSHError, match=why) as caught:
        probe.read(output, errors, ending)
    assert caught.value.kind == kind
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_output(output, errors):
    """`read` raises nothing else, whatever a host prints."""
    for data in (output, MARKER.encode() + output, MARKER.encode() + b'{"python":' + output):
        try:
            probe.read(data, errors, DONE)
        except SSHError:
            pass


@pytest.mark.parametrize(
    ("change", "column", "is_fatal", "what"),
    [
        ({"python": (3, 9, 1)}, "python", True, "3.9.1 is too old"),
        ({"python": (3, 99, 1)}, "python", False, "Python 3.99.1, and here"),
        ({"package": None}, "package", True, "not there"),
        ({"package": "0.0.9"}, "package", True, "twisted_dist 0.0.9, and here"),
        ({"versions": {"twisted": "1", "msgpack": None}}, "package", True, "msgpack is not there"),
        ({"ports": {("", 8786): "in use"}}, "port", True, "port 8786: in use"),
        ({"directories": {"/x": "full"}}, "directory", True, "/x: full"),
    ],
)
def test_problems(change, column, is_fatal, what):
    """`problems` finds each thing that is wrong, and says what to do."""
    (found,) = problems(evolve(GOOD, **change), WANTED)
    assert (found.column, found.is_fatal) == (column, is_fatal)
    assert what in found.what
    assert found.todo


@pytest.mark.parametrize(
    ("interface", "known", "address"),
    [
        ("127.0.0.0/8", [], "127.0.0.1"),
        ("127.0.0.1/32", [], "127.0.0.1"),
        ("lo", [], "127.0.0.1"),
        ("10.9.0.0/16", ["fe80::1", "192.0.2.7", "10.9.8.7"], "10.9.8.7"),
        ("198.51.100.0/24", ["192.0.2.7"], None),
        ("no-such0", [], None),
    ],
)
def test_address_on_interface(interface, known, address):
    """The address in a subnet, or on an interface of a name; None where there is none."""
    assert probe_script.address_on(interface, known) == address


def test_no_address_there():
    """A host that is not in the network which was asked for is not used, and says where it is."""
    report = evolve(GOOD, addresses=("10.1.0.2", "192.0.2.7"))
    (problem,) = probe.problems(report, evolve(WANTED, interface="ib0"))
    assert (problem.column, problem.is_fatal) == ("address", True)
    assert str(problem) == "no address on ib0: give another --interface; it has 10.1.0.2, 192.0.2.7"
    assert not probe.problems(evolve(report, inner="10.1.0.2"), evolve(WANTED, interface="ib0"))


def test_no_problems():
    """`problems` is empty where all is well, or will be shipped."""
    assert problems(GOOD, WANTED, 4.9) == []
    assert problems(evolve(GOOD, package=None), evolve(WANTED, is_bootstrapped=True)) == []
    assert problems(GOOD, evolve(WANTED, cloudpickle="1")) == []


def test_warnings():
    """`problems` warns of a clock that is off, and of another cloudpickle."""
    (clock,) = problems(GOOD, WANTED, -7)
    assert str(clock).startswith("clock 7 s behind: have it set")
    (other,) = problems(GOOD, evolve(WANTED, cloudpickle="2"))
    assert "cloudpickle 1, and here 2" in other.what
    assert not clock.is_fatal
    assert not other.is_fatal


@pytest.mark.parametrize(("wall", "skew"), [(10, 0), (12, 0), (11, 0), (5, -5), (20, 8), (None, 0)])
def test_clock_skew(wall, skew):
    """`clock_skew` blames a clock only for what the time of the question does not explain."""
    assert clock_skew(wall, 10, 12) == skew
