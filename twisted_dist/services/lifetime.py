"""How a worker leaves: when its lifetime is over, or as its scheduler says."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from twisted_dist.errors import UsageProblem
from twisted_dist.wire import schema
from twisted_dist.wire.session import StreamSession

#: seconds that a worker whose lifetime is over has to hand over what it has; then it leaves
#: all the same. What it runs by then is run again elsewhere
HANDOVER_S: Final = 300.0
#: seconds beyond those until it leaves although its scheduler has not said so
GRACE_S: Final = 10.0
#: the longest lifetime: a century; beyond, a timer means nothing
MOST_S: Final = 100 * 365 * 86400.0

_UNITS: Final = {
    ("", "s", "sec", "second", "seconds"): 1.0,
    ("ms",): 0.001,
    ("m", "min", "minute", "minutes"): 60.0,
    ("h", "hr", "hour", "hours"): 3600.0,
    ("d", "day", "days"): 86400.0,
    ("w", "week", "weeks"): 7 * 86400.0,
}
_SECONDS: Final = {name: seconds for names, seconds in _UNITS.items() for name in names}


def as_seconds(duration: float | str) -> float:
    """A duration in seconds, from a number of them or a text: ``90s``, ``12h``, ``1 day``.

    Raises:
        UsageProblem: it is none.
    """
    if isinstance(duration, (int, float)) and 0 <= duration <= MOST_S:
        return float(duration)
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", str(duration).lower())
    unit = _SECONDS.get(found[2]) if found is not None else None
    if found is None or unit is None or float(found[1]) * unit > MOST_S:
        raise UsageProblem(
            f"{duration!r} is no duration: 3600, 90s, 15m, 12h or 1 day, for example"
        )
    return float(found[1]) * unit


@frozen
class Lifespan:
    """How long a worker is to stay.

    Attributes:
        seconds: after which it leaves; 0 for never.
        stagger_s: by up to so much more or less, so that not all leave at once.
        restarts: whether it then begins anew.
    """

    seconds: float = 0.0
    stagger_s: float = 0.0
    restarts: bool = False

    @classmethod
    def of(cls, lifetime: float | str, stagger: float | str, restarts: bool) -> Lifespan:
        """Of what a user has said.

        Raises:
            UsageProblem: something is no duration, or there is no lifetime that it is for.
        """
        seconds, stagger_s = as_seconds(lifetime), as_seconds(stagger)
        for name, given in (("stagger", stagger_s), ("restart", restarts)):
            if given and not seconds:
                raise UsageProblem(f"a lifetime {name} needs a lifetime")
        if stagger_s > seconds:
            raise UsageProblem(f"a stagger of {stagger} is longer than the lifetime, {lifetime}")
        return cls(seconds, stagger_s, restarts)

    def drawn(self, chance: random.Random) -> float:
        """Seconds of one life."""
        return max(0.0, self.seconds + chance.uniform(-self.stagger_s, self.stagger_s))


class Lifetime:
    """The timers of one worker's leaving, and where it is in that.

    Args:
        reactor: for time.
        span: how long it lives.
        end: ends the worker now, politely.
        restart: has it begin anew.
        chance: draws what the stagger is.

    Attributes:
        is_over: the worker is leaving, by its own will.
        stream: to its scheduler, while there is one; kept by the worker.
    """

    def __init__(
        self,
        reactor: Any,
        span: Lifespan,
        end: Callable[[], None],
        restart: Callable[[], None],
        chance: random.Random | None = None,
    ) -> None:
        self._reactor = reactor
        self._span = span
        self._end = end
        self._restart = restart
        self._chance = chance or random.Random()
        self._call: Any = None
        self._restarts = False
        self.is_over = False
        self.stream: StreamSession | None = None

    def begin(self) -> None:
        """A life begins: from now on its time runs, whether or not there is a scheduler."""
        self.cancel()
        if self._span.seconds:
            self._later(
                self._span.drawn(self._chance), lambda: self.leave(restarts=self._span.restarts)
            )

    def leave(self, timeout_s: float = HANDOVER_S, *, restarts: bool = False) -> None:
        """Have what is here handed over, within *timeout_s*, and end, or begin anew."""
        if self.is_over:
            return
        self.cancel()
        self.is_over = True
        self._restarts = restarts
        if self.stream is None:  # nobody knows anything of what is here
            self.may_end()
            return
        self.stream.send(schema.RETIRE.pack(timeout_s))
        self.stream.flush()
        self._later(timeout_s + GRACE_S, self.may_end)

    def may_end(self) -> None:
        """The scheduler says that nothing is to be handed over any more, or is gone."""
        restarts = self.is_over and self._restarts
        self.cancel()
        if restarts:
            self.begin()
            self._restart()
        else:
            self._end()

    def cancel(self) -> None:
        """Nothing happens by itself any more."""
        self.is_over = self._restarts = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self._call = self._reactor.callLater(seconds, function)
