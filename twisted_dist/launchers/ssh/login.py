"""`Login`: what a login at a host has to do with: who, with which keys, and whom to ask."""

from __future__ import annotations

from typing import Any

from twisted_dist.launchers.ssh.agent import Agent, AgentError
from twisted_dist.launchers.ssh.host_keys import HostKeyCheck
from twisted_dist.launchers.ssh.identities import Candidate, order, read_identities
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings


class Login:
    """One login at one host.

    Attributes:
        alias: what the user calls the host.
        user: to be there.
        where: ``user@host``, for prompts.
        secrets: whom to ask.
        patience: what stands still while that is done.
        problems: keys that could not be tried, and why.
    """

    def __init__(
        self,
        reactor: Any,
        settings: HostSettings,
        secrets: Secrets,
        patience: Patience,
        host_key: HostKeyCheck,
    ) -> None:
        self.alias = settings.alias
        self.user = settings.user
        self.where = f"{settings.user}@{settings.alias}"
        self.secrets = secrets
        self.patience = patience
        self.problems: list[str] = []
        self._reactor = reactor
        self._settings = settings
        self._host_key = host_key
        self._agent: Agent | None = None

    def may_send_passwords(self) -> bool:
        """Whether the host is surely the one that is meant."""
        return self._host_key.is_trusted

    async def candidates(self) -> list[Candidate]:
        """Keys to try, best first.

        Raises:
            SSHError: a key that the user demands is of no use.
        """
        identities, problems = read_identities(self._settings)
        self.problems += problems
        if self._settings.agent is not None:
            try:
                self._agent = await Agent.open(self._reactor, self._settings.agent)
                return await order(
                    self._settings, identities, self._agent, self.secrets, self.patience
                )
            except AgentError as error:
                # as with ssh, whose users have variables that point to an agent of yesterday
                self.problems.append(str(error))
        return await order(self._settings, identities, None, self.secrets, self.patience)

    def close(self) -> None:
        """Let go of the agent. Idempotent."""
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.close()
