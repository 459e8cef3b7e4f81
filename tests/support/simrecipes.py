"""What simulated clients submit: the recipes of a `Load`, each with its right answers."""

from __future__ import annotations

from concurrent.futures import CancelledError

from tests.support import simtasks as t
from tests.support.simload import NAMES, OUT_OF_REACH
from tests.support.simright import NOTHING, Promise, Right
from tests.support.simwire import LATENCY_S
from twisted_dist.errors import DataLostError, RefusedError, TaskKilledError, UsageProblem

#: what names that clients share stand for
SHARED = 6
#: seconds: a limit that a long task always exceeds, and that one
TIGHT_LIMIT_S, LONG_TASK_S = 0.5, 15.0
#: of tasks that may take little longer
SHORT_TASK_S = 0.2


def calls(load):
    """Many calls of one function."""
    options, excuses = load.options()
    first = load.number()
    numbers = range(first, first + load.random.choice([2, 5, 20]))
    for n, future in zip(numbers, load.client.map(t.double, numbers, **options)):
        load.promise(future, Right(2 * n, excuses=excuses), "of a map")


def map_over_futures(load):
    """A map whose arguments are futures, in an order that matters."""
    xs = [load.numeric() for _ in range(load.random.choice([2, 4]))]
    ys = xs[1:] + xs[:1]
    futures = load.client.map(t.subtract, [x.future for x in xs], [y.future for y in ys])
    for future, x, y in zip(futures, xs, ys):
        load.promise(future, Right.of(t.subtract, x.right, y.right), "of a map of futures")


def single(load):
    """One call, with options."""
    options, excuses = load.options()
    n = load.number()
    future = load.client.submit(t.double, n, **options)
    load.promise(future, Right(2 * n, excuses=excuses), f"single {options}")


def chain(load):
    """Each needs the one before."""
    options, excuses = load.options()
    first = load.numeric()
    future, right = first.future, first.right
    for _ in range(load.random.choice([2, 4, 8])):
        future = load.client.submit(t.add, future, 1, **options)
        right = Right.of(lambda x: x + 1, right, excuses=excuses)
        if load.random.random() < 0.3:  # as a rule, only its successor needs it
            load.promise(future, right, f"inside a chain {options}")
    load.promise(future, right, f"end of a chain {options}")


def tree(load):
    """Sums of pairs, and of these."""
    level = [load.numeric() for _ in range(load.random.choice([4, 8]))]
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2]))
        futures = [load.client.submit(t.add, a.future, b.future) for a, b in pairs]
        rights = [Right.of(t.add, a.right, b.right) for a, b in pairs]
        level = [load.promise(f, r, "of a tree") for f, r in zip(futures, rights)]


def nested_futures(load):
    """Futures in lists and dicts, one of them twice."""
    a, b = load.numeric(), load.numeric()
    future = load.client.submit(t.total, [a.future, 1, b.future], more={"a": a.future})
    right = Right.of(lambda x, y: t.total([x, 1, y], {"a": x}), a.right, b.right)
    load.promise(future, right, "of nested futures")


def graph(load):
    """A dask graph: a diamond of some width, an alias, a nested call."""
    n = load.number()
    width = load.random.choice([1, 3, 6])
    parts = [f"part-{k}" for k in range(width)]
    dsk = {"n": n, "same": "n", "top": (t.total, parts), "end": (t.add, (t.double, "top"), "n")}
    dsk |= {part: (t.add, "same", k) for k, part in enumerate(parts)}
    top = sum(n + k for k in range(width))
    answer = load.client.get(dsk, ["top", ["end", "top"]])
    right = Right([top, [2 * top + n, top]], excuses=OUT_OF_REACH if load.faulty else ())
    promise = Promise(load, right, "of a graph")
    promise.hear(answer)
    load.promises.append(promise)
    load.left -= width + 3


def named(load):
    """What other clients may have asked for too, by name."""
    k = load.random.randrange(SHARED)
    name = f"shared-{k}"
    function, fresh = (t.oops, Right(NOTHING, [str(k)])) if k == 0 else (t.double, Right(2 * k))
    right = load.books.rights.setdefault(name, fresh)
    load.promise(load.client.submit(function, k, key=name), right, name)


def pure(load):
    """What other clients may have asked for too, by content."""
    k = load.random.randrange(SHARED)
    right = load.books.rights.setdefault(f"pure-{k}", Right(k - 5))
    load.promise(load.client.submit(t.subtract, k, 5, pure=True), right, f"pure-{k}")


def large(load):
    """Results that are fetched, one as a pickle and a buffer; and tasks that need them."""
    n = load.number()
    function = load.random.choice([t.big, t.buffer])
    data = load.promise(load.client.submit(function, n), Right(t.big(n)), "large")
    for _ in range(load.random.choice([0, 1, 3])):
        future = load.client.submit(t.length, data.future, n)
        load.promise(future, Right.of(lambda x: len(x) + n, data.right), "of large data")


def raising(load):
    """A task that raises, and one that needs it."""
    options, excuses = load.options()
    n = load.number()
    right = Right(NOTHING, [str(n)], excuses)
    cause = load.promise(load.client.submit(t.oops, n, **options), right, "raising")
    future = load.client.submit(t.add, cause.future, 1)
    load.promise(future, Right.of(t.add, cause.right, Right(1)), "of what raises")


