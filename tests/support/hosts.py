"""Hosts on one machine: network namespaces on a bridge, with addresses of their own.

The bridge has a namespace too, so that the machine's own network sees nothing of it, and
any address may be used. No host has a default route: the daemons must do without.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator

from tests.support.rough import RoughLink

_networks = itertools.count()


def available() -> bool:
    """Whether this machine lets us build hosts: root, and iproute2."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


class Hosts:
    """Hosts 1 to *count*, with addresses ``192.168.0.1`` and so on.

    Args:
        count: how many.
        rough: numbers of those whose links are to lose and delay, once they are told to.

    Attributes:
        wrap: for each host's number, the words that run a command on it.
        apart: likewise; what runs there does not see the processes of other hosts, either.
        links: the rough ones' links.
    """

    def __init__(self, count: int, rough: Collection[int] = ()) -> None:
        prefix = f"td{os.getpid()}-{next(_networks)}"
        self._switch = f"{prefix}-switch"
        self._names = {number: f"{prefix}-{number}" for number in range(1, count + 1)}
        self.wrap = {number: ("ip", "netns", "exec", name) for number, name in self._names.items()}
        alone = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
        self.apart = {number: (*words, *alone) for number, words in self.wrap.items()}
        self._rough = rough
        self.links: dict[int, RoughLink] = {}

    def up(self) -> None:
        """Build them."""
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for number, name in self._names.items():
            _ip("netns", "add", name)
            port = f"port{number}"
            if number in self._rough:
                self.links[number] = RoughLink((name, "eth0"), (self._switch, port), number)
            else:
                pair = ("veth", "peer", port, "netns", self._switch)
                _ip("-n", name, "link", "add", "eth0", "type", *pair)
            _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "address", "add", self.address(number) + "/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def widen(self) -> None:
        """Give each a second interface, data0, with 10.77.0.1 and so on."""
        for number, name in self._names.items():
            port = f"data{number}"
            pair = ("veth", "peer", port, "netns", self._switch)
            _ip("-n", name, "link", "add", "data0", "type", *pair)
            _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "data0")
            _ip("-n", name, "link", "set", "data0", "up")

    def isolate(self, *numbers: int) -> None:
        """Let these reach all others, and not each other: what they send there is lost.

        As hosts behind NATs of their own are, to each other.
        """
        for number in numbers:
            port = ("dev", f"port{number}", "type", "bridge_slave")
            _ip("-n", self._switch, "link", "set", *port, "isolated", "on")

    def cut(self, number: int) -> None:
        """Lose what goes to a host and what comes from it, without a word to anybody."""
        self._port(number, "nomaster")

    def mend(self, number: int) -> None:
        """Undo `cut`."""
        self._port(number, "master", "bridge")

    def unplug(self, number: int) -> None:
        """Take a host's cable out: its kernel knows."""
        self._port(number, "down")

    def plug(self, number: int) -> None:
        """Undo `unplug`."""
        self._port(number, "up")

    def _port(self, number: int, *words: str) -> None:
        _ip("-n", self._switch, "link", "set", "dev", f"port{number}", *words)

    def down(self) -> None:
        """Remove what there is of them."""
        for link in self.links.values():
            link.close()
        for name in (*self._names.values(), self._switch):
            subprocess.run(
                ["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=30, check=False
            )

    def address(self, number: int) -> str:
        """A host's address."""
        return f"192.168.0.{number}"


@contextlib.contextmanager
def building(count: int, rough: Collection[int] = ()) -> Iterator[Hosts]:
    """Hosts, for a while."""
    hosts = Hosts(count, rough)
    try:
        hosts.up()
        yield hosts
    finally:
        hosts.down()
