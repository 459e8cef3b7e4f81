"""Hosts on one machine: an sshd for each, on addresses of the loopback interface."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

PROGRAM = "/usr/sbin/sshd"
#: the variable that tells what runs on the hosts
MARK = "FIFTY_HOSTS"
START_S = 30.0


def free_port(addresses: list[str]) -> int:
    """A port that is free on all of them."""
    while True:
        with contextlib.ExitStack() as probes:
            first = probes.enter_context(socket.socket())
            first.bind((addresses[0], 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError):
                for each in addresses[1:]:
                    probes.enter_context(socket.socket()).bind((each, port))
                return port


class SSHDs:
    """Hosts that let in whoever runs this, by a key; *directory* is where they keep all.

    Attributes:
        addresses: of the hosts.
        port: of all their sshds.
        key: a file with the private key.
        config: a file for ``ssh -F``.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self.addresses = [f"127.0.0.{number}" for number in range(11, 11 + count)]
        self.port = free_port(self.addresses)
        self.key = directory / "key"
        self.config = directory / "config"
        self._directory = directory
        self._mark = f"{uuid.uuid4()}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        """Start them; they listen."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        for name in ("key", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._directory / name]
            subprocess.run(words, check=True)  # type: ignore[arg-type]
        # without what a user's shell reads first, which costs each system the same, and anything
        (self._directory / "home").mkdir()
        public = (self._directory / "host_key.pub").read_text(encoding="ascii")
        known = self._directory / "known_hosts"
        known.write_text(
            "".join(f"[{each}]:{self.port} {public}" for each in self.addresses), encoding="ascii"
        )
        self.config.write_text(
            f"Host *\n User {getpass.getuser()}\n Port {self.port}\n IdentityFile {self.key}\n"
            f" IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {known}\n",
            encoding="utf-8",
        )
        for each in self.addresses:
            self._start(each)

    def _start(self, address: str) -> None:
        config = self._directory / f"sshd_{address}"
        config.write_text(
            f"Port {self.port}\nListenAddress {address}\nHostKey {self._directory}/host_key\n"
            f"AuthorizedKeysFile {self.key}.pub\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"UseDNS no\nSetEnv {MARK}={self._mark} HOME={self._directory}/home\n",
            encoding="utf-8",
        )
        log = self._directory / f"log_{address}"
        with log.open("wb") as file:
            command = [PROGRAM, "-D", "-e", "-f", str(config)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=file)
        self._processes.append(process)
        deadline = time.monotonic() + START_S
        while b"Server listening" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(encoding="utf-8"))
            threading.Event().wait(0.005)

    def running(self) -> list[psutil.Process]:
        """What runs there, orphans included."""
        text = f"{MARK}={self._mark}".encode()
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if text in Path(f"/proc/{each.pid}/environ").read_bytes().split(b"\0"):
                    found.append(each)
        return found

    def down(self) -> None:
        """End them, and what is left there."""
        for each in self._processes:
            each.kill()
            each.wait()
        for left in self.running():
            with contextlib.suppress(psutil.Error):
                left.kill()


@contextlib.contextmanager
def serving(directory: Path, count: int) -> Iterator[SSHDs]:
    """Hosts, for a while."""
    sshds = SSHDs(directory, count)
    try:
        sshds.up()
        yield sshds
    finally:
        sshds.down()
