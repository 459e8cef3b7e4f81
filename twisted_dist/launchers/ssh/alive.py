"""`Alive`: notices a connection that nothing comes by any more.

TCP alone notices a cut link only once it has something to send, and then after a quarter of an
hour.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Alive:
    """Asks after a while of silence, and gives up after some questions without an answer.

    Args:
        clock: of the intervals.
        interval_s: of silence until a question; 0 for never to ask.
        count: questions that may stay without an answer.
        has_heard: whether anything came since it was last called.
        ask: asks.
        give_up: is called once, ``interval_s * (count + 1)`` after the last sign of life.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval_s: float,
        count: int,
        has_heard: Callable[[], bool],
        ask: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._count = count
        self._has_heard = has_heard
        self._ask = ask
        self._give_up = give_up
        self._asked = 0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        if self._interval_s > 0:
            self._call = self._clock.callLater(self._interval_s, self._look)

    def stop(self) -> None:
        """Watch no more. Idempotent."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        if self._has_heard():
            self._asked = 0
        elif self._asked >= self._count:
            self._give_up()
            return
        else:
            self._asked += 1
            self._ask()
        self.start()
