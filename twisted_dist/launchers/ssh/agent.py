"""The agent: keys whose private halves it keeps, and which it signs with."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final

from twisted.conch.error import ConchError
from twisted.conch.ssh.agent import AGENT_SIGN_RESPONSE, AGENTC_SIGN_REQUEST, SSHAgentClient
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_dist.launchers.ssh.keys import parse_public

#: seconds until an agent must have said what keys it has
AGENT_S: Final = 5.0
#: seconds until it must have signed; it may ask a person, or for the touch of a token
SIGN_S: Final = 120.0
#: OpenSSH's agents send no more than this
MESSAGE_BYTES: Final = 256 * 1024
#: PROTOCOL.agent, 4.5.1: which hash RSA signs with; conch's ``signData`` can ask for SHA-1 only
_FLAGS: Final = {b"rsa-sha2-256": 2, b"rsa-sha2-512": 4}


class AgentError(Exception):
    """The agent gave no answer, or refused."""


class _AgentProtocol(SSHAgentClient):
    """Conch's, which would wait for ever for an agent that has ended."""

    deferreds: list[Deferred[bytes]]
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Answers; one that nobody asked for, or too long, ends it."""
        try:
            super().dataReceived(data)
            is_sane = len(self.buf) <= MESSAGE_BYTES
        except Exception:  # whatever indices and struct say of nonsense
            is_sane = False
        if not is_sane:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whatever is waited for fails."""
        waiting, self.deferreds = self.deferreds, []
        for each in waiting:
            each.errback(AgentError("the agent ended the connection"))


class Agent:
    """A connection to an agent, for the time of a login."""

    def __init__(self, reactor: Any, protocol: _AgentProtocol) -> None:
        self._reactor = reactor
        self._protocol = protocol

    @classmethod
    async def open(
        cls, reactor: Any, path: str, endpoint: IStreamClientEndpoint | None = None
    ) -> Agent:
        """Connect to the agent at a socket's *path*.

        Raises:
            AgentError: there is none.
        """
        if endpoint is None:
            socket = str(Path(path).expanduser())
            endpoint = UNIXClientEndpoint(reactor, socket, timeout=AGENT_S)
        try:
            dialling = connectProtocol(endpoint, _AgentProtocol())
            return cls(reactor, await dialling.addTimeout(AGENT_S, reactor))
        except CancelledError:
            raise
        except Exception as error:
            raise AgentError(f"no agent answers at {path}") from error

    async def keys(self) -> list[tuple[Key, str]]:
        """Its keys with their comments, in its order; kinds that are of no use are left out.

        Raises:
            AgentError: it does not say.
        """
        found = await self._wait(self._protocol.requestIdentities(), AGENT_S)
        keys = [(parse_public(blob), comment.decode("utf-8", "replace")) for blob, comment in found]
        return [(key, comment) for key, comment in keys if key is not None]

    async def sign(self, key: Key, data: bytes, algorithm: bytes) -> bytes:
        """A signature, in SSH's form.

        Raises:
            AgentError: it refuses, or a person did.
        """
        flags = struct.pack(">L", _FLAGS.get(algorithm, 0))
        body = NS(key.blob()) + NS(data) + flags
        answer = await self._wait(self._protocol.sendRequest(AGENTC_SIGN_REQUEST, body), SIGN_S)
        if answer[:1] != bytes([AGENT_SIGN_RESPONSE]):
            raise AgentError("the agent refused to sign")
        signature: bytes = getNS(answer[1:])[0]
        return signature

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._protocol.transport.loseConnection()

    async def _wait(self, waiting: Deferred[Any], seconds: float) -> Any:
        try:
            return await waiting.addTimeout(seconds, self._reactor)
        except AgentError:
            raise
        except (ConchError, defer.TimeoutError, IndexError, struct.error) as error:
            raise AgentError(f"the agent refused: {error}") from error
