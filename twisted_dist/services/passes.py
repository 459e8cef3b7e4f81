"""Passes with which a worker's tasks enter the network as clients: the worker's side."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from twisted.internet import defer

from twisted_dist.aliases import TaskId
from twisted_dist.errors import ConnectionClosedError, RefusedError
from twisted_dist.execution.current import Pass
from twisted_dist.wire import schema
from twisted_dist.wire.link import SchedulerLink
from twisted_dist.wire.membership import Membership

#: seconds until the scheduler must have answered
ANSWER_S: Final = 30.0


class Passes:
    """Asks the scheduler for tickets, for tasks that run here."""

    def __init__(self, reactor: Any, membership: Membership, scheduler: str) -> None:
        #: to the scheduler; set by the worker
        self.link: SchedulerLink | None = None
        self._reactor = reactor
        self._membership = membership
        self._scheduler = scheduler
        self._requests = count(1)
        self._waiting: dict[int, defer.Deferred[bytes]] = {}

    def get(self, task_id: TaskId, attempt: int) -> defer.Deferred[Pass]:
        """Fires with a pass for a running task.

        Fails with RefusedError where it is not to be run, and with ConnectionClosedError.
        """
        return defer.Deferred.fromCoroutine(self._get(task_id, attempt))

    async def _get(self, task_id: TaskId, attempt: int) -> Pass:
        if self.link is None or self.link.session is None:
            raise ConnectionClosedError("this worker has no scheduler at the moment")
        request = next(self._requests)
        answer: defer.Deferred[bytes] = defer.Deferred()
        self._waiting[request] = answer
        self.link.send(schema.PASS_WANTED.pack(request, task_id, attempt))
        self.link.flush()
        try:
            ticket = await answer.addTimeout(ANSWER_S, self._reactor)
        except defer.TimeoutError:
            raise ConnectionClosedError(
                f"the scheduler at {self._scheduler} did not answer within {ANSWER_S:g} s"
            ) from None
        finally:
            self._waiting.pop(request, None)
        return Pass(self._scheduler, self._membership.join_string(), ticket)

    def answered(self, request: int, ticket: bytes, error: str) -> None:
        """The scheduler has given a ticket, or said why not."""
        answer = self._waiting.pop(request, None)
        if answer is None:
            return
        if error:
            answer.errback(RefusedError(error))
        else:
            answer.callback(ticket)

    def lost(self, reason: str) -> None:
        """The scheduler is gone."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.errback(ConnectionClosedError(f"the scheduler is gone: {reason}"))
