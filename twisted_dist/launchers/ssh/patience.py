"""`Patience`: a limit of time that does not run while a person is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class Patience:
    """Gives something so many seconds, waits for people apart.

    Attributes:
        seconds: the limit.
        is_over: whether it ended what it limited.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self._clock = clock
        self._left = seconds
        self._since = 0.0
        #: how many waits for people there are; time runs only without any
        self._pauses = 0
        self._limited: Deferred[Any] | None = None
        self._call: IDelayedCall | None = None

    def limit(self, waiting: Deferred[T]) -> Deferred[T]:
        """Cancel *waiting* once the time is up; `is_over` tells that from other cancels."""

        def done(result: T | Failure) -> T | Failure:
            self._stop()
            self._limited = None
            return result

        self._limited = waiting
        self._run()
        return waiting.addBoth(done)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While in here, no time passes."""
        self._stop()
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self._run()

    def _run(self) -> None:
        if self._limited is not None and self._pauses == 0 and self._call is None:
            self._since = self._clock.seconds()
            self._call = self._clock.callLater(max(0.0, self._left), self._expire)

    def _stop(self) -> None:
        if self._call is not None:
            self._left -= self._clock.seconds() - self._since
            self._call.cancel()
            self._call = None

    def _expire(self) -> None:
        self._call = None
        if self._limited is not None:
            self.is_over = True
            self._limited.cancel()
