"""`Agent`: stays on a host when its launcher leaves, and keeps daemons running there."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_dist.launchers.cluster.keeper import Keeper, Start
from twisted_dist.launchers.cluster.orders import Order
from twisted_dist.launchers.ssh.interface import Connection

#: seconds before a daemon is tried again for which this machine had no process
NO_PROCESS_S: Final = 5.0
#: seconds in which daemons are to come up; the launcher waits for that
SETTLE_S: Final = 60.0
#: characters of a complaint that are shown
MOST_SHOWN: Final = 300


@define
class DaemonState:
    """What becomes of one daemon.

    Attributes:
        label: what it is called.
        is_up: it has announced itself, and has not died since.
        is_over: it will not be started again.
        restarts: how often it has died.
        since: when that began which is now, in seconds since 1970.
        last: the last line that it wrote on standard error.
        why: it is not up.
    """

    label: str
    since: float
    is_up: bool = False
    is_over: bool = False
    restarts: int = 0
    last: str = ""
    why: str = ""


class Agent:
    """Keeps daemons running until it is told to end, or they have ended as they were meant to.

    Args:
        reactor: for time.
        chance: varies waits.
        orders: the daemons.
        connection: where they run.
        tell: called with an order, each line that its daemon writes, and whether that was on
            standard error.
        announced: called with an order and each announcement.
        changed: called when a state has.
        wall: seconds since 1970.

    Attributes:
        states: of the daemons, in order.
        settled: fires once each of them is up or over, or `SETTLE_S` have passed.
        done: fires once all are over, or `end` has ended them.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        chance: random.Random,
        orders: Sequence[Order],
        connection: Connection,
        tell: Callable[[Order, str, bool], None],
        announced: Callable[[Order, str], None],
        changed: Callable[[], None],
        wall: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._chance = chance
        self._orders = orders
        self._connection = connection
        self._tell = tell
        self._announced = announced
        self._changed = changed
        self._wall = wall
        self._keepers: list[Keeper] = []
        self._lives: list[Deferred[None]] = []
        self._settling: Any = None
        self._is_ending = False
        self.states = [DaemonState(each.label, wall()) for each in orders]
        self.settled: Deferred[None] = Deferred()
        self.done: Deferred[None] = Deferred()

    @property
    def is_any_up(self) -> bool:
        """Whether at least one daemon is there."""
        return any(each.is_up for each in self.states)

    def start(self) -> None:
        """Start them all."""
        self._settling = self._reactor.callLater(SETTLE_S, self._settle)
        for order, state in zip(self._orders, self.states):
            keeper = self._keeper(order, state)
            self._keepers.append(keeper)
            life = Deferred.fromCoroutine(self._keep(order, state, keeper))
            life.addErrback(self._broken, state)
            self._lives.append(life)
        gatherResults(self._lives).addCallback(self._all_over)

    def _keeper(self, order: Order, state: DaemonState) -> Keeper:
        def tell(line: str, is_error: bool) -> None:
            if is_error:
                state.last = line[:MOST_SHOWN]
                self._changed()
            self._tell(order, line, is_error)

        def announced(line: str) -> None:
            self._note(state, is_up=True, why="")
            self._announced(order, line)
            self._look_whether_settled()

        def died(why: str) -> None:
            state.restarts += 1
            self._note(state, is_up=False, why=why)
            self._tell(order, f"-- {why}", True)
            self.log.info("{label}: {why}", label=state.label, why=why)

        return Keeper(self._reactor, self._chance, tell, announced, died)

    def _note(self, state: DaemonState, *, is_up: bool, why: str) -> None:
        if state.is_up != is_up:
            state.since = self._wall()
        state.is_up, state.why = is_up, why[:MOST_SHOWN]
        self._changed()

    async def _keep(self, order: Order, state: DaemonState, keeper: Keeper) -> None:
        while not (keeper.is_over or self._is_ending):
            start = Start(order.command, order.secret, order.announcements)
            await keeper.keep(self._connection, start)
            if not (keeper.is_over or self._is_ending):
                self._note(state, is_up=False, why=keeper.why)
                await deferLater(self._reactor, NO_PROCESS_S, lambda: None)
        state.is_over = keeper.is_over
        self._note(state, is_up=False, why=keeper.why)
        self._look_whether_settled()

    def _broken(self, failure: Any, state: DaemonState) -> None:
        state.is_over = True
        self._note(state, is_up=False, why=failure.getErrorMessage())
        if not (failure.check(CancelledError) and self._is_ending):
            self.log.failure("the life of {label} broke", failure=failure, label=state.label)

    def _look_whether_settled(self) -> None:
        if all(each.is_up or each.is_over for each in self.states):
            self._settle()

    def _settle(self) -> None:
        if self._settling is not None and self._settling.active():
            self._settling.cancel()
        if not self.settled.called:
            self.settled.callback(None)

    def _all_over(self, _: object) -> None:
        self._settle()
        if not self.done.called and not self._is_ending:
            self.done.callback(None)

    async def end(self) -> None:
        """End them all, by force where they do not end by themselves; `done` fires."""
        self._is_ending = True
        await gatherResults([Deferred.fromCoroutine(each.end()) for each in self._keepers])
        for each in self._lives:
            each.cancel()  # who waits to try again
        await self._connection.close()
        self._settle()
        if not self.done.called:
            self.done.callback(None)
