"""Queues of values, with futures in them, that clients and tasks share by name.

An item that was handed out stays on the books until its taker has said that it is there: if
the taker is lost before, or waited no more when it came, the item goes back to the front.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.waiting import Line, Waiter
from twisted_dist.core.parcels import Parcel, Parcels
from twisted_dist.core.peers import SchedulerClient
from twisted_dist.core.requests import Operation, RequestError
from twisted_dist.core.state import SchedulerState

#: items of a queue without a ``maxsize``; who puts one more waits
MOST_ITEMS: Final = 100_000


class _Queue:
    __slots__ = ("items", "maxsize", "name", "putters", "takers")

    def __init__(
        self, state: SchedulerState, name: str, maxsize: int, left: Callable[[_Queue], None]
    ) -> None:
        self.name = name
        self.maxsize = maxsize
        self.items: deque[Parcel] = deque()
        self.takers = Line(state, lambda: left(self))
        self.putters = Line(state, lambda: left(self))


class Queues:
    """All of them by name; one that is empty, and that nobody waits for, is forgotten."""

    def __init__(self, state: SchedulerState, parcels: Parcels) -> None:
        self._state = state
        self._parcels = parcels
        self._by_name: dict[str, _Queue] = {}
        #: {what waits for room: the item}
        self._offered: dict[Waiter, Parcel] = {}
        #: {number of a hand-over: (to whom, of which queue, what)}
        self._handed: dict[int, tuple[SchedulerClient, str, Parcel]] = {}
        self._last = 0

    def operations(self) -> dict[str, Operation]:
        """For `Requests`."""
        return {
            "queue-put": self._put,
            "queue-get": self._get,
            "queue-got": self._got,
            "queue-return": self._return,
            "queue-size": self._size,
        }

    def _queue(self, name: str, maxsize: int) -> _Queue:
        """*maxsize* of 0 is whatever others have said."""
        queue = self._by_name.get(name)
        if queue is None:
            queue = self._by_name[name] = _Queue(self._state, name, maxsize, self._move)
        elif maxsize and not queue.maxsize:
            queue.maxsize = maxsize
        elif maxsize and queue.maxsize != maxsize:
            raise RequestError(
                f"queue {name!r} has maxsize {queue.maxsize} for others, not {maxsize}"
            )
        return queue

    def _put(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Answered with True once it is in, with False when there was no room in time."""
        if fact.number < 0:
            raise RequestError(f"queue {fact.name!r}: maxsize {fact.number} is below 0")
        parcel = self._parcels.make(client, fact, f"an item of queue {fact.name!r}")
        try:
            queue = self._queue(fact.name, fact.number)
        except RequestError:
            self._parcels.drop(parcel)
            raise
        if len(queue.items) < (queue.maxsize or MOST_ITEMS):
            queue.items.append(parcel)
            self._state.outbox.reply(client, fact.request, True)
        else:
            waiter = queue.putters.join(client, fact, False)
            if waiter.done:
                self._parcels.drop(parcel)
            else:
                self._offered[waiter] = parcel
        self._move(queue)

    def _get(self, client: SchedulerClient, fact: s.Asked) -> None:
        """Answered with (hand-over, value), or with None when there was nothing in time."""
        queue = self._queue(fact.name, fact.number)
        if queue.items:
            told = self._hand(queue, client)
            self._state.outbox.reply(client, fact.request, told)
        else:
            queue.takers.join(client, fact, None)
        self._move(queue)

    def _hand(self, queue: _Queue, client: SchedulerClient) -> list[object]:
        self._last += 1
        parcel = queue.items.popleft()
        self._handed[self._last] = (client, queue.name, parcel)
        return [self._last, *self._parcels.lend(client, parcel)]

    def _got(self, client: SchedulerClient, fact: s.Asked) -> None:
        """The hand-over *number* has arrived; not answered in any other way than that."""
        handed = self._handed.get(fact.number)
        if handed is not None and handed[0] is client:
            del self._handed[fact.number]
            self._parcels.drop(handed[2])
        self._state.outbox.reply(client, fact.request, None)

    def _return(self, client: SchedulerClient, fact: s.Asked) -> None:
        """The hand-over *number* came when nobody waited for it: the item goes back."""
        handed = self._handed.get(fact.number)
        if handed is not None and handed[0] is client:
            self._take_back([fact.number])
        self._state.outbox.reply(client, fact.request, None)

    def _take_back(self, numbers: list[int]) -> None:
        """Items that were handed out go back, the first to the front."""
        touched: dict[str, None] = {}
        for number in reversed(numbers):
            _, name, parcel = self._handed.pop(number)
            self._queue(name, 0).items.appendleft(parcel)
            touched[name] = None
        for name in touched:
            self._move(self._by_name[name])

    def _size(self, client: SchedulerClient, fact: s.Asked) -> None:
        queue = self._by_name.get(fact.name)
        self._state.outbox.reply(client, fact.request, len(queue.items) if queue else 0)

    def _move(self, queue: _Queue) -> None:
        """Let in what waits, hand out what is there, forget what nobody needs."""
        self._forget_late()
        if self._by_name.get(queue.name) is not queue:
            return  # it was forgotten before, or is not known yet
        while True:
            taker, putter = queue.takers.first(), queue.putters.first()
            if taker is not None and queue.items:
                taker.answer(self._hand(queue, taker.client))
            elif putter is not None and len(queue.items) < (queue.maxsize or MOST_ITEMS):
                queue.items.append(self._offered.pop(putter))
                putter.answer(True)
            else:
                break
        if taker is None and putter is None and not queue.items:
            del self._by_name[queue.name]

    def _forget_late(self) -> None:
        for waiter in [each for each in self._offered if each.done]:
            self._parcels.drop(self._offered.pop(waiter))

    def client_lost(self, client: SchedulerClient) -> None:
        """What it was handed and has not got goes back."""
        self._take_back([n for n, (taker, _, _) in self._handed.items() if taker is client])
        self._forget_late()

    def clear(self) -> None:
        """A restart: all are empty, and who waits is told."""
        queues, self._by_name = list(self._by_name.values()), {}
        parcels = [parcel for _, _, parcel in self._handed.values()]
        self._handed.clear()
        for queue in queues:
            parcels += queue.items
            for line in (queue.takers, queue.putters):
                for waiter in iter(line.first, None):
                    waiter.answer(None, f"queue {queue.name!r}: the network was restarted")
        for parcel in parcels:
            self._parcels.drop(parcel)
        self._forget_late()
