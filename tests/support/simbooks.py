"""`Books`: what the clients of one simulated run share, and what must be true of it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import CancelledError

from tests.support.simright import NOTHING
from twisted_dist.errors import DataLostError


class Register:
    """What one client alone writes under a name, and anybody reads.

    Attributes:
        values: all that it was given, in order; `NOTHING` where it was deleted.
        told: how many of these writes have been acknowledged.
    """

    def __init__(self):
        self.values = [NOTHING]
        self.told = 1

    def begin(self, value):
        """A write is on its way; its number, for `end`."""
        self.values.append(value)
        return len(self.values)

    def end(self, number):
        """That write was acknowledged."""
        self.told = max(self.told, number)

    def possible(self, told_before):
        """What a read may give that is answered now, and began when so many were told."""
        return self.values[told_before - 1 :]


class QueueBook:
    """What was put into a queue, and what has come out.

    Attributes:
        begun: items of which the putting has begun.
        put: those that were acknowledged.
        refused: those that the queue had no room for.
        got: how often each came out, as told to who took it.
        risked: how often a taker may have been given an item, and does not know.
    """

    def __init__(self):
        self.begun = set()
        self.put = set()
        self.refused = set()
        self.got = Counter()
        self.risked = 0

    def take(self, item):
        """An item has come out; what is wrong with that, None for nothing."""
        self.got[item] += 1
        if item not in self.begun or item in self.refused:
            return f"item {item} was taken, and never put there"
        if self.got[item] > 1:
            return f"item {item} was taken {self.got[item]} times"
        return None

    def missing(self):
        """Items that are lost, once the queue was emptied."""
        return sorted(self.put - self.got.keys())


class Books:
    """Shared by the loads of one run.

    Args:
        guard: the watch's `Guard`.
        recipes: `{what clients do: how often}`.

    Attributes:
        faults: what goes wrong.
        loads: of all clients.
        rights: answers of tasks that clients share, by name.
        carried: of futures that were sent to others: their rights and keys.
        registers: variables, by name; and datasets.
        queues: by name.
        events: names of those that were set, once that was acknowledged.
        begun_events: as soon as it was asked.
        restarts: how often the network was restarted.
        holding: the locks that clients have acquired: ``{lock: load}``.
    """

    def __init__(self, guard, recipes):
        self.guard = guard
        self.recipes = recipes
        self.faults = None
        self.loads = []
        self.rights = {}
        self.carried = []
        self.registers = {}
        self.datasets = {}
        self.queues = {}
        self.events = set()
        self.begun_events = set()
        self.restarts = 0
        self.asked_restarts = 0
        self.asked_retirements = 0
        self.holding = {}
        guard.on_restart = self.restarted
        guard.on_look = self.false_holds

    def register(self, table, name):
        """One of a table, new if need be."""
        return table.setdefault(name, Register())

    def queue(self, name):
        """A queue's book, new if need be."""
        return self.queues.setdefault(name, QueueBook())

    def carry(self, promise):
        """A future is sent to others; the number that goes along."""
        self.carried.append((promise.right, promise.future.key))
        return len(self.carried) - 1

    def restarted(self):
        """The scheduler restarts the network now: whatever is under way may be cancelled."""
        self.restarts += 1
        rights = [*self.rights.values(), *(right for right, _ in self.carried)]
        for load in self.loads:
            load.marks.clear()
            rights += [promise.right for promise in load.promises]
        for table in (self.registers, self.datasets):
            for register in table.values():
                register.begin(NOTHING)
        for right in rights:
            for each in right.sources():
                each.excuses |= {CancelledError, DataLostError}
        for queue in self.queues.values():
            queue.put.clear()
        self.events.clear()

    # -- locks

    def false_holds(self):
        """Locks that clients take for held, and that are not: what is wrong with each."""
        for lock, load in self.holding.items():
            if load.host.dead or not lock.held() or lock.token in self.guard.tokens:
                continue
            why = self.guard.ended.get(lock.token, "never granted")
            if why == "restart" or (why == "client lost" and not load.gone):
                continue  # it cannot know yet
            yield f"{lock!r} says that it is held, and its token {lock.token} has ended: {why}"
