"""Entering hosts in tests: settings of `SSHDs`, a person who answers, and what commands wrote."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from tests.support.sshd import Host, SSHDs
from twisted_dist.launchers.ssh.conch_client import ConchClient
from twisted_dist.launchers.ssh.interface import Ending
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings, Strictness


class Answers:
    """A person who gives these answers, and then none.

    Attributes:
        prompts: what was asked.
    """

    def __init__(self, *secrets: str | None, yes: bool = False) -> None:
        self.prompts: list[str] = []
        self._secrets = list(secrets)
        self._yes = yes

    async def secret(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return self._secrets.pop(0) if self._secrets else None

    async def confirm(self, question: str) -> bool:
        self.prompts.append(question)
        return self._yes


class Wait:
    """A person who thinks for a while.

    Attributes:
        asked: fires once the question is there.
    """

    def __init__(self) -> None:
        self.asked: Deferred[str] = Deferred()
        self._answer: Deferred[str | None] = Deferred()

    def answer(self, answer: str | None) -> None:
        self._answer.callback(answer)

    async def secret(self, prompt: str) -> str | None:
        self.asked.callback(prompt)
        return await self._answer

    async def confirm(self, question: str) -> bool:
        self.asked.callback(question)
        return bool(await self._answer)


def settings(sshds: SSHDs, host: Host, /, **others: object) -> HostSettings:
    """How to enter a host, strictly, with the key that is let in, unless told otherwise."""
    values = {
        "alias": host.name,
        "host": host.address,
        "port": host.port,
        "user": getpass.getuser(),
        "identity_files": (str(sshds.key),),
        "known_hosts": (str(sshds.known_hosts),),
        "strictness": Strictness.YES,
    }
    return HostSettings(**{**values, **others})


def client(reactor: object, asker: object = None) -> ConchClient:
    """A client of a person, by default of one who is not there."""
    return ConchClient(reactor, Secrets(asker or Answers()))


class Output:
    """What a command wrote."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.errors = bytearray()

    def out(self, data: bytes) -> None:
        self.output += data

    def err(self, data: bytes) -> None:
        self.errors += data


async def run(
    connection: object, command: str, pieces: Sequence[bytes] = ()
) -> tuple[Ending, bytes, bytes]:
    """Run a command with some input: how it ended, what it wrote, and its errors."""
    heard = Output()
    running = await connection.start(command, heard.out, heard.err)
    for each in pieces:
        running.write(each)
    running.end_input()
    ending = await running.ended()
    return ending, bytes(heard.output), bytes(heard.errors)
