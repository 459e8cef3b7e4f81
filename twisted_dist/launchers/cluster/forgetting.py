"""Ends agents, and forgets those that are known to have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted_dist.launchers.cluster.record import Record, RecordedAgent, Records
from twisted_dist.launchers.cluster.visiting import Seen, State, Visiting

#: an agent of which this is known is not there any more
OVER = frozenset({State.ENDED, State.GONE})


async def end_agents(
    visiting: Visiting,
    records: Records,
    record: Record,
    agents: Iterable[RecordedAgent],
    told: Callable[[Seen], None],
) -> list[Seen]:
    """End agents of a cluster; those that may live on, which stay in its record.

    With its last agent the cluster is forgotten, and its credentials, if they are to go with it.

    Args:
        visiting: talks with them.
        records: that has the cluster.
        record: of it.
        agents: which.
        told: called with what was seen of each, as it comes.

    Raises:
        ClusterError: the record cannot be written; the agents were ended.
    """
    seen = await visiting.end(agents, told)
    over = [each.agent.id for each in seen if each.state in OVER]
    left = [each for each in seen if each.state not in OVER]
    # somebody else may have ended it meanwhile
    is_there = records.has(record.name)
    if is_there and not records.change(record.name, lambda now: now.without(over)).agents:
        records.remove(record.name)
    return left


async def forget_gone(
    visiting: Visiting, records: Records, record: Record, hosts: Iterable[str], fresh: Iterable[str]
) -> Record:
    """Forget agents that are not there any more, such as those of a host that has restarted.

    Args:
        visiting: talks with them.
        records: that has the cluster.
        record: of it.
        hosts: names of those that are asked.
        fresh: ids of agents that need not be asked for.
    """
    hosts, fresh = set(hosts), set(fresh)
    doubtful = [each for each in record.agents if each.name in hosts and each.id not in fresh]
    dead = [each.agent for each in await visiting.look(doubtful) if each.state is State.GONE]
    # one that was killed has left its state there, and perhaps more
    gone = [each.agent.id for each in await visiting.end(dead) if each.state in OVER]
    return records.change(record.name, lambda now: now.without(gone)) if gone else record
