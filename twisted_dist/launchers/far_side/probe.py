"""Asks a host, before anything starts, what it has; reads and judges the answer.

What is asked runs in the Python that would run the daemons, found by the same command, in the
same environment.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from twisted_dist.errors import SSHError
from twisted_dist.launchers.far_side import probe_script
from twisted_dist.launchers.far_side.command import ACTIVATION_FAILED, NO_PYTHON
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.version import VERSION

#: begins the line of the answer; whatever shells and profiles print is before it
MARKER: Final = "twisted_dist-probe:"
#: the oldest Python that runs this package
OLDEST: Final = (3, 10)
#: distributions that it does not run without
NEEDED: Final = ("twisted", "msgpack", "cloudpickle", "psutil", "attrs", "cryptography")
#: seconds by which clocks may differ: more, and what is said to expire does not when it should,
#: and logs of several hosts cannot be read together
CLOCK_S: Final = 5.0
#: characters of what a host said that are shown
_SHOWN: Final = 300

#: for Pythons that cannot read what follows: the version is all that they answer
_WRAPPED: Final = """\
import sys
if sys.version_info < (3, 6):
    sys.stdout.write("\\n%(marker)s{\\"python\\": [%%d, %%d, %%d]}\\n" %% sys.version_info[:3])
else:
    names = {"__name__": "probe"}
    exec(%(script)r, names)
    names["main"](%(marker)r, %(request)r)
