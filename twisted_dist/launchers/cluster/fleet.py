"""`Fleet`: the hosts of a cluster together, from nothing to a network and back.

All hosts are entered at once. What is wrong with one is known before anything starts, unless
it answers much later than the others: they do not wait for it, and it joins when it can. The
scheduler starts first, workers once its address is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from twisted_dist.errors import ClusterError
from twisted_dist.launchers.cluster.far_daemon import SCHEDULER_STARTED
from twisted_dist.launchers.cluster.plan import Daemon, Place, Plan
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.cluster.station import Company, Station

#: seconds that hosts which were entered wait for the others, before the scheduler starts
GATHER_S: Final = 5.0
#: seconds until a scheduler must have said where it is, and after that from one worker that has
#: registered to the next: a machine that is busy takes some for the first import of everything
START_S: Final = 60.0


class Fleet:
    """A cluster's hosts.

    Args:
        reactor: for time.
        plan: what is meant.
        policy: with how little it begins.
        station: makes the station of a place, which belongs to the company that it is given.
        locate: called with the scheduler's address, each time that it has started.

    Attributes:
        address: of the scheduler, once it has said so.
        ended: fires with why, once the network has been ended by somebody else.
    """

    def __init__(
        self,
        reactor: Any,
        plan: Plan,
        policy: Policy,
        station: Callable[[Place, Company], Station],
        locate: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._plan = plan
        self._policy = policy
        self._locate = locate
        self.stations = [station(place, self) for place in plan.places]
        self._starting: Deferred[str] | None = None
        self._located: Deferred[str] = Deferred()
        self._settling: Deferred[None] | None = None
        self._announcements = 0
        self.address = ""
        self.ended: Deferred[str] = Deferred()

    def start(self) -> Deferred[str]:
        """Enter the hosts and start everything; fires with the scheduler's address.

        Fails with `ClusterError` where too little of it started; what did runs on: `end` it.
        """
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting

    async def _start(self) -> str:
        for each in self.stations:
            each.begin()
        first = self.stations[0]
        await first.looked
        if first.failed is not None:
            raise ClusterError(f"no scheduler: {first.failed}")
        await self._gathered()
        self._check(each for each in self.stations if each.failed is None)
        first.start_scheduler()
        try:
            self.address = await self._located.addTimeout(START_S, self._reactor)
        except defer.TimeoutError:
            raise ClusterError(
                f"the scheduler on {first.name} has not started for {START_S:g} s"
            ) from None
        for each in self.stations:
            each.go()
        await self._settled()
        self._check(each for each in self.stations if each.up and each.failed is None)
        return self.address

    async def _gathered(self) -> None:
        """Until of all hosts it is known whether they can be used; not long."""
        waiting: Deferred[None] = Deferred()

        def all_looked(results: object) -> None:
            if not waiting.called:
                waiting.callback(None)

        # not to be waited for itself: to give up waiting would cancel what it waits for
        DeferredList([each.looked for each in self.stations]).addCallback(all_looked)
        await _patiently(waiting, GATHER_S, self._reactor)

    async def _settled(self) -> None:
        """Until each host has what it is to have, or failed, or none gets any further."""
        is_settled, before = False, -1
        while not is_settled and before != self._announcements:
            before = self._announcements
            waiting: Deferred[None] = Deferred()
            self._settling = waiting
            self._look_whether_settled()
            is_settled = await _patiently(waiting, START_S, self._reactor)
        self._settling = None

    def _look_whether_settled(self) -> None:
        settling = self._settling
        if settling is None or settling.called:
            return
        if all(each.has_settled for each in self.stations):
            settling.callback(None)

    def _check(self, good: Iterable[Station]) -> None:
        """Raise ClusterError where the policy wants more than *good*."""
        able = list(good)
        bad = [each for each in self.stations if each not in able]
        workers = sum(each.place.workers for each in able)
        reasons = "; ".join(each.why_not for each in bad)
        if bad and self._policy.require_all:
            raise ClusterError(f"{len(bad)} of {len(self.stations)} hosts failed: {reasons}")
        if workers < self._policy.min_workers:
            raise ClusterError(
                f"{workers} of {self._plan.workers} workers, and {self._policy.min_workers} are "
                f"wanted: {reasons}"
            )

    async def end(self) -> Sequence[str]:
        """End everything, the scheduler last; the hosts on which something may live on."""
        if self._starting is not None:
            self._starting.cancel()
        await gatherResults(
            [Deferred.fromCoroutine(each.end_workers()) for each in self.stations],
            consumeErrors=True,
        )
        known = await gatherResults(
            [Deferred.fromCoroutine(each.end()) for each in self.stations], consumeErrors=True
        )
        return [each.name for each, is_known in zip(self.stations, known) if not is_known]

    # -- as told by stations

    def on_announced(self, station: Station, daemon: Daemon, line: str) -> None:
        """As `Company` says."""
        self._announcements += 1
        if daemon.is_scheduler:
            address = line.removeprefix(SCHEDULER_STARTED).strip()
            self._locate(address)
            if not self._located.called:
                self._located.callback(address)
        self._look_whether_settled()

    def on_over(self, station: Station, daemon: Daemon) -> None:
        """As `Company` says."""
        if daemon.is_scheduler and not self.ended.called:
            why = station.why_not
            if not self._located.called:
                self._located.errback(ClusterError(f"no scheduler: {why}"))
            self.ended.callback(f"the scheduler has ended: {why}")
        self._look_whether_settled()

    def on_failed(self, station: Station) -> None:
        """As `Company` says."""
        self._look_whether_settled()


async def _patiently(waiting: Deferred[Any], patience_s: float, reactor: Any) -> bool:
    """Until it fires, and not longer than *patience_s*; whether it did."""
    try:
        await waiting.addTimeout(patience_s, reactor)
    except defer.TimeoutError:
        return False
    return True
