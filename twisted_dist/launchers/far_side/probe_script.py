"""What runs on a host to see whether daemons could: alone, without this package.

Its text is sent, so it imports the standard library only, and keeps to Python 3.6: an old one
is to be told that it is old, by name. Each host runs it before anything starts there, so it
imports what takes long (``importlib.metadata``, ``tempfile``, the codec of names) where it must.
"""

import json
import os
import socket
import sys
import sysconfig
import time

TYPE_CHECKING = False  # ``typing`` takes long, too
if TYPE_CHECKING:
    from typing import Any


def versions(names: "list[str]") -> "dict[str, str | None]":
    """What is installed there, by name; None for what is not."""
    found = installed()
    missing = [name for name in names if name not in found]
    if missing:  # or somewhere else than in directories, or with less than a name
        try:
            from importlib.metadata import version
        except ImportError:  # before 3.8
            return {name: found.get(name) for name in names}
        for name in missing:
            try:
                found[name] = version(name)
            except Exception:
                continue
    return {name: found.get(name) for name in names}


def installed() -> "dict[str, str]":
    """As the directories say in which it is, without reading a file: ``attrs-26.1.0.dist-info``."""
    found = {}  # type: dict[str, str]
    for place in sys.path:
        try:
            inside = os.listdir(place or ".")
        except OSError:
            continue
        for each in inside:
            if each.endswith(".dist-info"):
                name, dash, version = each[: -len(".dist-info")].partition("-")
                name = name.lower().replace("_", "-").replace(".", "-")
                if dash and name not in found:
                    found[name] = version.replace("_", "-")
    return found


def package() -> "str | None":
    """The version of this package there, as it says itself; metadata may be of another one."""
    try:
        from twisted_dist.version import VERSION
    except Exception:
        return None
    return str(VERSION)


def port_problem(host: str, port: int) -> str:
    """Why a daemon could not listen there; empty where it could."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.encode() or None, port, 0 if host else socket.AF_INET, socket.SOCK_STREAM, 0,
            socket.AI_PASSIVE,
        )[0]  # fmt: skip
        with socket.socket(family, kind) as listening:
            # as daemons do: connections of an earlier one that linger are no obstacle
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(1)
    except OSError as problem:
        return problem.strerror or str(problem)
    return ""


def directory_problem(path: str) -> str:
    """Why nothing could be written there; empty where it could, once it is made."""
    import tempfile

    path = os.path.abspath(os.path.expanduser(path))
    try:
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            return path + ": Not a directory"
        with tempfile.TemporaryFile(dir=path) as file:
            # a disk that is full takes the file, and not what is in it
            file.write(b"\0" * 65536)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        return path + ": " + (problem.strerror or str(problem))
    return ""


def memory() -> "int | None":
    """Bytes of the machine's memory; None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def cores() -> int:
    """That this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def addresses() -> "list[str]":
    """Of the machine, likeliest first: what the launcher reached, then what reaches others."""
    found = []  # type: list[str]
    connection = os.environ.get("SSH_CONNECTION", "").split()
    if len(connection) == 4:
        found.append(connection[2])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as going:
            going.connect(("192.0.2.1", 9))  # sends nothing
            found.append(going.getsockname()[0])
    except OSError:
        pass
    try:
        for each in socket.getaddrinfo(
            os.fsencode(socket.gethostname()), None, 0, socket.SOCK_STREAM
        ):
            found.append(str(each[4][0]))
    except OSError:
        pass
    return sorted(set(found), key=found.index)


#: of Linux' ioctl: an interface's address
SIOCGIFADDR = 0x8915


def address_on(interface: str, known: "list[str]") -> "str | None":
    """The machine's IPv4 address on an interface, by its name, or in a subnet (10.1.0.0/16)."""
    import ipaddress

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        if "/" not in interface:
            return _address_of_interface(asking, interface)
        subnet = ipaddress.IPv4Network(interface)
        for each in known:
            if ":" not in each and ipaddress.IPv4Address(each) in subnet:
                return each
        try:
            asking.connect((str(subnet[min(1, subnet.num_addresses - 1)]), 9))  # sends nothing
        except OSError:
            return None
        own = str(asking.getsockname()[0])
        return own if ipaddress.IPv4Address(own) in subnet else None


def _address_of_interface(asking: socket.socket, name: str) -> "str | None":
    try:
        import fcntl
        import struct

        wanted = struct.pack("256s", os.fsencode(name)[:15])
        return socket.inet_ntoa(fcntl.ioctl(asking.fileno(), SIOCGIFADDR, wanted)[20:24])
    except (ImportError, OSError):
        return None


def answer(request: "dict[str, Any]") -> "dict[str, Any]":
    """All that is asked for."""
    known = addresses()
    return {
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "executable": sys.executable,
        "platform": sysconfig.get_platform(),
        "abi": sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag,
        "package": package(),
        "versions": versions([str(each) for each in request["names"]]),
        "hostname": socket.gethostname(),
        "home": os.path.expanduser("~"),
        "cores": cores(),
        "memory_bytes": memory(),
        "addresses": known,
        "inner": address_on(request["interface"], known) if request["interface"] else None,
        "ports": [[host, port, port_problem(host, port)] for host, port in request["ports"]],
        "directories": [[str(p), directory_problem(str(p))] for p in request["directories"]],
        # last: what comes before takes its time
        "wall": time.time(),
    }


def main(marker: str, request: str) -> None:
    """Answer in one line, whatever others have printed before."""
    sys.stdout.write("\n" + marker + json.dumps(answer(json.loads(request))) + "\n")
    sys.stdout.flush()
