"""``dcluster status``: how detached clusters are."""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import time
from typing import Any, Final

from attrs import frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from twisted_dist.client.rpc import rpc
from twisted_dist.errors import AccessError, TwistedDistError
from twisted_dist.launchers.cluster.record import Record
from twisted_dist.launchers.cluster.visiting import Seen, State, Visiting, entrances
from twisted_dist.launchers.ssh.asking import TerminalAsker

#: seconds in which a scheduler is to answer: it may be out of reach from here, and be well
SCHEDULER_S: Final = 2.0
_COLUMNS: Final = ("host", "daemon", "is", "since", "restarts", "last complaint")
#: what a scheduler tells of its workers that is added up: of a worker, and here
_COUNTS: Final = {"processing": "running", "queued": "waiting", "in_memory": "results"}


@frozen(kw_only=True)
class ClusterSeen:
    """What was seen of a cluster.

    Attributes:
        record: of it.
        agents: how they are.
        scheduler: what it says of itself; None where it does not answer.
        why: it does not answer.
    """

    record: Record
    agents: Sequence[Seen]
    scheduler: Mapping[str, Any] | None
    why: str = ""

    @property
    def is_well(self) -> bool:
        """Whether all that is to run does."""
        return bool(self.agents) and all(
            each.state is State.UP and all(daemon.get("is_up") for daemon in each.daemons)
            for each in self.agents
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        record = self.record
        return {
            "name": record.name,
            "address": record.address,
            "since": record.since,
            "version": record.version,
            "is_well": self.is_well,
            "scheduler": self.scheduler,
            "agents": [
                {
                    "host": each.agent.name,
                    "id": each.agent.id,
                    "state": each.state.value,
                    "why": each.why,
                    "log": each.log,
                    "labels": list(each.agent.labels),
                    "daemons": list(each.daemons),
                }
                for each in self.agents
            ],
        }


def _clean(text: str) -> str:
    """With nothing in it that a terminal would act on, in one line."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _when(seconds: object, now: float) -> str:
    """An instant as people say it: the time of day, where it is today's."""
    if not isinstance(seconds, (int, float)):
        return ""
    then = datetime.fromtimestamp(seconds)
    is_today = then.date() == datetime.fromtimestamp(now).date()
    return then.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def _rows(seen: Seen, now: float) -> list[tuple[str, ...]]:
    host = seen.agent.name
    if seen.state is not State.UP:
        what = f"{seen.why}" + (f"; log: {seen.log}" if seen.log else "")
        return [
            (host, label, seen.state.value, "", "", what if number == 0 else "")
            for number, label in enumerate(seen.agent.labels)
        ]
    rows: list[tuple[str, ...]] = []
    for each in seen.daemons:
        state = "up" if each.get("is_up") else "over" if each.get("is_over") else "down"
        said = str(each.get("why") or each.get("last") or "")
        since, restarts = _when(each.get("since"), now), str(each.get("restarts"))
        rows.append((host, str(each.get("label")), state, since, restarts, said))
    return rows


def shown(seen: ClusterSeen, now: float) -> str:
    """A cluster as a table for people."""
    record = seen.record
    version = f", version {record.version}"
    lines = [f"{record.name}: since {_when(record.since, now)}{version}"]
    if seen.scheduler is None:
        lines.append(f"scheduler {record.address}: does not answer: {seen.why}")
    else:
        told = seen.scheduler
        tasks = ", ".join(f"{told['states'][each]} {each}" for each in _COUNTS.values())
        lines.append(
            f"scheduler {record.address}: {told['workers']} workers with {told['nthreads']} "
            f"threads, {told['clients']} clients, {told['tasks']} tasks: {tasks}"
        )
    rows = [row for each in seen.agents for row in _rows(each, now)]
    cells = [[_clean(cell) for cell in row] for row in [_COLUMNS, *rows]]
    widths = [max(len(cell) for cell in column) for column in zip(*cells)]
    for row in cells:
        lines.append("  ".join(cell.ljust(wide) for cell, wide in zip(row, widths)).rstrip())
    if not rows:
        lines.append(f"nothing of it is left: dcluster down {record.name} forgets it")
    return "".join(f"{each}\n" for each in lines)


class ClusterStatus:
    """One run of ``dcluster status``. Ends with status 1 where not all is well."""

    def __init__(self, reactor: Any, records: Sequence[Record], is_json: bool) -> None:
        self._reactor = reactor
        self._records = records
        self._is_json = is_json
        asker = TerminalAsker(reactor)
        self._make = entrances(reactor, asker, dict(os.environ), random.Random())
        self.exit_status = 0

    def begin(self) -> None:
        """Look, once the reactor runs."""
        looking = gatherResults([Deferred.fromCoroutine(self._look(e)) for e in self._records])
        looking.addCallbacks(self._show, self._broken)
        looking.addErrback(self._broken)
        looking.addBoth(lambda _: self._reactor.running and self._reactor.stop())

    async def _look(self, record: Record) -> ClusterSeen:
        visiting = Visiting(self._reactor, record.name, self._make)
        asking = Deferred.fromCoroutine(self._ask(record))
        try:
            agents = await visiting.look(record.agents)
        finally:
            await visiting.close()
        scheduler, why = await asking
        return ClusterSeen(record=record, agents=agents, scheduler=scheduler, why=why)

    async def _ask(self, record: Record) -> tuple[dict[str, Any] | None, str]:
        """What the scheduler says of itself, or why it does not."""
        known = rpc(record.address, self._reactor, insecure=record.is_insecure)
        try:
            answer = known.query(what="info", arguments=None)
            info = await answer.addTimeout(SCHEDULER_S, self._reactor)
        except defer.TimeoutError:
            return None, f"it has not answered in {SCHEDULER_S:g} s"
        except (TwistedDistError, AccessError) as problem:
            return None, str(problem)
        counts: Counter[str] = Counter()
        for worker in info["workers"].values():
            for theirs, ours in _COUNTS.items():
                counts[ours] += worker[theirs]
        told = {each: info[each] for each in ("address", "version", "clients", "tasks", "nthreads")}
        states = {each: counts[each] for each in _COUNTS.values()}
        return {**told, "workers": len(info["workers"]), "states": states}, ""

    def _show(self, seen: list[ClusterSeen]) -> None:
        if self._is_json:
            print(json.dumps([each.as_json() for each in seen], indent=1))
        else:
            print("\n".join(shown(each, time()) for each in seen), end="", flush=True)
        self.exit_status = 0 if all(each.is_well for each in seen) else 1

    def _broken(self, failure: Failure) -> None:
        print(f"dcluster: {failure.getTraceback()}", file=sys.stderr)
        self.exit_status = 1
