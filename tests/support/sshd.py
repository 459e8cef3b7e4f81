"""Real sshds: hosts on loopback addresses, or on the network namespaces of `tests.support.hosts`.

Both need no more than OpenSSH's server. On loopback it runs as anybody, and lets in whoever
runs it, by key. Each process of a host carries a mark in its environment, so that what runs
there can be told and ended, orphans included.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.daemons import PATIENCE_S, still_there
from tests.support.hosts import Hosts
from tests.support.sshkeys import make_key, public

PROGRAM = Path("/usr/sbin/sshd")
#: the variable that tells whose a process is
MARK = "TD_SSHD"
#: a bash that believes to be nested reads no ~/.bashrc, which may cost a second
SHALLOW = "5"


def available() -> bool:
    """Whether OpenSSH's server and its tools are here."""
    return PROGRAM.exists()


def free_port(address: str) -> int:
    """A port that nobody listens on there."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


class Host:
    """One host.

    Attributes:
        number: from 1.
        name: what it is called in the configuration file: ``h1`` and so on.
        address: its address.
        port: its port.
        directory: where its keys, configuration and log are.
        mark: what is in the environment of all that runs there.
        process: its sshd, or what wraps it; None while it is down.
    """

    def __init__(self, number: int, address: str, port: int, directory: Path) -> None:
        self.number = number
        self.name = f"h{number}"
        self.address = address
        self.port = port
        self.directory = directory
        self.mark = f"{uuid.uuid4()}"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def known_name(self) -> str:
        """Its name in known_hosts files."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    def host_keys(self) -> list[Path]:
        """Its private keys."""
        return sorted(each for each in self.directory.glob("host_key_*") if each.suffix != ".pub")

    def known_lines(self) -> str:
        """What a known_hosts file says of it."""
        return "".join(f"{self.known_name} {public(each)}\n" for each in self.host_keys())

    def sessions(self) -> list[psutil.Process]:
        """The processes of sshd below the one that listens; two a connection for root."""
        found = []
        for each in _children(self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.name().startswith("sshd"):
                    found.append(each)
        return found

    def running(self) -> list[psutil.Process]:
        """What users run there, orphans included; not sshd's own processes."""
        found = []
        for each in _marked(self.mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                if not each.name().startswith("sshd"):
                    found.append(each)
        return found

    def kill_sessions(self) -> None:
        """End all connections there by force; the server stays."""
        for each in self.sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def kill(self) -> None:
        """End the host by force, with all that runs there."""
        if self.process is not None:
            below = _children(self.process)
            # no more is started once it is gone
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None
            _kill(below)
        while left := _marked(self.mark):
            _kill(left)


class SSHDs:
    """Hosts 1 to *count* that can be entered, by the user who runs the tests.

    Args:
        directory: where everything is.
        count: how many.
        port: one port for all; a free one each by default, 22 on *hosts*.
        lines: of ``sshd_config``, before our own: what comes first counts.
        lines_of: more of them for some hosts, by number; they come first of all.
        environment: variables of what runs there; ``{number}`` is the host's.
        host_keys: the types of their keys.
        hosts: network namespaces to run them on; else they are on 127.0.0.11 and so on.
        passwords: `{user: password}` of accounts that the hosts have beside this machine's,
            with homes of their own; for root only.
        people_are_root: those accounts are root by another name, who may run this Python
            wherever it is, with another `home` on each host.

    Attributes:
        key: a private key that is let in.
        known_hosts: a file with their keys.
        config: a file for ``ssh -F`` with all that is needed: ``h1`` is the first.
    """

    def __init__(
        self,
        directory: Path,
        count: int,
        *,
        port: int | None = None,
        lines: Sequence[str] = (),
        lines_of: Mapping[int, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        host_keys: Sequence[str] = ("ed25519", "ecdsa"),
        hosts: Hosts | None = None,
        passwords: Mapping[str, str] | None = None,
        people_are_root: bool = False,
    ) -> None:
        self.directory = directory
        self.key = directory / "id_ed25519"
        self.known_hosts = directory / "known_hosts"
        self.config = directory / "config"
        self.authorized_keys = directory / "authorized_keys"
        self._port = port
        self._lines = lines
        self._lines_of = lines_of or {}
        self._environment = environment or {}
        self._host_keys = host_keys
        self._hosts = hosts
        self._passwords = passwords or {}
        self._people_are_root = people_are_root
        self._homes: list[Path] = []
        self._all = {
            number: Host(number, self._address(number), 0, directory / f"h{number}")
            for number in range(1, count + 1)
        }

    def __getitem__(self, number: int) -> Host:
        return self._all[number]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._all.values())

    def _address(self, number: int) -> str:
        return f"127.0.0.{number + 10}" if self._hosts is None else self._hosts.address(number)

    def home(self, user: str, number: int) -> Path:
        """Where the home of such an account on a host is to be found from outside."""
        return self.directory / f"h{number}-{user}"

    def up(self) -> None:
        """Start them all; they listen."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.authorized_keys.touch()
        self.let_in(make_key(self.key))
        if self._passwords:
            self._write_accounts()
        for each in self:
            each.directory.mkdir()
            for kind in self._host_keys:
                make_key(each.directory / f"host_key_{kind}", kind)
            self._start(each)
        for each in self:
            self._await(each)
        known = "".join(each.known_lines() for each in self)
        self.known_hosts.write_text(known, encoding="ascii")
        self.config.write_text(self.config_text(), encoding="utf-8")

    def start(self, number: int) -> None:
        """Start one again that was killed, with the same port and keys."""
        self._start(self[number])
        self._await(self[number])

    def down(self) -> None:
        """End them with all that runs there; the ends of their logs are told."""
        for each in self:
            each.kill()
        for home in self._homes:
            shutil.rmtree(home, ignore_errors=True)
        for each in self:
            if each.log.exists():
                text = each.log.read_text(encoding="utf-8", errors="replace")
                print(f"-- log of {each.name}", text[-2000:], sep="\n")

    def let_in(self, key: Path) -> None:
        """Let whoever has *key* in everywhere, too."""
        with self.authorized_keys.open("a", encoding="ascii") as file:
            file.write(public(key) + "\n")

    def config_text(self, *more: str, has_key: bool = True) -> str:
        """An ``ssh_config`` of them all; *more* lines are for all hosts, and come first.

        *has_key* tells whether it has the key that is let in.
        """
        return "\n".join(
            [
                *more,
                *(
                    f"Host {each.name}\n  HostName {each.address}\n  Port {each.port}"
                    for each in self
                ),
                "Host *",
                f"  User {getpass.getuser()}",
                *([f"  IdentityFile {self.key}"] if has_key else []),
                "  IdentitiesOnly yes",
                "  IdentityAgent none",
                f"  UserKnownHostsFile {self.known_hosts}",
                "  GlobalKnownHostsFile /dev/null",
                "",
            ]
        )

    def _start(self, host: Host) -> None:
        fixed = self._port or (None if self._hosts is None else 22)
        host.port = host.port or fixed or free_port(host.address)
        config = host.directory / "sshd_config"
        config.write_text("\n".join(self._config_lines(host)) + "\n", encoding="utf-8")
        host.log.unlink(missing_ok=True)
        command = [str(PROGRAM), "-D", "-e", "-f", str(config)]
        with host.log.open("wb") as log:
            host.process = subprocess.Popen(
                [*self._wrap(host), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wrap(self, host: Host) -> list[str]:
        words: list[str] = []
        steps = []
        if self._hosts is not None:
            alone = ("--uts", "--pid", "--fork", "--mount-proc", "--kill-child")
            words += [*self._hosts.wrap[host.number], "unshare", *alone]
            steps.append(f"hostname {host.name}")
        elif self._passwords:
            words += ["unshare", "--mount"]
        if self._passwords:
            for name in ("passwd", "shadow"):
                steps.append(f"mount --bind {shlex.quote(str(self.directory / name))} /etc/{name}")
        if self._people_are_root:
            for user, home in zip(self._passwords, self._homes):
                own = self.home(user, host.number)
                own.mkdir(mode=0o700, exist_ok=True)
                steps.append(shlex.join(["mount", "--bind", str(own), str(home)]))
        if steps:
            words += ["sh", "-c", "; ".join(["set -e", *steps, 'exec "$@"']), "sh"]
        return words

    def _config_lines(self, host: Host) -> Iterator[str]:
        # of this one the last counts
        yield "MaxStartups 200"
        yield from self._lines_of.get(host.number, ())
        yield from self._lines
        yield f"Port {host.port}"
        yield f"ListenAddress {host.address}"
        for key in host.host_keys():
            yield f"HostKey {key}"
        yield f"AuthorizedKeysFile {self.authorized_keys}"
        yield "PidFile none"
        yield "StrictModes no"
        yield "UsePAM no"
        yield f"PasswordAuthentication {'yes' if self._passwords else 'no'}"
        yield "KbdInteractiveAuthentication no"
        yield "LogLevel VERBOSE"
        yield "UseDNS no"
        variables = {"SHLVL": SHALLOW, MARK: host.mark, "TD_HOST": host.name, **self._environment}
        words = (
            f'{name}="{value.format(number=host.number)}"' for name, value in variables.items()
        )
        yield f"SetEnv {' '.join(words)}"

    def _await(self, host: Host) -> None:
        deadline = time.monotonic() + PATIENCE_S
        pause = threading.Event()
        while "Server listening on" not in host.log.read_text(encoding="utf-8", errors="replace"):
            if host.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{host.name}: {host.log.read_text(encoding='utf-8')}")
            pause.wait(0.005)

    def _write_accounts(self) -> None:
        """What the hosts take for /etc/passwd and /etc/shadow."""
        people, secrets = (
            Path("/etc", name).read_text(encoding="utf-8") for name in ("passwd", "shadow")
        )
        for number, (user, password) in enumerate(self._passwords.items(), 51_000):
            # not below the directory of the tests, which only their user may enter
            home = Path(tempfile.mkdtemp(prefix="td-home-"))
            self._homes.append(home)
            told = subprocess.run(
                ["openssl", "passwd", "-6", "-stdin"],
                input=password.encode(),
                stdout=subprocess.PIPE,
                check=True,
                timeout=30,
            )
            if self._people_are_root:
                # before root itself, whom programs look up by number
                people = f"{user}:x:0:0::{home}:/bin/bash\n{people}"
            else:
                people += f"{user}:x:{number}:{number}::{home}:/bin/bash\n"
                os.chown(home, number, number)
            secrets += f"{user}:{told.stdout.decode().strip()}:19000:0:99999:7:::\n"
        (self.directory / "passwd").write_text(people, encoding="utf-8")
        (self.directory / "shadow").write_text(secrets, encoding="utf-8")


def _children(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    if process is None:
        return []
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _marked(mark: str) -> list[psutil.Process]:
    """Processes that carry *mark* in their environments; those that wait to be reaped do not."""
    found = []
    text = f"{MARK}={mark}".encode()
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if text in (each / "environ").read_bytes().split(b"\0"):
                    process = psutil.Process(int(each.name))
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
    return found


def words_of(process: psutil.Process) -> list[str]:
    """A process's command; none for one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    still_there(processes, PATIENCE_S)


@contextlib.contextmanager
def serving(directory: Path, count: int, **how: object) -> Iterator[SSHDs]:
    """Hosts, for a while; arguments as of `SSHDs`."""
    sshds = SSHDs(directory, count, **how)
    try:
        sshds.up()
        yield sshds
    finally:
        sshds.down()
