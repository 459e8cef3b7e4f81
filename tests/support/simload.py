"""`Load`: one client's work, drawn from a seed, and the right answer to each piece of it."""

from __future__ import annotations

from inspect import iscoroutinefunction
from itertools import count

from twisted.internet import defer

from tests.support import simtasks as t
from tests.support.simright import NOTHING, Promise, Right, Verdict
from twisted_dist.errors import ConnectError, ConnectionClosedError, NoWorkerError

#: names that workers may have; the last comes only when all else is over
NAMES = ("alice", "bob", "carol", "late")
#: what a worker may have, and all of it
RESOURCES = {"GPU": 2, "licence": 1}
#: errors of a client that cannot reach what it needs at the moment
OUT_OF_REACH = frozenset({ConnectError, ConnectionClosedError})
#: as how many tasks something else counts that a client does
ASKING_COUNTS = 0.3
#: seconds: a limit that only faults make a quick task exceed
LOOSE_LIMIT_S = 20.0


class Load:
    """A connected client that submits, and remembers what it was promised.

    Args:
        client: an `AsyncClient`.
        random: draws the work.
        books: the `Books` of what clients share.
        faulty: whether anything may go wrong.
        tasks: about how many to submit.
        first: its tasks are about numbers from this one on, which are nobody else's.

    Attributes:
        promises: of futures that it holds, and of other answers.
        marks: what its forgotten tasks are to leave in the world.
        left: how many more tasks it is to submit.
        putting: how much data is on its way to workers, and what else is under way.
        is_cut_off: whether its connection was lost before it was closed.
    """

    def __init__(self, client, random, books, faulty, tasks, first):
        self.client = client
        self.host = client.session.reactor
        self.random = random
        self.promises = []
        self.marks = []
        self.left = tasks
        self.putting = 0
        self.is_cut_off = False
        self.books = books
        self.faulty = faulty
        self._numbers = count(first)
        self._turns = {}
        books.loads.append(self)

    @property
    def gone(self):
        """Whether its connection to the scheduler has ended, or it has."""
        return self.host.dead or self.client.session.closed or not self.client.session.is_connected

    @property
    def is_done(self):
        """Whether it will promise nothing more."""
        return self.gone or (self.left <= 0 and not self.putting)

    def step(self):
        """Do one thing."""
        if not self.gone:
            recipes = self.books.recipes
            (recipe,) = self.random.choices(list(recipes), list(recipes.values()))
            if iscoroutinefunction(recipe):
                self.go(recipe)
            else:
                recipe(self)

    # -- pieces

    def go(self, function):
        """Do what a coroutine function of this load does; what it gives is a `Verdict`'s."""
        self.left -= ASKING_COUNTS
        self.putting += 1
        promise = Promise(self, Verdict(OUT_OF_REACH if self.faulty else ()), function.__name__)
        self.promises.append(promise)
        done = defer.Deferred.fromCoroutine(function(self))
        promise.hear(done.addBoth(self._no_longer_under_way))

    def _no_longer_under_way(self, result):
        self.putting -= 1
        return result

    def turn(self, name):
        """A lock for what it does one at a time."""
        return self._turns.setdefault(name, defer.DeferredLock())

    def number(self):
        """One that nobody else has."""
        return next(self._numbers)

    def promise(self, future, right, what):
        """Remember what a new future must become."""
        self.left -= 1
        promise = Promise(self, right, what, future)
        self.promises.append(promise)
        if self.random.random() < 0.5 or self.gone:
            promise.ask()
        return promise

    def held(self):
        """A promise whose future can be an argument; a new one where none is held."""
        usable = [each for each in self.promises[-20:] if each.future is not None]
        if usable and self.random.random() < 0.8:
            return self.random.choice(usable)
        n = self.number()
        return self.promise(self.client.submit(t.double, n), Right(2 * n), "double")

    def numeric(self):
        """As `held`, of a number."""
        promise = self.held()
        while not (promise.right.value is NOTHING or type(promise.right.value) is int):
            promise = self.held()
        return promise

    def carried(self):
        """What may be sent to others: the number of a promise in the books, and its future."""
        promise = self.held()
        return self.books.carry(promise), promise.future

    def adopt(self, number, future, what):
        """A future has come from another client."""
        right, key = self.books.carried[number]
        promise = Promise(self, right, f"{what}, by the name of {key}", future)
        self.promises.append(promise)
        if self.random.random() < 0.5 or self.gone:
            promise.ask()
        return None if future.key == key else f"{what}: {future.key} came for {key}"

    def options(self):
        """Options of a submission, and the errors that they explain."""
        random = self.random
        options, excuses = {}, set()
        if random.random() < 0.3:
            options["priority"] = random.choice([-1, 1])
        if random.random() < 0.2:
            options["workers"] = random.sample(NAMES, random.choice([1, 1, 2]))
            options["allow_other_workers"] = random.random() < 0.4
        if random.random() < 0.15:
            name = random.choice(sorted(RESOURCES))
            options["resources"] = {name: random.choice([0.5, 1])}
        if options.get("workers") or options.get("resources"):
            options["wait_for_worker"] = random.random() < 0.5
            if not options["wait_for_worker"]:
                excuses.add(NoWorkerError)
        if random.random() < 0.15:
            options["timeout"] = LOOSE_LIMIT_S
            if self.faulty:
                excuses.add(TimeoutError)
        if random.random() < 0.1:
            options["retries"] = random.choice([1, 2])
        return options, excuses
