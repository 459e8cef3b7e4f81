"""Errands as the scheduler sees them: calls that workers make for a client beside their tasks.

A client asks once (``run``), and is answered once for each worker that it names. What is called
is never looked into. An errand is given to its worker once: whoever loses it is told so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted_dist.aliases import CLIENT_SHIFT, TaskId
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.state import SchedulerState
from twisted_dist.core.task import RAISED, TIMED_OUT, UNMET, WORKER_LOST
from twisted_dist.core.worker_side.machine import INLINE_BYTES
from twisted_dist.errors import ProtocolError, RefusedError
from twisted_dist.execution.errand_rules import (
    HELD,
    MAX_BLOB_BYTES,
    MAX_CALL_BYTES,
    METRIC,
    MOST_BYTES,
    MOST_ERRANDS,
    MOST_TOLD,
    MOST_UNDER_WAY,
    VALUE,
)
from twisted_dist.wire import schema


class _Asked:
    """A question that is not answered by all."""

    def __init__(self, client: int, key: str) -> None:
        self.client = client
        self.key = key
        self.ids: set[TaskId] = set()
        self.timer: Any = None


class _Errand(NamedTuple):
    """One worker's part."""

    asked: _Asked
    request: int
    worker: int
    label: str
    #: of `MOST_BYTES`
    cost: int


