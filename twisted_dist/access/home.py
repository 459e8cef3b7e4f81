"""The files of a user's networks: ``$TWISTED_DIST_HOME``, or ``~/.twisted_dist``.

For each scheduler, named by its address, ``HOST-PORT.network`` is the scheduler's own and
``HOST-PORT.access`` is what its owner's clients and workers find. Both hold secrets: the
directory has mode 0700, the files 0600, and what others could read is not used. Files are
replaced in one step, and changes are made under a lock, so the directory may be shared by
several machines and schedulers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twisted_dist.access.access import MAX_ACCESS_BYTES, Access
from twisted_dist.access.life import has_ended, life, machine_name
from twisted_dist.access.network import Network
from twisted_dist.address import parse_address
from twisted_dist.errors import AccessError

#: bytes of a network file that are read at most: tens of thousands of grants
MAX_NETWORK_BYTES: Final = 16 * 2**20
#: ends the name of a network file that was put aside for one that a launcher gave
ASIDE: Final = "network-aside"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def default_directory() -> Path:
    """Where the user's networks are."""
    named = os.environ.get("TWISTED_DIST_HOME")
    return Path(named).expanduser() if named else Path.home() / ".twisted_dist"


def read_secret(path: Path, most: int = MAX_ACCESS_BYTES) -> str:
    """The text of a file that only its owner can read.

    Raises:
        AccessError: it is not there, others can read it, or it is too large; says which.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise AccessError(
                    f"{path} holds a secret and others can read it: chmod 600 '{path}'"
                )
            data = file.read(most + 1)
    except OSError as problem:
        raise AccessError(f"cannot read {path}: {problem.strerror}") from None
    if len(data) > most:
        raise AccessError(f"{path} is larger than any file of ours")
    return data.decode(errors="replace")


def write_secret(path: Path, text: str) -> None:
    """Put a file there in one step, readable by its owner only.

    Raises:
        AccessError: it cannot be written; says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    except OSError as problem:
        raise AccessError(f"cannot write {path}: {problem.strerror}") from None


class Home:
    """The files below one directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory if directory is not None else default_directory()

    def _path(self, address: str, kind: str) -> Path:
        host, port = parse_address(address)
        safe = "".join(c if c.isalnum() or c in ".-" else "_" for c in host)
        return self.directory / f"{safe}-{port}.{kind}"

    def network_path(self, address: str) -> Path:
        """The scheduler's own file."""
        return self._path(address, "network")

    def access_path(self, address: str) -> Path:
        """The file that the owner's clients and workers find."""
        return self._path(address, "access")

    def prepare(self) -> None:
        """See that the directory is there, and closed. Raises AccessError."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            mode = self.directory.stat().st_mode
            if mode & _OTHERS:
                self.directory.chmod(stat.S_IMODE(mode) & ~_OTHERS)
        except OSError as problem:
            raise AccessError(
                f"cannot keep access in {self.directory}: {problem.strerror}; set "
                "TWISTED_DIST_HOME to a directory of yours"
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Change files while nobody else does. Raises AccessError."""
        self.prepare()
        try:
            descriptor = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            raise AccessError(f"cannot lock {self.directory}: {problem.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for some file operations only
            yield
        finally:
            os.close(descriptor)

    # -- a scheduler's

    def open_network(
        self,
        address: str,
        *,
        passing: bool = False,
        given: Network | None = None,
        machine: str | None = None,
    ) -> Network:
        """The network of the scheduler at *address*: its last life's, or a new one.

        Args:
            address: the scheduler's.
            passing: it will not be there again, so its files may go when it has ended.
            given: the one to be, whatever is there; where it is there already, with what was
                granted since. One of another scheduler of this address is put aside, and
                comes back when the files of this one go.
            machine: name of the scheduler's; by default it is this one.
        """
        with self.locked():
            path = self.network_path(address)
            network = None if given is None else self._renewed(path, given)
            self._prune()
            if network is None:
                network = self._load(path) if path.exists() else Network.make()
            elif path.exists() and self._load(path).key != network.key:
                aside = self._path(address, ASIDE)
                if not aside.exists():  # or else it is of a launcher too
                    os.replace(path, aside)
            write_secret(path, network.dump())
            machine = machine_name() if machine is None else machine
            access = network.access([address], machine, network.owned.values())
            write_secret(self.access_path(address), access.dump())
            told = self._path(address, "life")
            if passing:
                write_secret(told, json.dumps(life()))
            else:
                told.unlink(missing_ok=True)
            return network

    def _renewed(self, path: Path, given: Network) -> Network:
        """A network that was given, as it is in its file, if that is its."""
        with contextlib.suppress(AccessError):  # none there, or none that can be read
            found = self._load(path)
            if found.key == given.key:
                return found
        return given

    def load_network(self, address: str) -> Network:
        """The network of a scheduler of this user's. Raises AccessError where there is none."""
        path = self.network_path(address)
        if not path.exists():
            raise AccessError(
                f"there is no network {address} in {self.directory}: only where its scheduler "
                "was started, credentials are made and revoked"
            )
        return self._load(path)

    @contextlib.contextmanager
    def changing_network(self, address: str) -> Iterator[Network]:
        """A network, to be written again when the block ends without an exception.

        So is the owner's access, which names the workers' certificates.
        """
        with self.locked():
            network = self.load_network(address)
            yield network
            write_secret(self.network_path(address), network.dump())
            path = self.access_path(address)
            with contextlib.suppress(AccessError):  # where the owner has removed it
                held = Access.load(read_secret(path))
                renewed = network.access(held.addresses, held.machine, network.owned.values())
                write_secret(path, renewed.dump())

    def remove_network(self, address: str) -> None:
        """Take a passing network's files away; what was put aside for it comes back."""
        with contextlib.suppress(AccessError), self.locked():
            self._remove(self.network_path(address))

    def _remove(self, path: Path) -> None:
        for kind in ("network", "access", "life"):
            with contextlib.suppress(OSError):
                path.with_name(f"{path.stem}.{kind}").unlink()
        with contextlib.suppress(OSError):
            os.replace(path.with_name(f"{path.stem}.{ASIDE}"), path)

    def _load(self, path: Path) -> Network:
        try:
            return Network.load(read_secret(path, MAX_NETWORK_BYTES))
        except AccessError as problem:
            raise AccessError(f"{path}: {problem}") from None

    def _prune(self) -> None:
        """Take away what schedulers that were killed had meant to."""
        for path in self.directory.glob("*.life"):
            try:
                ended = has_ended(json.loads(read_secret(path)))
            except (AccessError, ValueError):
                continue
            if ended:
                self._remove(path.with_suffix(".network"))

    # -- a member's

    def accesses(self) -> list[Access]:
        """All that can be used."""
        found = []
        for path in sorted(self.directory.glob("*.access")):
            with contextlib.suppress(AccessError):
                found.append(Access.load(read_secret(path)))
        return found

    def addresses(self) -> list[str]:
        """Of the networks whose schedulers' own files are here."""
        found = []
        for access in self.accesses():
            address = access.addresses[0]
            if self.network_path(address).exists():
                found.append(address)
        return found
