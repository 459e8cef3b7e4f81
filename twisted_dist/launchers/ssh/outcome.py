"""`Outcome`: what becomes known once, for all who wait for it, before and after."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Outcome(Generic[T]):
    """Each who asks has a Deferred of their own: to cancel it takes it from nobody else.

    Attributes:
        is_known: whether it was told.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []
        self._value: T | None = None
        self.is_known = False

    def when_known(self) -> Deferred[T]:
        """A new Deferred that fires with it; at once, where it is known."""
        waiting: Deferred[T] = Deferred(self._forget)
        if self.is_known:
            waiting.callback(cast("T", self._value))
        else:
            self._waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[T]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def tell(self, value: T) -> None:
        """It is known now. What is told later changes nothing."""
        if self.is_known:
            return
        self.is_known = True
        self._value = value
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # one of the others may have cancelled it
                each.callback(value)
