"""`Record`: what a launcher remembers of a cluster that it has left, and where.

In ``$TWISTED_DIST_HOME/clusters/NAME.json``, for its user only. It has no secrets, but for what
somebody has put into ``--env``. An agent is written down before it is started: what may run
somewhere can be found, and ended, whatever became of the launcher.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import evolve, field, frozen

from twisted_dist.access.home import Home, read_secret, write_secret
from twisted_dist.errors import AccessError, ClusterError
from twisted_dist.launchers.cluster.orders import OrdersError, file_name, is_id
from twisted_dist.launchers.cluster.request import SSHOptions
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.hosts.spec import HostSpec
from twisted_dist.launchers.ssh.settings import Strictness
from twisted_dist.version import VERSION

#: bytes of a record: an agent has about one thousand
MAX_RECORD: Final = 64 * 2**20
_FORMAT: Final = 1


@frozen(kw_only=True)
class RecordedAgent:
    """An agent that was started somewhere, or was about to be.

    Attributes:
        id: of its own.
        host: as it was named.
        user: on it, where the host's word said so; and its sshd's port.
        port: see there.
        is_scheduler: it keeps the scheduler, and nothing else.
        workers: how many it keeps.
        labels: of its daemons.
        ssh: how its host is entered.
        surroundings: what it is talked to in.
    """

    id: str
    host: str
    user: str | None = None
    port: int | None = None
    is_scheduler: bool = False
    workers: int = 0
    labels: tuple[str, ...] = ()
    ssh: SSHOptions = field(factory=SSHOptions)
    surroundings: Surroundings = field(factory=Surroundings)

    @property
    def spec(self) -> HostSpec:
        """Its host."""
        return HostSpec(host=self.host, user=self.user, port=self.port)

    @property
    def name(self) -> str:
        """What its host is called."""
        return str(self.spec)


@frozen(kw_only=True)
class Record:
    """A cluster.

    Attributes:
        name: its own, of those of this user.
        address: of its scheduler.
        machine: what the scheduler's machine calls itself.
        since: when it was started, in seconds since 1970.
        is_insecure: without TLS and credentials.
        is_passing: its credentials go with it.
        interface: on which its hosts know each other, or a subnet; "" for where each is reached.
        version: of the package that started it.
        agents: that of the scheduler first, if it is there still.
    """

    name: str
    address: str
    machine: str
    since: float
    is_insecure: bool = False
    is_passing: bool = False
    interface: str = ""
    version: str = VERSION
    agents: tuple[RecordedAgent, ...] = ()

    def with_agent(self, agent: RecordedAgent) -> Record:
        """This, with one more."""
        return evolve(self, agents=(*self.agents, agent))

    def without(self, ids: Sequence[str]) -> Record:
        """This, without some."""
        return evolve(self, agents=tuple(each for each in self.agents if each.id not in ids))


def dump(record: Record) -> str:
    """A record as text."""
    said = attrs.asdict(record, value_serializer=_plain)
    return json.dumps({"format": _FORMAT, **said}, indent=1)


def _plain(instance: object, attribute: object, value: object) -> object:
    if isinstance(value, Strictness):
        return value.value
    return dict(value) if isinstance(value, Mapping) else value


def load(text: str) -> Record:
    """A record from its text.

    Raises:
        ValueError: it is none.
    """
    try:
        said = json.loads(text)
        if said.pop("format") != _FORMAT:
            raise ValueError("it is of another version of this package")
        agents = tuple(_agent(each) for each in said.pop("agents"))
        record = Record(**said, agents=agents)
        words = (record.name, record.address, record.machine, record.version, record.interface)
        if not all(isinstance(each, str) for each in words):
            raise ValueError("a word is no text")
        float(record.since)
        file_name(record.name)
    except (KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"something is missing or odd: {problem}") from None
    return record


def _agent(said: dict[str, Any]) -> RecordedAgent:
    ssh = said.pop("ssh")
    strictness = ssh.pop("strictness")
    for name in ("fingerprints", "command"):
        ssh[name] = tuple(ssh[name])
    options = SSHOptions(**ssh, strictness=None if strictness is None else Strictness(strictness))
    surroundings = Surroundings(**said.pop("surroundings"))
    agent = RecordedAgent(
        **{**said, "labels": tuple(said["labels"])}, ssh=options, surroundings=surroundings
    )
    if not is_id(agent.id):
        raise ValueError("an agent has no id")
    return agent


class Records:
    """The records of a user.

    Args:
        home: the user's.
    """

    def __init__(self, home: Home | None = None) -> None:
        self.home = home if home is not None else Home()
        self._directory = self.home.directory / "clusters"

    def path(self, name: str) -> Path:
        """The file of a cluster. Raises ClusterError."""
        try:
            return self._directory / f"{file_name(name)}.json"
        except OrdersError as problem:
            raise ClusterError(str(problem)) from None

    def has(self, name: str) -> bool:
        """Whether there is one of that name. Raises ClusterError."""
        return self.path(name).exists()

    def all(self) -> list[Record]:
        """All of them, by name. Raises ClusterError where one cannot be read."""
        return [self._load(path) for path in sorted(self._directory.glob("*.json"))]

    def find(self, name: str | None) -> Record:
        """One of them: of that name or address; without one, the only one there is.

        Raises:
            ClusterError: there is none, or it is not clear which.
        """
        found = self.all()
        names = ", ".join(each.name for each in found)
        if name is None:
            if len(found) == 1:
                return found[0]
            if not found:
                raise ClusterError("there is no detached cluster of this user's here")
            raise ClusterError(f"which of these clusters? {names}")
        for each in found:
            if name == each.name:
                return each
        of_address = [each for each in found if each.address == name]
        if len(of_address) == 1:
            return of_address[0]
        raise ClusterError(
            f"there is no detached cluster {name!r} here"
            + (f"; there are {names}" if names else "")
        )

    def create(self, record: Record) -> None:
        """Begin one. Raises ClusterError where there is one of that name, or no place."""
        self._change(lambda: self._create(record))

    def _create(self, record: Record) -> None:
        if self.has(record.name):
            raise ClusterError(
                f"there is a cluster {record.name} already: dcluster status {record.name}; "
                f"dcluster down {record.name}"
            )
        write_secret(self.path(record.name), dump(record))

    def change(self, name: str, change: Callable[[Record], Record]) -> Record:
        """Change one, whoever else does; what it is then. Raises ClusterError."""
        changed: list[Record] = []

        def act() -> None:
            record = change(self._load(self.path(name)))
            write_secret(self.path(name), dump(record))
            changed.append(record)

        self._change(act)
        return changed[0]

    def remove(self, name: str) -> None:
        """Forget one, with its credentials where they go with it."""
        with contextlib.suppress(ClusterError):
            record = self._load(self.path(name))
            if record.is_passing and not record.is_insecure:
                self.home.remove_network(record.address)
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def _change(self, act: Callable[[], None]) -> None:
        try:
            with self.home.locked():
                act()
        except AccessError as problem:
            raise ClusterError(str(problem)) from None

    @staticmethod
    def _load(path: Path) -> Record:
        try:
            return load(read_secret(path, MAX_RECORD))
        except (AccessError, ValueError) as problem:
            raise ClusterError(f"cannot use {path}: {problem}") from None