"""


def arguments(
    ports: Sequence[tuple[str, int]] = (),
    directories: Sequence[str] = (),
    names: Sequence[str] = NEEDED,
    interface: str = "",
) -> list[str]:
    """Of the Python there, for `remote_command`; it takes no standard input.

    Args:
        ports: addresses and ports to listen on; an empty address for every interface.
        directories: that will be written to; ``~`` is the home directory there.
        names: distributions whose versions are asked for.
        interface: of which the address is asked for: its name, or a subnet; "" for none.
    """
    request = {
        "ports": list(ports),
        "directories": list(directories),
        "names": list(names),
        "interface": interface,
    }
    script = inspect.getsource(probe_script)
    filled = {"marker": MARKER, "script": script, "request": json.dumps(request)}
    return ["-c", _WRAPPED % filled]


@frozen(kw_only=True)
class Report:
    """What a host says of itself.

    Attributes:
        python: its version, three numbers; of one before 3.6, nothing else is known.
        implementation: ``cpython``.
        executable: its path.
        platform: as ``sysconfig.get_platform()`` has it: ``linux-x86_64``.
        abi: what compiled modules there are for: ``cpython-311-x86_64-linux-gnu``.
        package: the version of this package; None where it is not there.
        versions: ``{distribution: version}``; None for what is not there.
        hostname: what it calls itself.
        home: the user's home directory.
        wall: its clock, seconds since 1970, when it answered.
        cores: that the user's processes may use.
        memory_bytes: of the machine; None where it does not tell.
        addresses: of the machine, the one that was reached over SSH first.
        inner: its address on the interface that was asked for; None where there is none.
        ports: ``{(address, port): why nobody can listen there}``, empty where one can.
        directories: ``{path as asked: why nothing can be written there}``, empty likewise.
    """

    python: tuple[int, int, int]
    implementation: str = ""
    executable: str = ""
    platform: str = ""
    abi: str = ""
    package: str | None = None
    versions: Mapping[str, str | None] = field(factory=dict)
    hostname: str = ""
    home: str = ""
    wall: float | None = None
    cores: int = 1
    memory_bytes: int | None = None
    addresses: tuple[str, ...] = ()
    inner: str | None = None
    ports: Mapping[tuple[str, int], str] = field(factory=dict)
    directories: Mapping[str, str] = field(factory=dict)

    @property
    def is_too_old(self) -> bool:
        """Whether that Python does not run this package."""
        return self.python[:2] < OLDEST


def read(output: bytes, errors: bytes, ending: Ending) -> Report:
    """The report in what the command gave.

    Raises:
        SSHError: there is none, of kind ``command`` (or ``lost``); says why, as far as the
            host does.
    """
    begin = output.rfind(MARKER.encode())
    if begin < 0:
        raise silence(output, errors, ending)
    line = output[begin + len(MARKER) :].partition(b"\n")[0]
    try:
        return _report(json.loads(line))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SSHError(f"what Python answers there is garbage: {shown(line)}", "command") from None


def _report(said: Mapping[str, Any]) -> Report:
    major, minor, micro = map(int, said["python"])
    python = (major, minor, micro)
    if len(said) == 1:
        return Report(python=python)
    return Report(
        python=python,
        implementation=str(said["implementation"]),
        executable=str(said["executable"]),
        platform=str(said["platform"]),
        abi=str(said["abi"]),
        package=_text(said["package"]),
        versions={str(name): _text(each) for name, each in said["versions"].items()},
        hostname=str(said["hostname"]),
        home=str(said["home"]),
        wall=float(said["wall"]),
        cores=int(said["cores"]),
        memory_bytes=None if said["memory_bytes"] is None else int(said["memory_bytes"]),
        addresses=tuple(map(str, said["addresses"])),
        inner=_text(said["inner"]),
        ports={(str(host), int(port)): str(why) for host, port, why in said["ports"]},
        directories={str(path): str(why) for path, why in said["directories"]},
    )


def _text(said: Any) -> str | None:
    return None if said is None else str(said)


def silence(output: bytes, errors: bytes, ending: Ending) -> SSHError:
    """Why there was no answer."""
    said = shown(errors) or shown(output)
    if ending.how is How.LOST:
        return SSHError(f"the connection was lost: {ending.reason}", "lost", is_passing=True)
    if ending.status == ACTIVATION_FAILED and b"twisted_dist: " in errors:
        return SSHError(f"--activate: {shown(errors)}", "command")
    if ending.status == NO_PYTHON and b"twisted_dist: there is no Python" in errors:
        told = shown(errors[errors.rfind(b"twisted_dist: ") :]).removeprefix("twisted_dist: ")
        return SSHError(
            f"{told}; name one that is: --remote-python, python=, --activate", "command"
        )
    what = f"; it says: {said}" if said else " and says nothing"
    return SSHError(f"no Python answers there: the command {ending}{what}", "command")


def shown(data: bytes) -> str:
    """The end of what a host said, as one line that does nothing to a terminal."""
    text = " | ".join(data.decode(errors="replace").split("\n")).strip(" |")
    text = "".join(each if each.isprintable() else "?" for each in text.replace("\r", ""))
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


@frozen(kw_only=True)
class Wanted:
    """What the hosts of a cluster are to have.

    Attributes:
        package: the version of this package.
        python: whose pickled functions are to be read there: the client's, two numbers.
        cloudpickle: its version, likewise; None for any.
        is_bootstrapped: the package is shipped there: it need not be there.
        interface: on which it is to have an address, or the subnet; "" for any.
    """

    package: str = VERSION
    python: tuple[int, int]
    cloudpickle: str | None = None
    is_bootstrapped: bool = False
    interface: str = ""


@frozen
class Problem:
    """One thing that is not as it should be on a host.

    Attributes:
        column: of the table: ``python``, ``package``, ``port``, ``clock``; or ``directory``,
            ``address``, which have none there.
        what: is wrong.
        todo: what to do about it.
        is_fatal: whether daemons will not run there, or not as they were asked to.
    """

    column: str
    what: str
    todo: str
    is_fatal: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.todo}"


def problems(report: Report, wanted: Wanted, skew_s: float = 0.0) -> list[Problem]:
    """All that speaks against starting daemons on a host, the gravest first.

    Args:
        report: the host's.
        wanted: what it is to have.
        skew_s: by which its clock is ahead of ours, as `clock_skew` has it.
    """
    version = ".".join(map(str, report.python))
    if report.is_too_old:
        return [
            Problem(
                "python",
                f"Python {version} is too old",
                f"name one of {_dotted(OLDEST)} or later: --remote-python, python=, --activate",
            )
        ]
    found = _of_package(report, wanted)
    if wanted.interface and report.inner is None:
        where = "in" if "/" in wanted.interface else "on"
        has = ", ".join(report.addresses) or "none that it tells"
        what = f"no address {where} {wanted.interface}"
        found.append(Problem("address", what, f"give another --interface; it has {has}"))
    for (host, port), why in report.ports.items():
        if why:
            where = f"{host}:{port}" if host else str(port)
            todo = "end who listens there, or give another --scheduler-port"
            found.append(Problem("port", f"port {where}: {why}", todo))
    for path, why in report.directories.items():
        if why:
            todo = "make room or give another directory"
            found.append(Problem("directory", f"cannot write to {path}: {why}", todo))
    if report.python[:2] != wanted.python:
        found.append(
            Problem(
                "python",
                f"Python {version}, and here {_dotted(wanted.python)}",
                "functions that are pickled by one may not run in the other: use one minor version",
                is_fatal=False,
            )
        )
    if abs(skew_s) > CLOCK_S:
        side = "ahead" if skew_s > 0 else "behind"
        todo = "have it set, by NTP: credentials expire by it, and logs show it"
        found.append(Problem("clock", f"clock {abs(skew_s):.0f} s {side}", todo, is_fatal=False))
    return found


def _of_package(report: Report, wanted: Wanted) -> list[Problem]:
    if wanted.is_bootstrapped:
        return []
    install = f"--bootstrap ships it; or {report.executable} -m pip install"
    if report.package is None:
        return [
            Problem(
                "package", "twisted_dist is not there", f"{install} twisted-dist=={wanted.package}"
            )
        ]
    if report.package != wanted.package:
        what = f"twisted_dist {report.package}, and here {wanted.package}"
        return [Problem("package", what, f"{install} twisted-dist=={wanted.package}")]
    missing = [name for name, version in report.versions.items() if version is None]
    if missing:
        names = " ".join(missing)
        return [Problem("package", f"{', '.join(missing)} is not there", f"{install} {names}")]
    theirs = report.versions.get("cloudpickle")
    if wanted.cloudpickle and theirs and theirs != wanted.cloudpickle:
        what = f"cloudpickle {theirs}, and here {wanted.cloudpickle}"
        todo = "functions that one pickles the other may not read: use one version"
        return [Problem("package", what, todo, is_fatal=False)]
    return []


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def clock_skew(wall: float | None, asked: float, answered: float) -> float:
    """Seconds by which a host's clock is ahead, at least; 0 where that cannot be told.

    Args:
        wall: its clock at some instant between the next two.
        asked: our clock when we began to ask.
        answered: our clock when we had the answer.
    """
    if wall is None:
        return 0.0
    return max(0.0, wall - answered) + min(0.0, wall - asked)
