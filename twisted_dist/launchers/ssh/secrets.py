"""`Secrets`: what people are asked, one question at a time, and what they have answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from twisted.conch.ssh.keys import Key
from twisted.internet.defer import DeferredLock

from twisted_dist.launchers.ssh.interface import Asker
from twisted_dist.launchers.ssh.keys import Identity
from twisted_dist.launchers.ssh.patience import Patience

#: how often a passphrase is asked for, as ssh does (``NumberOfPasswordPrompts``)
PROMPTS: Final = 3


class Secrets:
    """Shared by all connections: fifty hosts ask once for the passphrase of their common key.

    Secrets are kept in this object only, for as long as it lives.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._lock = DeferredLock()
        #: `{path: the opened key}`; None where nobody knew the passphrase
        self._opened: dict[str, Key | None] = {}
        #: `{user: the password that worked last}`
        self._worked: dict[str, str] = {}

    @asynccontextmanager
    async def turn(self, patience: Patience) -> AsyncIterator[None]:
        """In here, nobody else asks. Waiting for it is waiting for a person."""
        with patience.paused():
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    async def confirm(self, question: str, patience: Patience) -> bool:
        """Whether a person says yes. For a `turn` only."""
        with patience.paused():
            return await self._asker.confirm(question)

    async def ask(self, prompt: str, patience: Patience) -> str | None:
        """What a person types; None where nobody answers. For a `turn` only."""
        with patience.paused():
            return await self._asker.secret(prompt)

    async def open_key(self, identity: Identity, patience: Patience) -> Key | None:
        """The private key of a file, with the passphrase that people know.

        Asked once for a file, whatever came of it.
        """
        if not identity.is_encrypted:
            return identity.open(None)
        async with self.turn(patience):
            if identity.path not in self._opened:
                self._opened[identity.path] = await self._ask_passphrase(identity, patience)
            return self._opened[identity.path]

    async def _ask_passphrase(self, identity: Identity, patience: Patience) -> Key | None:
        prompt = f"Enter passphrase for key '{identity.path}': "
        for _ in range(PROMPTS):
            passphrase = await self.ask(prompt, patience)
            if not passphrase:
                return None
            key = identity.open(passphrase)
            if key is not None:
                return key
            prompt = f"That was not it. Enter passphrase for key '{identity.path}': "
        return None

    def worked(self, user: str) -> str | None:
        """A password that this user had on another host."""
        return self._worked.get(user)

    def remember(self, user: str, password: str) -> None:
        """It worked: the next host may have it too."""
        self._worked[user] = password
