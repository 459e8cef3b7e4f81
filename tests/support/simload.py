"""`Load`: one client's work, drawn from a seed, and the right answer to each piece of it."""

from __future__ import annotations

from concurrent.futures import CancelledError
from itertools import count

from tests.support import simtasks as t
from tests.support.simright import NOTHING, Promise, Right
from tests.support.simwire import LATENCY_S
from twisted_dist.errors import (
    ConnectError,
    ConnectionClosedError,
    DataLostError,
    NoWorkerError,
    TaskKilledError,
    UsageProblem,
)

#: names that workers may have; the last comes only when all else is over
NAMES = ("alice", "bob", "carol", "late")
#: what a worker may have, and all of it
RESOURCES = {"GPU": 2, "licence": 1}
#: errors of a client that cannot reach what it needs at the moment
OUT_OF_REACH = frozenset({ConnectError, ConnectionClosedError})
#: what names that clients share stand for
SHARED = 6
#: seconds: a limit that only faults make a quick task exceed, and one that a long one always does
LOOSE_LIMIT_S, TIGHT_LIMIT_S, LONG_TASK_S = 20.0, 0.5, 30.0
#: of tasks that may take little longer
SHORT_TASK_S = 0.2


class Load:
    """A connected client that submits, and remembers what it was promised.

    Args:
        client: an `AsyncClient`.
        random: draws the work.
        shared: `{name: Right}` of what clients share.
        faulty: whether anything may go wrong.
        tasks: about how many to submit.
        first: its tasks are about numbers from this one on, which are nobody else's.

    Attributes:
        promises: of futures that it holds, and of other answers.
        marks: what its forgotten tasks are to leave in the world.
        left: how many more tasks it is to submit.
        putting: how much data is on its way to workers.
        is_cut_off: whether its connection was lost before it was closed.
    """

    def __init__(self, client, random, shared, faulty, tasks, first):
        self.client = client
        self.host = client.session.reactor
        self.random = random
        self.promises = []
        self.marks = []
        self.left = tasks
        self.putting = 0
        self.is_cut_off = False
        self._shared = shared
        self._faulty = faulty
        self._numbers = count(first)

    @property
    def gone(self):
        """Whether its connection to the scheduler has ended, or it has."""
        return self.host.dead or self.client.session.closed or self.client.session._stream is None

    @property
    def is_done(self):
        """Whether it will promise nothing more."""
        return self.gone or (self.left <= 0 and not self.putting)

    def step(self):
        """Do one thing."""
        if not self.gone:
            (recipe,) = self.random.choices(list(_RECIPES), list(_RECIPES.values()))
            recipe(self)

    # -- pieces

    def _number(self):
        return next(self._numbers)

    def _promise(self, future, right, what):
        self.left -= 1
        promise = Promise(self, right, what, future)
        self.promises.append(promise)
        if self.random.random() < 0.5 or self.gone:
            promise.ask()
        return promise

    def _held(self):
        """A promise whose future can be an argument; a new one where none is held."""
        usable = [each for each in self.promises[-20:] if each.future is not None]
        if usable and self.random.random() < 0.8:
            return self.random.choice(usable)
        n = self._number()
        return self._promise(self.client.submit(t.double, n), Right(2 * n), "double")

    def _numeric(self):
        """As `_held`, of a number."""
        promise = self._held()
        while not (promise.right.value is NOTHING or type(promise.right.value) is int):
            promise = self._held()
        return promise

    def _options(self):
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
            if self._faulty:
                excuses.add(TimeoutError)
        if random.random() < 0.1:
            options["retries"] = random.choice([1, 2])
        return options, excuses

    # -- recipes

    def map(self):
        """Many calls of one function."""
        options, excuses = self._options()
        first = self._number()
        numbers = range(first, first + self.random.choice([2, 5, 20]))
        for n, future in zip(numbers, self.client.map(t.double, numbers, **options)):
            self._promise(future, Right(2 * n, excuses=excuses), "of a map")

    def map_over_futures(self):
        """A map whose arguments are futures, in an order that matters."""
        xs = [self._numeric() for _ in range(self.random.choice([2, 4]))]
        ys = xs[1:] + xs[:1]
        futures = self.client.map(t.subtract, [x.future for x in xs], [y.future for y in ys])
        for future, x, y in zip(futures, xs, ys):
            self._promise(future, Right.of(t.subtract, x.right, y.right), "of a map of futures")

    def single(self):
        """One call, with options."""
        options, excuses = self._options()
        n = self._number()
        future = self.client.submit(t.double, n, **options)
        self._promise(future, Right(2 * n, excuses=excuses), f"single {options}")

    def chain(self):
        """Each needs the one before."""
        options, excuses = self._options()
        first = self._numeric()
        future, right = first.future, first.right
        for _ in range(self.random.choice([2, 4, 8])):
            future = self.client.submit(t.add, future, 1, **options)
            right = Right.of(lambda x: x + 1, right, excuses=excuses)
            if self.random.random() < 0.3:  # as a rule, only its successor needs it
                self._promise(future, right, f"inside a chain {options}")
        self._promise(future, right, f"end of a chain {options}")

    def tree(self):
        """Sums of pairs, and of these."""
        level = [self._numeric() for _ in range(self.random.choice([4, 8]))]
        while len(level) > 1:
            pairs = list(zip(level[::2], level[1::2]))
            futures = [self.client.submit(t.add, a.future, b.future) for a, b in pairs]
            rights = [Right.of(t.add, a.right, b.right) for a, b in pairs]
            level = [self._promise(f, r, "of a tree") for f, r in zip(futures, rights)]

    def nested_futures(self):
        """Futures in lists and dicts, one of them twice."""
        a, b = self._numeric(), self._numeric()
        future = self.client.submit(t.total, [a.future, 1, b.future], more={"a": a.future})
        right = Right.of(lambda x, y: t.total([x, 1, y], {"a": x}), a.right, b.right)
        self._promise(future, right, "of nested futures")

    def graph(self):
        """A dask graph: a diamond of some width, an alias, a nested call."""
        n = self._number()
        width = self.random.choice([1, 3, 6])
        parts = [f"part-{k}" for k in range(width)]
        dsk = {"n": n, "same": "n", "top": (t.total, parts), "end": (t.add, (t.double, "top"), "n")}
        dsk |= {part: (t.add, "same", k) for k, part in enumerate(parts)}
        top = sum(n + k for k in range(width))
        answer = self.client.get(dsk, ["top", ["end", "top"]])
        right = Right([top, [2 * top + n, top]], excuses=OUT_OF_REACH if self._faulty else ())
        promise = Promise(self, right, "of a graph")
        promise.hear(answer)
        self.promises.append(promise)
        self.left -= width + 3

    def named(self):
        """What other clients may have asked for too, by name."""
        k = self.random.randrange(SHARED)
        name = f"shared-{k}"
        function, fresh = (t.oops, Right(NOTHING, [str(k)])) if k == 0 else (t.double, Right(2 * k))
        right = self._shared.setdefault(name, fresh)
        self._promise(self.client.submit(function, k, key=name), right, name)

    def pure(self):
        """What other clients may have asked for too, by content."""
        k = self.random.randrange(SHARED)
        right = self._shared.setdefault(f"pure-{k}", Right(k - 5))
        self._promise(self.client.submit(t.subtract, k, 5, pure=True), right, f"pure-{k}")

    def large(self):
        """Results that are fetched, one as a pickle and a buffer; and tasks that need them."""
        n = self._number()
        function = self.random.choice([t.big, t.buffer])
        data = self._promise(self.client.submit(function, n), Right(t.big(n)), "large")
        for _ in range(self.random.choice([0, 1, 3])):
            future = self.client.submit(t.length, data.future, n)
            self._promise(future, Right.of(lambda x: len(x) + n, data.right), "of large data")

    def raising(self):
        """A task that raises, and one that needs it."""
        options, excuses = self._options()
        n = self._number()
        right = Right(NOTHING, [str(n)], excuses)
        cause = self._promise(self.client.submit(t.oops, n, **options), right, "raising")
        future = self.client.submit(t.add, cause.future, 1)
        self._promise(future, Right.of(t.add, cause.right, Right(1)), "of what raises")

    def flaky(self):
        """A task that raises at first; whether it may be tried often enough is another thing."""
        n = self._number()
        failures, retries = self.random.choice([1, 2]), self.random.choice([1, 2])
        future = self.client.submit(t.flaky, n, failures, retries=retries)
        # an execution that was lost with its worker has counted as well
        raises = [] if retries >= failures else [str(n)]
        value = n if retries >= failures or self._faulty else NOTHING
        self._promise(future, Right(value, raises), f"flaky {failures} {retries}")

    def limited(self):
        """A task that takes longer than it may."""
        n = self._number()
        future = self.client.submit(t.lasts, LONG_TASK_S, n, timeout=TIGHT_LIMIT_S)
        # a scheduler that was stopped hears of its end before it looks at the clock
        value = n if self._faulty else NOTHING
        self._promise(future, Right(value, excuses=[TimeoutError]), "over its limit")

    def hurried(self):
        """Tasks whose answers are on their way when their time is over, tried again there."""
        n = self._number()
        latency_s = LATENCY_S[1] * self.host.net.slowness
        limit = SHORT_TASK_S + 2 * latency_s * self.random.random()
        options = {"workers": self.random.choice(NAMES), "timeout": limit, "retries": 3}
        options["wait_for_worker"] = True
        calls = range(n, n + 4)
        futures = self.client.map(t.lasts, [SHORT_TASK_S] * len(calls), calls, **options)
        for k, future in zip(calls, futures):
            self._promise(future, Right(k, excuses=[TimeoutError]), "hurried")

    def deadly(self):
        """A task that ends its process whenever it runs: a fault of its own."""
        if not self._faulty:
            return
        future = self.client.submit(t.dies, self._number())
        self._promise(future, Right(NOTHING, excuses=[TaskKilledError]), "deadly")

    def scatter(self):
        """Data on workers, and tasks that need it."""
        n = self._number()
        values = [n, t.big(n)]
        broadcast = self.random.random() < 0.3
        putting = self.client.scatter(values, broadcast=broadcast)
        self.putting += 1

        def scattered(futures):
            self.putting -= 1
            excuses = [DataLostError] if self._faulty else []
            for future, value in zip(futures, values):
                self._promise(future, Right(value, excuses=excuses), "scattered")
            number = self.promises[-2]
            if not self.gone:
                future = self.client.submit(t.add, number.future, 1)
                right = Right.of(lambda x: x + 1, number.right)
                self._promise(future, right, "of scattered data")

        def failed(failure):
            self.putting -= 1
            failure.trap(UsageProblem, *(OUT_OF_REACH if self._faulty or self.gone else ()))

        putting.addCallbacks(scattered, failed)

    def cancel(self):
        """Something that may not have ended yet, with what needs it."""
        held = [each for each in self.promises if each.future is not None]
        for promise in self.random.sample(held, min(len(held), 2)):
            promise.right.excuses.add(CancelledError)
            self.client.cancel(promise.future)

    def release(self):
        """Futures that nobody has asked for their results."""
        silent = [each for each in self.promises if each.future is not None and not each.asked]
        for promise in self.random.sample(silent, len(silent) // 2):
            promise.future = None
            self.promises.remove(promise)

    def forget(self):
        """A task that runs to its end, whoever has a future of it."""
        n = self._number()
        self.client.fire_and_forget(self.client.submit(t.mark, n))
        self.marks.append(n)
        self.left -= 1

    def look(self):
        """A question to the scheduler."""
        promise = Promise(self, Right(None, excuses=OUT_OF_REACH if self._faulty else ()), "info")
        promise.hear(self.client.scheduler_info().addCallback(lambda info: None))
        self.promises.append(promise)


#: what a client does, and how often
_RECIPES = {
    Load.map: 6,
    Load.map_over_futures: 4,
    Load.single: 8,
    Load.chain: 5,
    Load.tree: 4,
    Load.nested_futures: 3,
    Load.graph: 4,
    Load.named: 4,
    Load.pure: 3,
    Load.large: 4,
    Load.raising: 2,
    Load.flaky: 3,
    Load.limited: 1,
    Load.hurried: 2,
    Load.deadly: 0.5,
    Load.scatter: 3,
    Load.cancel: 2,
    Load.release: 4,
    Load.forget: 2,
    Load.look: 1,
}