def flaky(load):
    """A task that raises at first; whether it may be tried often enough is another thing."""
    n = load.number()
    failures, retries = load.random.choice([1, 2]), load.random.choice([1, 2])
    future = load.client.submit(t.flaky, n, failures, retries=retries)
    # an execution that was lost with its worker has counted as well
    raises = [] if retries >= failures else [str(n)]
    value = n if retries >= failures or load.faulty else NOTHING
    load.promise(future, Right(value, raises), f"flaky {failures} {retries}")


def limited(load):
    """A task that takes longer than it may."""
    n = load.number()
    future = load.client.submit(t.lasts, LONG_TASK_S, n, timeout=TIGHT_LIMIT_S)
    # a scheduler that was stopped hears of its end before it looks at the clock
    value = n if load.faulty else NOTHING
    load.promise(future, Right(value, excuses=[TimeoutError]), "over its limit")


def overrun(load):
    """Tasks that are tried again where what nobody could stop still runs, and ends."""
    n = load.number()
    retries = 3
    options = {"timeout": TIGHT_LIMIT_S, "retries": retries, "workers": load.random.choice(NAMES)}
    numbers = range(n, n + 4)
    seconds = [LONG_TASK_S] * len(numbers)
    futures = load.client.map(t.lasts, seconds, numbers, wait_for_worker=True, **options)
    for k, future in zip(numbers, futures):
        value = k if load.faulty else NOTHING
        turns_s = (1 + retries) * LONG_TASK_S  # its worker may have one thread
        load.promise(future, Right(value, excuses=[TimeoutError], turns_s=turns_s), "overrun")


def hurried(load):
    """Tasks whose answers are on their way when their time is over, tried again there."""
    n = load.number()
    latency_s = LATENCY_S[1] * load.host.net.slowness
    limit = SHORT_TASK_S + 2 * latency_s * load.random.random()
    options = {"workers": load.random.choice(NAMES), "timeout": limit, "retries": 3}
    options["wait_for_worker"] = True
    numbers = range(n, n + 4)
    futures = load.client.map(t.lasts, [SHORT_TASK_S] * len(numbers), numbers, **options)
    for k, future in zip(numbers, futures):
        load.promise(future, Right(k, excuses=[TimeoutError]), "hurried")


def deadly(load):
    """A task that ends its process whenever it runs: a fault of its own."""
    if not load.faulty:
        return
    future = load.client.submit(t.dies, load.number())
    load.promise(future, Right(NOTHING, excuses=[TaskKilledError]), "deadly")


def scatter(load):
    """Data on workers, and tasks that need it."""
    n = load.number()
    values = [n, t.big(n)]
    broadcast = load.random.random() < 0.3
    putting = load.client.scatter(values, broadcast=broadcast)
    load.putting += 1
    restarts = load.books.restarts

    def scattered(futures):
        load.putting -= 1
        # EXCLUDED: data that comes to a worker in the moment in which that leaves
        excuses = [DataLostError] if load.faulty or load.books.asked_retirements else []
        if load.books.restarts > restarts:
            excuses += [DataLostError, CancelledError]
        for future, value in zip(futures, values):
            load.promise(future, Right(value, excuses=excuses), "scattered")
        number = load.promises[-2]
        if not load.gone:
            future = load.client.submit(t.add, number.future, 1)
            right = Right.of(lambda x: x + 1, number.right)
            load.promise(future, right, "of scattered data")

    def may_be_gone():
        return load.faulty or load.gone or load.books.asked_retirements

    def failed(failure):
        load.putting -= 1
        # RefusedError: its only holder's machine ended without a word, and three attempts to
        # fetch it take less than a lease
        failure.trap(UsageProblem, *((*OUT_OF_REACH, RefusedError) if may_be_gone() else ()))

    putting.addCallbacks(scattered, failed)


def cancel(load):
    """Something that may not have ended yet, with what needs it."""
    held = [each for each in load.promises if each.future is not None]
    for promise in load.random.sample(held, min(len(held), 2)):
        promise.right.excuses.add(CancelledError)
        load.client.cancel(promise.future)


def release(load):
    """Futures that nobody has asked for their results."""
    silent = [each for each in load.promises if each.future is not None and not each.asked]
    for promise in load.random.sample(silent, len(silent) // 2):
        promise.future = None
        load.promises.remove(promise)


def forget(load):
    """A task that runs to its end, whoever has a future of it."""
    n = load.number()
    load.client.fire_and_forget(load.client.submit(t.mark, n))
    load.marks.append(n)
    load.left -= 1


def look(load):
    """A question to the scheduler."""
    promise = Promise(load, Right(None, excuses=OUT_OF_REACH if load.faulty else ()), "info")
    promise.hear(load.client.scheduler_info().addCallback(lambda info: None))
    load.promises.append(promise)


#: what a client does in every run, and how often
RECIPES = {
    calls: 6,
    map_over_futures: 4,
    single: 8,
    chain: 5,
    tree: 4,
    nested_futures: 3,
    graph: 4,
    named: 4,
    pure: 3,
    large: 4,
    raising: 2,
    flaky: 3,
    limited: 1,
    hurried: 2,
    deadly: 0.5,
    scatter: 3,
    cancel: 2,
    release: 4,
    forget: 2,
    look: 1,
}
#: beside those, in some runs
LIMITS = {overrun: 4}
