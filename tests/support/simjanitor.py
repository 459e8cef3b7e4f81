"""`Janitor`: the last client of a run, which sees that nobody waits in vain, and cleans up."""

from __future__ import annotations

from twisted.internet import defer
from twisted.internet.task import deferLater

from tests.support import simsharing
from tests.support import simtasks as t
from tests.support.simright import Right
from twisted_dist.client.coordination import Event, Variable

#: seconds between looks
LOOK_S = 2.0
#: tasks with which it sees that work is done
TASKS = 10


class Janitor:
    """Comes when nothing new goes wrong any more.

    Args:
        load: its own.
    """

    def __init__(self, load):
        self._load = load
        self._books = load.books
        self._ends = False
        self._serving = None

    def begin(self):
        """Take from queues and set events, so that what waits goes on."""
        self._serving = defer.Deferred.fromCoroutine(self._serve(self._load))

    def end(self):
        """Compare what is left with the books, and leave nothing."""
        self._ends = True
        self._load.go(self._sweep)

    async def _serve(self, load):
        recipes = self._books.recipes
        while not self._ends:
            wrong = await self._empty(load)
            if wrong:
                return wrong
            if simsharing.await_signal in recipes:
                await self._signal(load)
            await deferLater(load.host, LOOK_S)
        return None

    async def _empty(self, load):
        for name in sorted(self._books.queues):
            wrong = None
            while wrong is None:
                wrong = await simsharing.take_one(load, simsharing.queue(load, name), 0.0)
            if wrong:
                return wrong
        return None

    async def _signal(self, load):
        for name in (f"event-{n}" for n in range(simsharing.NAMES)):
            if name not in self._books.events:
                await simsharing.set_event(load, name)

    async def _sweep(self, load):
        wrong = await self._serving or await self._empty(load)
        if wrong:
            return wrong
        for name, book in self._books.queues.items():
            missing = book.missing()
            if len(missing) > book.risked:
                return f"{name} has lost {missing}, and {book.risked} may have got some"
        await self._forget(load)
        numbers = [load.number() for _ in range(TASKS)]
        for n, future in zip(numbers, load.client.map(t.double, numbers)):
            load.promise(future, Right(2 * n), "of the janitor's")
        return None

    async def _forget(self, load):
        client = load.client
        for name in await client.list_datasets():
            await client.unpublish_dataset(name)
        for name in self._books.registers:
            await Variable(name, client=client).delete()
        for n in range(simsharing.NAMES):
            await Variable(f"fenced-lock-{n}", client=client).delete()
            await Event(f"event-{n}", client=client).clear()
