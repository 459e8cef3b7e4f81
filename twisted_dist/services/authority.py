"""`NetworkAuthority`: who is known to a scheduler, from its network file, as it changes."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any, Final

from twisted.internet import task
from twisted.logger import Logger

from twisted_dist.access.credential import Certificate
from twisted_dist.access.home import MAX_NETWORK_BYTES, Home, read_secret
from twisted_dist.access.network import Network
from twisted_dist.errors import AccessError, RefusedError
from twisted_dist.wire.membership import Contexts

#: seconds between looks at the network file and at what has expired: how long a revoked
#: credential may go on
LOOK_S: Final = 0.5
#: of a seal: nobody finds one by trying
SEAL_BYTES: Final = 32


class NetworkAuthority:
    """The authority of a scheduler's port.

    ``daccess`` changes the network file; this notices, and has *changed* called.

    Args:
        home: where the file is.
        clock: for looking again.
        changed: called when keys have come or gone.
        wall: seconds since 1970, which expiries are in.
        given: the network to be; by default the home's.
    """

    log = Logger()
    insecure = False

    def __init__(
        self,
        home: Home,
        clock: Any,
        changed: Callable[[], None],
        wall: Callable[[], float] = time,
        given: Network | None = None,
    ) -> None:
        self._home = home
        self._given = given
        self._changed = changed
        self._wall = wall
        self._network: Network | None = None
        self._contexts: Contexts | None = None
        self._path = Path()
        self._address = ""
        self._passing = False
        self._stamp: object = None
        self._keys: dict[Certificate, str] = {}
        self._looking = task.LoopingCall(self._look)
        self._looking.clock = clock

    def open(self, address: str, *, passing: bool) -> None:
        """Find or make the network of the scheduler at *address*. Raises AccessError."""
        # who gives a network gives it again: it need not outlive the scheduler
        passing = passing or self._given is not None
        self._network = self._home.open_network(address, passing=passing, given=self._given)
        self._address, self._passing = address, passing
        self._path = self._home.network_path(address)
        self._stamp = self._read_stamp()
        self._keys = self._network.keys(self._wall())
        self._contexts = Contexts(self._network.key, answers=True)
        self._looking.start(LOOK_S, now=False).addErrback(
            lambda failure: self.log.failure("looking at access ended", failure=failure)
        )

    def close(self) -> None:
        """Stop looking; what nobody will need again is taken away."""
        if self._looking.running:
            self._looking.stop()
        if self._passing:
            self._home.remove_network(self._address)

    def _read_stamp(self) -> object:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _look(self) -> None:
        self._reload()
        assert self._network is not None
        keys = self._network.keys(self._wall())
        if keys != self._keys:
            self._keys = keys
            self._changed()

    def _reload(self) -> None:
        """Read the file again if it has changed; one that cannot be read changes nothing."""
        stamp = self._read_stamp()
        if stamp is not None and stamp != self._stamp:
            try:
                changed = Network.load(read_secret(self._path, MAX_NETWORK_BYTES))
            except AccessError as problem:
                self.log.error("{path}: {why}", path=str(self._path), why=str(problem))
            else:
                self._network = changed
            self._stamp = stamp

    def keys(self) -> dict[Certificate, str]:
        """The certificates that count, with their roles: what members are told."""
        return self._keys

    def seal(self, what: bytes) -> bytes:
        """What only this network's scheduler can say of *what*, in each of its lives."""
        assert self._network is not None
        key = self._network.key.reveal()
        return hashlib.blake2b(what, key=key, digest_size=SEAL_BYTES).digest()

    # -- as the authority of a port

    def context(self) -> ssl.SSLContext:
        """TLS for all that were ever given a credential: what is wrong with it, they are told."""
        assert self._contexts is not None
        self._reload()  # one may have been given out just now
        assert self._network is not None
        return self._contexts.trusting(self._network.grants)

    def role(self, certificate: Certificate | None) -> str:
        """The role of the holder of a key. Raises RefusedError.

        What has changed is told to all members before anybody is let in: who has just been
        given a credential will soon ask a worker.
        """
        self._look()
        assert self._network is not None
        grant = self._network.grants.get(certificate) if certificate is not None else None
        if grant is None:
            raise RefusedError("it showed no credential of this network")
        why_not = grant.why_not(self._wall())
        if why_not is not None:
            raise RefusedError(f"{why_not}; ask whoever runs the scheduler for a new one")
        return grant.role

    def ready(self) -> bool:
        """Whether the network is open."""
        return self._contexts is not None
