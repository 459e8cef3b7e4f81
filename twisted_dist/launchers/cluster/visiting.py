"""`Visiting`: enters the hosts of a cluster that was left, and talks with its agents there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.entrance import Entrance
from twisted_dist.launchers.cluster.far_agent import ask_agent
from twisted_dist.launchers.cluster.record import RecordedAgent
from twisted_dist.launchers.cluster.request import SSHOptions
from twisted_dist.launchers.hosts.spec import HostSpec
from twisted_dist.launchers.ssh.interface import Asker, Connection

#: seconds in which attempts to enter a host begin
ENTER_S: Final = 3.0
#: seconds in which a host tells how an agent is: the start of a Python, and an activation
STATUS_S: Final = 30.0
#: and in which it has ended one, by force if need be: more than `agent_look`'s bounds
DOWN_S: Final = 75.0


class Entering(Protocol):
    """What enters hosts: an `Entrance`."""

    async def enter(self, spec: HostSpec, patience_s: float) -> Connection:
        """Enter one. Raises SSHError."""

    def close(self) -> Deferred[None]:
        """Fires when nothing of it is left."""


class State(Enum):
    """What is known of an agent."""

    UP = "up"
    #: it was ended just now
    ENDED = "ended"
    #: it was not there any more
    GONE = "gone"
    #: its host could not be asked
    UNKNOWN = "not reached"
    #: it could not be ended
    LEFT = "left"


@frozen(kw_only=True)
class Seen:
    """What was seen of an agent.

    Attributes:
        agent: which.
        state: how it is.
        why: in one line; "" where there is nothing to say.
        daemons: as its host tells of them, where it is up.
        log: where its lines are, on its host.
    """

    agent: RecordedAgent
    state: State
    why: str = ""
    daemons: tuple[Mapping[str, Any], ...] = ()
    log: str = ""


def entrances(
    reactor: Any, asker: Asker, environ: Mapping[str, str], chance: random.Random
) -> Callable[[SSHOptions], Entering]:
    """Makes entrances for whatever was said of SSH."""
    return lambda ssh: Entrance(reactor, ssh, asker, environ, chance)


class Visiting:
    """Talks with the agents of one cluster; each host is entered once.

    Args:
        reactor: for time.
        cluster: its name.
        entrance: makes what enters hosts.
    """

    def __init__(
        self, reactor: Any, cluster: str, entrance: Callable[[SSHOptions], Entering]
    ) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._make = entrance
        self._entrances: dict[SSHOptions, Entering] = {}
        self._connections: dict[tuple[object, ...], Deferred[Connection]] = {}
        self._entered: list[Connection] = []

    async def look(self, agents: Iterable[RecordedAgent]) -> list[Seen]:
        """How they are, in order."""
        looks = [Deferred.fromCoroutine(self._ask(each, "status", STATUS_S)) for each in agents]
        return await gatherResults(looks)

    async def end(
        self, agents: Iterable[RecordedAgent], told: Callable[[Seen], None] = lambda seen: None
    ) -> list[Seen]:
        """End them, the scheduler's last; what was seen of each.

        Args:
            agents: which.
            told: called with each, as it comes.
        """
        agents = list(agents)
        seen: list[Seen] = []

        async def one(agent: RecordedAgent) -> None:
            result = await self._ask(agent, "down", DOWN_S)
            seen.append(result)
            told(result)

        for is_scheduler in (False, True):
            await gatherResults(
                [
                    Deferred.fromCoroutine(one(each))
                    for each in agents
                    if each.is_scheduler is is_scheduler
                ]
            )
        return seen

    async def _ask(self, agent: RecordedAgent, what: str, patience_s: float) -> Seen:
        try:
            connection = await self._connection(agent)
            said = await ask_agent(
                self._reactor,
                connection,
                agent.surroundings,
                what,
                self._cluster,
                agent.id,
                patience_s,
            )
        except SSHError as problem:
            why = str(problem).removeprefix(f"{agent.name}: ")
            return Seen(agent=agent, state=State.UNKNOWN, why=why)
        return _seen(agent, said)

    async def _connection(self, agent: RecordedAgent) -> Connection:
        key = (agent.host, agent.user, agent.port, agent.ssh)
        entering = self._connections.get(key)
        if entering is None:
            if agent.ssh not in self._entrances:
                self._entrances[agent.ssh] = self._make(agent.ssh)
            entrance = self._entrances[agent.ssh]
            entering = Deferred.fromCoroutine(entrance.enter(agent.spec, ENTER_S))
            self._connections[key] = entering
            entering.addCallback(self._note)
        mine: Deferred[Connection] = Deferred()

        def share(result: Any) -> Any:
            mine.callback(result)  # it may be a failure
            return result

        entering.addBoth(share)
        return await mine

    def _note(self, connection: Connection) -> Connection:
        self._entered.append(connection)
        return connection

    async def close(self) -> None:
        """Leave all hosts."""
        for each in self._connections.values():
            each.addErrback(lambda _: None)
            each.cancel()
        await DeferredList([each.close() for each in self._entered])
        await DeferredList([each.close() for each in self._entrances.values()])


def _seen(agent: RecordedAgent, said: Mapping[str, Any]) -> Seen:
    why, log, state = str(said.get("why", "")), str(said.get("log", "")), said.get("state")
    if state == "up":
        told = said.get("daemons")
        daemons = tuple(each for each in told if isinstance(each, dict)) if told else ()
        return Seen(agent=agent, state=State.UP, daemons=daemons, log=log)
    if state == "ended":
        count, killed = said.get("processes"), said.get("killed")
        forced = f", {killed} of them by force" if killed else ""
        return Seen(agent=agent, state=State.ENDED, why=f"{count} processes{forced}")
    if state == "gone":
        return Seen(agent=agent, state=State.GONE, why=why, log=log)
    if state == "elsewhere":
        return Seen(agent=agent, state=State.UNKNOWN, why=why)
    return Seen(agent=agent, state=State.LEFT, why=why)
