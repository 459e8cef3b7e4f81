"""How a worker leaves: when its lifetime is over or its process is to end, or as it is told.

Or by itself, when it has had no scheduler for too long (`services.solitude`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from twisted_dist.errors import UsageProblem
from twisted_dist.services.solitude import Solitude
from twisted_dist.wire import schema
from twisted_dist.wire.session import StreamSession

#: seconds that a worker whose lifetime is over has to hand over what it has; then it leaves
#: all the same. What it runs by then is run again elsewhere
HANDOVER_S: Final = 300.0
#: seconds beyond those until it leaves although its scheduler has not said so
GRACE_S: Final = 10.0
#: the same where its process is told to end: who told it will kill it soon
HASTE_S: Final = 2.0
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
        solitude: counts how long there is no scheduler.

    Attributes:
        is_over: the worker is leaving, by its own will.
    """

    def __init__(
        self,
        reactor: Any,
        span: Lifespan,
        end: Callable[[], None],
        restart: Callable[[], None],
        chance: random.Random | None = None,
        solitude: Solitude | None = None,
    ) -> None:
        self._reactor = reactor
        self._span = span
        self._end = end
        self._restart = restart
        self._chance = chance or random.Random()
        self._call: Any = None
        #: when it leaves although nobody has said that it may
        self._due = 0.0
        self._is_cut = False
        self._is_closed = False
        self._restarts = False
        self._waits = True
        self._solitude = solitude or Solitude(reactor, 0.0, "", lambda why: None)
        self.is_over = False
        self._stream: StreamSession | None = None

    @property
    def stream(self) -> StreamSession | None:
        """To its scheduler, while there is one; the worker says so."""
        return self._stream

    @stream.setter
    def stream(self, stream: StreamSession | None) -> None:
        self._stream = stream
        self._is_cut = False
        self._count()

    def cut(self, is_cut: bool) -> None:
        """What there is of a way to the scheduler is cut for now, or is whole again.

        Who is to end waits no longer than `HASTE_S` for that.
        """
        self._is_cut = is_cut
        self._count()
        if self.is_over and not self._waits:
            self._stop_timer()
            left_s = max(0.0, self._due - self._reactor.seconds())
            self._later(min(left_s, HASTE_S) if is_cut else left_s, self.may_end)

    def _count(self) -> None:
        if self._stream is None or self._is_cut:
            self._solitude.begin()
        else:
            self._solitude.end()

    def begin(self) -> None:
        """A life begins: from now on its time runs, whether or not there is a scheduler."""
        self.cancel()
        self._count()
        if self._span.seconds:
            self._later(
                self._span.drawn(self._chance), lambda: self.leave(restarts=self._span.restarts)
            )

    def leave(
        self, timeout_s: float = HANDOVER_S, *, restarts: bool = False, waits: bool = True
    ) -> None:
        """Have what is here handed over, within *timeout_s*, and end, or begin anew.

        Unless it *waits*, it does not begin anew, and leaves what nobody is there to take.
        """
        if self._is_closed or (self.is_over and (waits or not self._waits)):
            return
        self.cancel()
        self.is_over = True
        self._restarts = restarts and waits
        self._waits = waits
        if self._stream is None or (self._is_cut and not waits):  # there is nobody to hand over to
            self.may_end()
            return
        self._stream.send(schema.RETIRE.pack(timeout_s, waits))
        self._stream.flush()
        patience_s = timeout_s + (GRACE_S if waits else HASTE_S)
        self._due = self._reactor.seconds() + patience_s
        self._later(patience_s, self.may_end)

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
        self._waits = True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def close(self) -> None:
        """The worker ends: no timer is left, nor begun."""
        self._is_closed = True
        self.cancel()
        self._solitude.close()

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self._call = self._reactor.callLater(seconds, function)
