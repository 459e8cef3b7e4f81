"""What simulated clients do with locks, queues, variables, events and datasets.

Each is a coroutine function of a `Load`; it gives None, or what was wrong. What fails otherwise
is judged as any promise is.
"""

from __future__ import annotations

from twisted.internet.task import deferLater

from tests.support.simright import NOTHING
from twisted_dist.client.coordination import Event, Lock, Queue, Semaphore, Variable
from twisted_dist.errors import ConnectionClosedError, LeaseLostError, RefusedError

#: how many there are of each kind
NAMES = 2
#: seconds that a lock is held, longer than a lease for instance, and how often
HOLDS_S = {0.0: 5, 0.05: 5, 1.0: 5, 12.0: 1, 40.0: 0.3}
#: seconds that something is waited for; None for as long as it takes
PATIENCES_S = (0.0, 0.5, 30.0, None)
#: leases of a semaphore, and items in the smaller queue
LEASES, ROOM = 2, 3


def _name(load, kind):
    return f"{kind}-{load.random.randrange(NAMES)}"


def _unless_restarted(load, restarts, problem):
    """What is wrong with a refusal: nothing, where the network was restarted meanwhile."""
    return None if load.books.restarts > restarts else f"was refused: {problem}"


# -- locks


async def lock(load):
    """Hold a lock for a while, and write with its token."""
    held = Lock(_name(load, "lock"), client=load.client)
    return await _hold(load, held, Variable(f"fenced-{held.name}", client=load.client))


async def semaphore(load):
    """Hold one of some leases for a while."""
    return await _hold(load, Semaphore(_name(load, "semaphore"), LEASES, client=load.client), None)


async def _hold(load, held, variable):
    books, patience = load.books, load.random.choice(PATIENCES_S)
    (hold_s,) = load.random.choices(list(HOLDS_S), list(HOLDS_S.values()))
    restarts, asked_at = books.restarts, load.host.seconds()
    try:
        if not await held.acquire(patience):
            waited = load.host.seconds() - asked_at
            return None if patience is not None and waited >= patience else "was not waited for"
    except RefusedError as problem:
        return _unless_restarted(load, restarts, problem)
    token = held._tokens[-1]
    books.holding[held] = load
    try:
        return await _write_and_release(load, held, token, variable, hold_s)
    finally:
        del books.holding[held]


async def _write_and_release(load, held, token, variable, hold_s):
    ended = load.books.guard.ended
    await deferLater(load.host, hold_s)
    if variable is not None:
        try:
            await variable.set(token, fence=held)
        except ConnectionClosedError:
            if load.gone or not load.faulty:
                raise  # else it was not answered in time: the lock is given back all the same
        except (LeaseLostError, RefusedError) as problem:
            # a lease that its holder is not sure of may be held all the same, if it was not heard
            sure = isinstance(problem, RefusedError) or not load.faulty
            if sure and token not in ended:
                return f"the holder of token {token} was refused: {problem}"
    try:
        await held.release()
    except LeaseLostError as problem:
        if ended.get(token) in (None, "released"):
            return f"token {token} is lost, it is said, and was {ended.get(token)}: {problem}"
    else:
        if ended.get(token) != "released":
            return f"token {token} was given back, it is said, and was {ended.get(token)}"
    return None


# -- queues


def queue(load, name):
    """A queue; one of them is small."""
    return Queue(name, ROOM if name.endswith("0") else 0, client=load.client)


async def put(load):
    """Add some items to a queue, each with a future."""
    items = queue(load, _name(load, "queue"))
    book = load.books.queue(items.name)
    for _ in range(load.random.choice([1, 1, 4])):
        carried = load.carried()
        item = load.host.ip, load.number()
        restarts = load.books.restarts
        book.begun.add(item)
        patience = load.random.choice(PATIENCES_S)
        try:
            await items.put([item, *carried], patience)
        except TimeoutError:
            book.refused.add(item)
        except RefusedError as problem:
            return _unless_restarted(load, restarts, problem)
        else:
            if load.books.restarts == restarts:
                book.put.add(item)
    return None


async def take(load):
    """Take items from a queue, and ask for what is in them."""
    items = queue(load, _name(load, "queue"))
    for _ in range(load.random.choice([1, 1, 4])):
        patience = load.random.choice(PATIENCES_S[:-1])
        wrong = await take_one(load, items, patience)
        if wrong is not None:
            return wrong or None
    return None


