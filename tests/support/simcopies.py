"""What simulated clients do with copies of results, with the whole network, and in tasks."""

from __future__ import annotations

from tests.support import simtasks as t
from tests.support.simfaults import HASTE_S
from tests.support.simload import NAMES, OUT_OF_REACH
from tests.support.simright import Right
from twisted_dist.errors import RefusedError

#: how often the network may be restarted in one run, and how long one waits for it, seconds
MOST_RESTARTS, RESTART_S = 2, 20.0
#: how many workers clients have leave in one run
MOST_RETIREMENTS = 3


def _some(load):
    """Promises of which something is to be done: they are not released meanwhile."""
    some = [load.held() for _ in range(load.random.choice([1, 2, 5]))]
    for promise in some:
        if not promise.asked:
            promise.ask()
    return [promise.future for promise in some]


async def replicate(load):
    """Have some copies of results, or one on each worker. The `Guard` looks what there is."""
    n = load.random.choice([1, 2, 2, 3, None])
    try:
        await load.client.replicate(_some(load), n)
    except RefusedError as problem:
        return f"was refused: {problem}"
    return None


async def rebalance(load):
    """Even out what workers hold: some of it, or all; some workers, or all."""
    futures = _some(load) if load.random.random() < 0.5 else None
    names = load.random.sample(NAMES, 2) if load.random.random() < 0.2 else None
    await load.client.rebalance(futures, workers=names)


async def restart(load):
    """Restart the network. Then something new runs. The `Guard` looks what is left."""
    if load.books.asked_restarts >= MOST_RESTARTS:
        return None
    load.books.asked_restarts += 1
    try:
        await load.client.restart(RESTART_S)
    except TimeoutError as problem:
        return None if load.faulty else f"a worker is gone: {problem}"
    if not load.gone:
        n = load.number()
        load.promise(load.client.submit(t.double, n), Right(2 * n), "after a restart")
    return None


async def retire(load):
    """Have a worker leave: by address, or whoever holds least. The `Watch` looks how it does."""
    if load.books.asked_retirements >= MOST_RETIREMENTS:
        return None
    load.books.asked_retirements += 1
    in_haste = not load.books.faults.harmless and load.random.random() < 0.2
    timeout = load.random.choice(HASTE_S) if in_haste else None
    workers = sorted((await load.client.scheduler_info())["workers"])
    if not workers:
        return None
    if load.random.random() < 0.3:
        left = await load.client.retire_workers(n=1, timeout=timeout)
        return None if len(left) <= 1 else f"{left} have left, not one"
    address = load.random.choice(workers)
    try:
        left = await load.client.retire_workers(address, timeout=timeout)
    except RefusedError as problem:
        return None if "no worker here" in str(problem) else f"was refused: {problem}"
    return None if list(left) == [address] else f"{left} have left, not {address}"


def nested(load):
    """A task that submits others, and waits for them."""
    options, excuses = load.options()
    if "timeout" in options:
        excuses.add(TimeoutError)  # others may be before them
    if load.faulty:
        excuses |= {*OUT_OF_REACH, RefusedError}
    n = load.number()
    calls = n, load.random.choice([1, 2, 3]), load.random.choice([0, 0, 1, 2])
    future = load.client.submit(t.nested, *calls, **options)
    load.promise(
        future, Right(t.nested_value(*calls), excuses=excuses), f"nested {calls} {options}"
    )


#: the recipes that belong together, and how often each comes
COPIES = {replicate: 4, rebalance: 3}
RESTARTS = {restart: 0.7}
RETIRING = {retire: 2}
NESTING = {nested: 5}
