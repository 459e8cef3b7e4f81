"""`HostKeyCheck`: whether a host is the one that is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.algorithms import host_key_order, type_name
from twisted_dist.launchers.ssh.known_hosts import (
    Entry,
    Verdict,
    fingerprint,
    judge,
    known_types,
    look_up,
)
from twisted_dist.launchers.ssh.learning import learn
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings, Strictness


class WrongFingerprintError(SSHError):
    """A host's key is none of those that were named; it may have one of another type.

    Attributes:
        key_type: what it showed.
    """

    def __init__(self, message: str, key_type: bytes) -> None:
        super().__init__(message, "host-key")
        self.key_type = key_type

    def __reduce__(self) -> tuple[type[SSHError], tuple[str, str, bool]]:
        return SSHError, (str(self), self.kind, self.is_passing)


class HostKeyCheck:
    """Judges the key that a host shows, once for a connection.

    Files are read when a key is judged, not before: what was learnt from another connection to
    the same host counts.

    Attributes:
        is_trusted: whether passwords may be sent there; they may not to a host whose key has
            changed, though `Strictness.NO` takes it. ssh does the same.
    """

    _log: Final = Logger()

    def __init__(
        self,
        settings: HostSettings,
        secrets: Secrets,
        patience: Patience,
        without: frozenset[bytes] = frozenset(),
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.is_trusted = True
        self._settings = settings
        self._secrets = secrets
        self._patience = patience
        self._without = without
        self._random_bytes = random_bytes

    def algorithms(self) -> list[bytes]:
        """Algorithms of host keys to offer, best first."""
        known = [] if self._settings.fingerprints else known_types(self._entries())
        return host_key_order(known, self._without)

    async def verify(self, blob: bytes, key_type: bytes) -> None:
        """Return where this is the host's key.

        Raises:
            SSHError: it is not, or nobody knows.
        """
        if self._settings.fingerprints:
            self._check_fingerprint(blob, key_type)
            return
        strictness = self._settings.strictness
        verdict, entry = judge(self._entries(), blob, key_type)
        if verdict is Verdict.REVOKED:
            raise self._revoked(entry, blob, key_type)
        if verdict is Verdict.KNOWN:
            return
        if verdict is Verdict.CHANGED and strictness is not Strictness.NO:
            raise self._changed(entry, blob, key_type)
        if strictness is Strictness.NO:
            if verdict is Verdict.UNKNOWN:
                self._learn(blob, key_type)
            else:
                self.is_trusted = False
        elif strictness is Strictness.ACCEPT_NEW:
            # whoever is in between would show a key of another type, and pass for new
            if verdict is Verdict.OTHER_TYPES:
                raise self._changed(entry, blob, key_type)
            self._learn(blob, key_type)
        elif strictness is Strictness.ASK:
            await self._ask(blob, key_type)
        else:
            raise self._unknown(blob, key_type)

    async def _ask(self, blob: bytes, key_type: bytes) -> None:
        async with self._secrets.turn(self._patience):
            # somebody may have answered it meanwhile, for another connection
            verdict, entry = judge(self._entries(), blob, key_type)
            if verdict is Verdict.KNOWN:
                return
            if verdict is Verdict.CHANGED:
                raise self._changed(entry, blob, key_type)
            question = (
                f"The authenticity of host '{self._where}' can't be established.\n"
                f"{type_name(key_type)} key fingerprint is {fingerprint(blob)}.\n"
            )
            if entry is not None:
                question += (
                    f"It is known by a key of another type, {type_name(entry.key_type)} "
                    f"({entry.source}), which it does not show.\n"
                )
            question += "Are you sure you want to continue connecting?"
            if not await self._secrets.confirm(question, self._patience):
                raise self._unknown(blob, key_type)
            self._learn(blob, key_type)

    def _learn(self, blob: bytes, key_type: bytes) -> None:
        files = self._settings.known_hosts
        if not files or files[0] == "none":
            return
        name = self._settings.known_name.lower()
        try:
            learn(files[0], name, key_type, blob, self._random_bytes)
        except OSError as error:
            self._log.warn(
                "{host}: its key could not be written to {file}: {why}",
                host=self._settings.alias,
                file=files[0],
                why=error.strerror,
            )

    def _entries(self) -> list[Entry]:
        return look_up(self._settings.known_hosts, self._settings.known_name)

    @property
    def _where(self) -> str:
        alias, name = self._settings.alias, self._settings.known_name
        return name if alias == name else f"{alias} ({name})"

    def _check_fingerprint(self, blob: bytes, key_type: bytes) -> None:
        if fingerprint(blob) not in self._settings.fingerprints:
            raise WrongFingerprintError(
                f"{self._settings.alias}: its {type_name(key_type)} host key is "
                f"{fingerprint(blob)}, which is none of those that were named (--fingerprint)",
                key_type,
            )

    def _unknown(self, blob: bytes, key_type: bytes) -> SSHError:
        return SSHError(
            f"{self._settings.alias}: its host key is not known: {type_name(key_type)} "
            f"{fingerprint(blob)}. Compare it with 'ssh-keygen -lf' there; then take it by "
            f"--fingerprint, or new ones unseen by --accept-new",
            "host-key",
        )

    def _changed(self, entry: Entry | None, blob: bytes, key_type: bytes) -> SSHError:
        assert entry is not None
        path = entry.source.rpartition(":")[0]
        return SSHError(
            f"{self._settings.alias}: ITS HOST KEY HAS CHANGED: it shows {type_name(key_type)} "
            f"{fingerprint(blob)}, {entry.source} has {type_name(entry.key_type)} "
            f"{fingerprint(entry.blob)}. Somebody may be in between. If you know that it has a "
            f"new key: ssh-keygen -f {path!r} -R {self._settings.known_name!r}",
            "host-key-changed",
        )

    def _revoked(self, entry: Entry | None, blob: bytes, key_type: bytes) -> SSHError:
        source = entry.source if entry else ""
        return SSHError(
            f"{self._settings.alias}: its host key is revoked: {type_name(key_type)} "
            f"{fingerprint(blob)} ({source})",
            "host-key-changed",
        )