async def take_one(load, items, patience):
    """Take an item: what is wrong, "" where there was none, None where all is well."""
    books = load.books
    book = books.queue(items.name)
    restarts = books.restarts
    book.risked += 1  # until it is told, and for ever where it never is
    try:
        item, *carried = await items.get(patience)
    except TimeoutError:
        book.risked -= 1
        return ""
    except RefusedError as problem:
        book.risked -= 1
        return _unless_restarted(load, restarts, problem)
    book.risked -= 1
    return load.adopt(*carried, f"from {items.name}") or book.take(item)


# -- variables, events


async def write(load):
    """Set a variable of its own, or delete it."""
    name = f"variable-{load.host.ip}"
    variable = Variable(name, client=load.client)
    register = load.books.register(load.books.registers, name)
    turn = load.turn(name)
    await turn.acquire()
    try:
        if load.random.random() < 0.2:
            number = register.begin(NOTHING)
            await variable.delete()
        else:
            value = [load.number(), *load.carried()]
            number = register.begin(value[0])
            await variable.set(value)
        register.end(number)
    finally:
        turn.release()


async def read(load):
    """Get somebody's variable."""
    books = load.books
    if not books.registers:
        return None
    name = load.random.choice(sorted(books.registers))
    register = books.registers[name]
    told, restarts = register.told, books.restarts
    patience = load.random.choice(PATIENCES_S[:-1])
    try:
        got = await Variable(name, client=load.client).get(patience)
    except TimeoutError:
        got = NOTHING
    except RefusedError as problem:
        return _unless_restarted(load, restarts, problem)
    return _judge(load, name, got, register.possible(told))


def _judge(load, name, got, possible):
    """Compare what was read of a register with what it may be; what is wrong."""
    if got is not NOTHING:
        got, *carried = got
        wrong = load.adopt(*carried, f"of {name}")
        if wrong is not None:
            return wrong
    return None if got in possible else f"{name} is {got}, and may be {possible}"


async def signal(load):
    """Set an event; it stays set."""
    await set_event(load, _name(load, "event"))


async def set_event(load, name):
    """Set an event."""
    load.books.begun_events.add(name)
    restarts = load.books.restarts
    await Event(name, client=load.client).set()
    if load.books.restarts == restarts:
        load.books.events.add(name)


async def await_signal(load):
    """Wait for an event."""
    books = load.books
    event = Event(_name(load, "event"), client=load.client)
    patience = load.random.choice(PATIENCES_S)
    was_set, restarts, asked_at = event.name in books.events, books.restarts, load.host.seconds()
    try:
        there = await event.wait(patience)
    except RefusedError as problem:
        return _unless_restarted(load, restarts, problem)
    if there:
        return None if event.name in books.begun_events else f"nobody has set {event.name}"
    if was_set and books.restarts == restarts:
        return f"{event.name} was set, and nobody was told"
    waited = load.host.seconds() - asked_at
    return None if patience is not None and waited >= patience else "was not waited for"


# -- datasets


async def publish(load):
    """Publish a dataset of its own, anew or for the first time, or let it go."""
    name = f"dataset-{load.host.ip}"
    register = load.books.register(load.books.datasets, name)
    turn = load.turn(name)
    await turn.acquire()
    try:
        before = register.possible(register.told)  # several, where an answer never came
        there = before[-1] is not NOTHING
        if there and load.random.random() < 0.3:
            number = register.begin(NOTHING)
            await load.client.unpublish_dataset(name)
        else:
            value = [load.number(), *load.carried()]
            number = register.begin(value[0])
            override = before != [NOTHING] or load.books.restarts > 0
            await load.client.publish_dataset(value, name=name, override=override)
        register.end(number)
    except RefusedError as problem:
        # what was asked before a restart may be done before it or after
        is_gone = register.values[number - 1] is NOTHING and NOTHING in before
        return None if load.books.restarts or is_gone else f"was refused: {problem}"
    finally:
        turn.release()


async def get_dataset(load):
    """Get somebody's dataset."""
    books = load.books
    if not books.datasets:
        return None
    name = load.random.choice(sorted(books.datasets))
    register = books.datasets[name]
    told = register.told
    try:
        got = await load.client.get_dataset(name)
    except RefusedError:
        got = NOTHING
    return _judge(load, name, got, register.possible(told))


#: the recipes that belong together, and how often each comes
LOCKS = {lock: 6, semaphore: 3}
QUEUES = {put: 6, take: 6}
VARIABLES = {write: 4, read: 6}
EVENTS = {signal: 1, await_signal: 3}
DATASETS = {publish: 4, get_dataset: 6}
SHARING = (LOCKS, QUEUES, VARIABLES, EVENTS, DATASETS)
