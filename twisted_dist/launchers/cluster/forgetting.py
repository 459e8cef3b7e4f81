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
    if not records.change(record.name, lambda now: now.without(over)).agents:
        records.remove(record.name)
    return [each for each in seen if each.state not in OVER]
