"""``dcluster down``: ends a detached cluster."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_dist.errors import TwistedDistError
from twisted_dist.launchers.cluster.forgetting import end_agents
from twisted_dist.launchers.cluster.record import Record, Records
from twisted_dist.launchers.cluster.visiting import Seen, State, Visiting, entrances
from twisted_dist.launchers.ssh.asking import TerminalAsker


class ClusterDown:
    """One run of ``dcluster down``. Ends with status 1 where something may live on."""

    def __init__(self, reactor: Any, records: Records, record: Record) -> None:
        self._reactor = reactor
        self._records = records
        self._record = record
        asker = TerminalAsker(reactor)
        self._visiting = Visiting(
            reactor, record.name, entrances(reactor, asker, dict(os.environ), random.Random())
        )
        self.exit_status = 0

    def begin(self) -> None:
        """End it, once the reactor runs."""
        ending = Deferred.fromCoroutine(self._end())
        ending.addErrback(self._broken)
        ending.addBoth(lambda _: self._reactor.running and self._reactor.stop())

    async def _end(self) -> None:
        record = self._record
        try:
            left = await end_agents(
                self._visiting, self._records, record, record.agents, self._tell
            )
        finally:
            await self._visiting.close()
        if left:
            self.exit_status = 1
            hosts = ", ".join(sorted({each.agent.name for each in left}))
            print(
                f"dcluster: {record.name} is not known to have ended on {hosts}: give dcluster "
                f"down {record.name} again once that is possible",
                file=sys.stderr,
            )
        else:
            print(f"{record.name} has ended")

    def _tell(self, seen: Seen) -> None:
        labels = ", ".join(seen.agent.labels)
        if seen.state is State.ENDED:
            text = f"ended: {labels}" + (f" ({seen.why})" if seen.why else "")
        elif seen.state is State.GONE:
            text = f"was not there any more: {labels}" + (f" ({seen.why})" if seen.why else "")
        else:
            text = f"{seen.state.value}: {seen.why}; it should have {labels}"
        print(f"{seen.agent.name}: {text}", flush=True)

    def _broken(self, failure: Failure) -> None:
        is_ours = failure.check(TwistedDistError)
        told = failure.getErrorMessage() if is_ours else failure.getTraceback()
        print(f"dcluster: {told}", file=sys.stderr)
        self.exit_status = 1