class Errands:
    """Hands errands to workers, and says how they ended.

    Args:
        reactor: for the bound on what a client waits.
        state: says which workers there are.
        tell_worker: sends a payload to a worker, by its number.
        reply: answers a client: its number, the request, an error or "", the result.
    """

    def __init__(
        self,
        reactor: Any,
        state: SchedulerState,
        tell_worker: Callable[[int, bytes], None],
        reply: Callable[[int, int, str, Any], None],
    ) -> None:
        self._reactor = reactor
        self._state = state
        self._tell_worker = tell_worker
        self._reply = reply
        self._under_way: dict[TaskId, _Errand] = {}
        #: {worker: costs of what is under way there}: its session holds so much in any case
        self._loads: Counter[int] = Counter()

    def key_of(self, errand: TaskId) -> str:
        """What an errand under way is called; "" for what is none."""
        found = self._under_way.get(errand)
        return "" if found is None else found.asked.key

    # -- clients

    def asked(self, client: int, fields: dict[str, Any]) -> bool:
        """A client asks for an operation; whether that is answered here."""
        if fields["what"] != "run":
            return False
        try:
            self._begin(client, **fields)
        except RefusedError as problem:
            self._reply(client, fields["request"], str(problem), None)
        return True

    def _begin(
        self,
        client: int,
        request: int,
        name: str,
        blob: bytes,
        number: int,
        timeout_s: float,
        **_: Any,
    ) -> None:
        key, *addresses = name.split("\n")
        ids = range(number, number + len(addresses))
        if not addresses or any(each >> CLIENT_SHIFT != client for each in (ids[0], ids[-1])):
            raise RefusedError("run: no workers, or ids that are not this client's")
        if len(blob) > MAX_CALL_BYTES:
            raise RefusedError(f"run: a call of {len(blob)} bytes, and {MAX_CALL_BYTES} at most")
        if len(self._under_way) + len(ids) > MOST_UNDER_WAY:
            raise RefusedError(f"run: more than {MOST_UNDER_WAY} calls would be under way")
        if not self._under_way.keys().isdisjoint(ids):
            raise RefusedError("run: ids that are in use")
        asked = _Asked(client, key)
        cost = max(len(blob), MOST_BYTES // MOST_ERRANDS)
        for place, (errand, address) in enumerate(zip(ids, addresses)):
            worker = self._state.by_address.get(address)
            problem = self._why_not(address, worker, cost)
            if worker is None or problem is not None:
                self._answer(client, request + place, *(problem or ("", "")))
                continue
            each = _Errand(asked, request + place, worker.id, worker.label, cost)
            self._under_way[errand] = each
            self._loads[worker.id] += cost
            asked.ids.add(errand)
            self._tell_worker(worker.id, schema.ERRAND.pack(errand, blob))
        if asked.ids and timeout_s >= 0:
            asked.timer = self._reactor.callLater(timeout_s, self._expire, asked, timeout_s)

    def _why_not(
        self, address: str, worker: SchedulerWorker | None, cost: int
    ) -> tuple[str, str] | None:
        """Why an errand cannot be given to a worker; None where it can."""
        if worker is None:
            return WORKER_LOST, f"no worker is at {address[:100]} any more"
        if worker.metrics and METRIC not in worker.metrics:
            # it would end its session over a message that it does not know
            return UNMET, f"worker {worker.label} is of a version that does not know run()"
        if self._loads[worker.id] + cost > MOST_BYTES:
            return UNMET, f"worker {worker.label} has too many calls of run() to make already"
        return None

    def _answer(
        self,
        client: int,
        request: int,
        kind: str,
        text: str,
        nbytes: int = 0,
        blob: bytes = b"",
        holder: int = 0,
    ) -> None:
        self._reply(client, request, "", [kind, nbytes, blob, text, holder])

    def _expire(self, asked: _Asked, timeout_s: float) -> None:
        asked.timer = None
        for errand, each in self._stop(asked):
            told = f"{asked.key} was not done within {timeout_s:g} s on worker {each.label}"
            self._answer(asked.client, each.request, TIMED_OUT, f"{told}; it was told to stop")
            self._forget(errand)

    def _stop(self, asked: _Asked) -> list[tuple[TaskId, _Errand]]:
        """Have workers stop what still runs; that is still to be forgotten."""
        still = [(each, self._under_way[each]) for each in sorted(asked.ids)]
        for errand, each in still:
            self._tell_worker(each.worker, schema.STOP_ERRANDS.pack([errand]))
        return still

    def _forget(self, errand: TaskId) -> None:
        each = self._under_way.pop(errand)
        self._loads[each.worker] -= each.cost
        if not self._loads[each.worker]:
            del self._loads[each.worker]
        asked = each.asked
        asked.ids.discard(errand)
        if not asked.ids and asked.timer is not None:
            asked.timer.cancel()
            asked.timer = None

    def client_gone(self, client: int) -> None:
        """Nobody waits for what it has asked."""
        asked_by = [each.asked for each in self._under_way.values()]
        for asked in dict.fromkeys(each for each in asked_by if each.client == client):
            for errand, _ in self._stop(asked):
                self._forget(errand)

    # -- workers

    def done(self, worker: int, fields: dict[str, Any]) -> None:
        """A worker says how an errand has ended."""
        errand, kind, blob = fields["id"], fields["kind"], fields["blob"]
        if len(blob) > (INLINE_BYTES if kind == VALUE else MAX_BLOB_BYTES):
            raise ProtocolError(f"errand-done: {len(blob)} bytes are to be fetched")
        found = self._under_way.get(errand)
        if found is None or found.worker != worker:
            return  # it came too late
        text = fields["text"][:MOST_TOLD]
        if kind not in (VALUE, HELD, RAISED):
            text = f"{found.asked.key} on worker {found.label}: {text}"
        self._forget(errand)
        self._answer(found.asked.client, found.request, kind, text, fields["nbytes"], blob, worker)

    def worker_gone(self, worker: int, reason: str) -> None:
        """What it was to do is lost, or was done: nobody knows."""
        lost = [each for each in self._under_way.items() if each[1].worker == worker]
        for errand, each in lost:
            self._forget(errand)
            told = f"{each.asked.key}: worker {each.label} was lost: {reason}"
            self._answer(each.asked.client, each.request, WORKER_LOST, told)

    def close(self) -> None:
        """Wait for nothing."""
        for errand in list(self._under_way):
            self._forget(errand)
