"""Questions to the scheduler, each with a bound on its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet import defer

from twisted_dist.errors import ConnectionClosedError
from twisted_dist.wire import schema
from twisted_dist.wire.schema import Message

#: seconds until the scheduler must have answered a question: as long as a worker's lease
ANSWER_S: Final = 60.0
#: questions that change nothing
_HARMLESS: Final = (schema.QUERY, schema.LOCATE)


class Questions:
    """The questions under way of one session; used in the reactor's thread.

    Args:
        reactor: for the bound.
        address: the scheduler's, for messages.
        send: puts a payload on the stream.
    """

    def __init__(self, reactor: Any, address: str, send: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._address = address
        self._send = send
        #: {request: what was asked, if it may be asked again}
        self._asked: dict[int, bytes] = {}
        #: {request: who waits for the answer, and who takes one that comes too late}
        self._waiting: dict[int, tuple[defer.Deferred[Any], Callable[[Any], None] | None]] = {}
        self._last = 0

    async def ask(
        self,
        message: Message,
        *fields: Any,
        within_s: float | None = ANSWER_S,
        late: Callable[[Any], None] | None = None,
    ) -> Any:
        """The answer to a message whose first field is the number of the request.

        Args:
            message: its kind.
            fields: the others.
            within_s: until when it must be there; None for what may wait for ever.
            late: takes the answer that comes when nobody waits for it any more.

        Raises:
            RefusedError: the scheduler says no.
            ConnectionClosedError: it went away, or did not answer in time.
        """
        self._last += 1
        answer: defer.Deferred[Any] = defer.Deferred()
        self._waiting[self._last] = answer, late
        request = self._last
        payload = message.pack(request, *fields)
        if message in _HARMLESS:
            self._asked[request] = payload
        try:
            self._send(payload)
        except BaseException:
            del self._waiting[request]
            self._asked.pop(request, None)
            raise
        try:
            if within_s is not None:
                answer.addTimeout(within_s, self._reactor)
            return await answer
        except defer.TimeoutError:
            raise self._no_answer(within_s) from None

    def _no_answer(self, within_s: float | None) -> ConnectionClosedError:
        return ConnectionClosedError(
            f"the scheduler at {self._address} did not answer within {within_s:.0f} s"
        )

    def _too_late(self, _result: object, within_s: float) -> Any:
        raise self._no_answer(within_s)

    async def ask_for_each(
        self, count: int, message: Message, *fields: Any, within_s: float | None = ANSWER_S
    ) -> list[Any]:
        """Ask once for what is answered *count* times: the answers, in order of their requests.

        Args and errors are as of `ask`; one that is an error is all there is.
        """
        first = self._last + 1
        self._last += count
        requests = range(first, first + count)
        answers: list[defer.Deferred[Any]] = [defer.Deferred() for _ in requests]
        self._waiting.update((each, (answer, None)) for each, answer in zip(requests, answers))
        together = defer.gatherResults(answers, consumeErrors=True)
        try:
            self._send(message.pack(first, *fields))
            if within_s is not None:
                together.addTimeout(within_s, self._reactor, self._too_late)
            return await together
        except defer.FirstError as problem:
            why: Any = problem.subFailure.value
            raise why from None
        finally:
            for each in requests:
                self._waiting.pop(each, None)

    def answered(self, request: int, result: Any) -> None:
        """An answer has come; an exception is one too."""
        self._asked.pop(request, None)
        answer, late = self._waiting.pop(request, (None, None))
        if answer is None:
            return
        if answer.called:
            if late is not None and not isinstance(result, Exception):
                late(result)
        elif isinstance(result, Exception):
            answer.errback(result)
        else:
            answer.callback(result)

    def ask_again(self, send: Callable[[bytes], None]) -> None:
        """The scheduler has begun anew: ask what may be asked twice; the rest fails.

        What had not been sent by then may still be done, and answered: who takes late answers
        stays, until this comes again.
        """
        for payload in self._asked.values():
            send(payload)
        for request in [each for each in self._waiting if each not in self._asked]:
            answer, late = self._waiting.get(request, (None, None))
            if answer is None:
                continue  # who was told before has closed all
            if answer.called or late is None:
                del self._waiting[request]
            if not answer.called:
                told = f"the scheduler at {self._address} has begun anew"
                answer.errback(ConnectionClosedError(f"{told}; whether it was done is unknown"))

    def fail_all(self, text: str) -> None:
        """No answer will come any more."""
        self._asked.clear()
        waiting, self._waiting = self._waiting, {}
        for each, _late in waiting.values():
            if not each.called:
                each.errback(ConnectionClosedError(text))
