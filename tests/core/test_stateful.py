"""Any order of events against `core.invariants` and a model of what clients are owed."""

from __future__ import annotations

from collections import defaultdict

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.stimuli import DIGEST as D
from tests.support.stimuli import submitted
from twisted_dist.core import instructions as i
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.scheduler import SchedulerCore

INLINE = [None, b"v"]
#: what submissions ask for
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.sampled_from([("w0",), ("h1:1", "w1")]),
        "allow_other_workers": st.booleans(),
        "resources": st.sampled_from([(("GPU", 4_000),), (("GPU", 10_000),)]),
        "retries": st.integers(0, 1),
        "priority": st.integers(-1, 1),
        "timeout_s": st.sampled_from([0.005, 15.0]),
        "wait_for_worker": st.booleans(),
    },
)


class Network(RuleBasedStateMachine):
    """Workers and clients that answer in any order, and die at any moment."""

    def __init__(self):
        super().__init__()
        self.core = SchedulerCore(lease_s=30.0)
        self.now = 0.0
        self.numbers = iter(range(1, 10**6))
        self.given = {}  # worker → {task id: attempt}
        self.held = {}  # worker → set of ids
        self.addresses = {}
        self.futures = {}  # client → ids it has futures for
        self.reported = defaultdict(set)  # client → ids told finished or erred
        self.next_id = {}
        self.keys = {}

    def tell(self, fact):
        """Give the core a fact and let the model do what comes back."""
        self.now += 0.01
        self.obey(self.core.handle(fact, self.now))

    def obey(self, instructions):
        for each in instructions:
            worker = getattr(each, "worker", None)
            if worker is not None:
                assert worker in self.given, f"{each} is for a worker that is gone"
            if isinstance(each, i.SendTasks):
                for run in each.runs:
                    for task_id, attempt in zip(run.ids, run.attempts):
                        assert self.given[worker].get(task_id, 0) < attempt
                        self.given[worker][task_id] = attempt
                named = {d: a for a, ids in each.sources for d in ids}
                for run in each.runs:
                    for dep in (d for deps in run.deps for d in deps):
                        if dep not in self.held[worker]:
                            holder = self.addresses[named[dep]]
                            assert dep in self.held[holder]
            elif isinstance(each, i.ReleaseData):
                self.held[worker] -= set(each.ids)
            elif isinstance(each, i.EndWorker):
                self.lose(worker)
            elif isinstance(each, (i.ReportFinished, i.ReportErred)):
                self.reported[each.client].update(each.ids)

    def lose(self, worker):
        del self.given[worker], self.held[worker]
        self.addresses = {a: w for a, w in self.addresses.items() if w != worker}

    def address(self, worker):
        return next((a for a, w in self.addresses.items() if w == worker), "gone:1")

    def pick(self, data, choices):
        return data.draw(st.sampled_from(sorted(choices)))

    @rule(nthreads=st.integers(1, 3), resources=st.sampled_from([{}, {"GPU": 10_000}]))
    def worker_joins(self, nthreads, resources):
        worker = next(self.numbers)
        self.given[worker], self.held[worker] = {}, set()
        self.addresses[f"h{worker}:1"] = worker
        self.tell(s.WorkerJoined(worker, f"h{worker}:1", f"w{worker % 3}", nthreads, resources))

    @precondition(lambda self: self.addresses)
    @rule(data=st.data())
    def worker_comes_back(self, data):
        address = self.pick(data, self.addresses)
        old, worker = self.addresses[address], next(self.numbers)
        self.given[worker], self.held[worker] = {}, set()
        self.tell(s.WorkerJoined(worker, address, f"w{worker % 3}", 2))
        assert old not in self.given  # it was ended
        self.addresses[address] = worker

    @rule()
    def client_joins(self):
        client = next(self.numbers)
        self.futures[client], self.next_id[client] = set(), client << 40
        self.tell(s.ClientJoined(client, "c"))
        self.tell(s.FunctionDefined(client, D, "f", b"x"))

    @precondition(lambda self: self.futures)
    @rule(data=st.data(), n=st.integers(1, 5), options=OPTIONS)
    def submit(self, data, n, options):
        client = self.pick(data, self.futures)
        own = sorted(self.futures[client])
        first = self.next_id[client]
        deps = []
        if own and data.draw(st.booleans()):
            subsets = st.lists(st.sampled_from(own), max_size=3, unique=True)
            deps = data.draw(st.lists(subsets, min_size=n, max_size=n))
        self.next_id[client] += n
        self.futures[client].update(range(first, first + n))
        self.tell(submitted(client, first, n, deps, **options))

    @precondition(lambda self: self.futures)
    @rule(data=st.data(), n=st.integers(2, 6), options=OPTIONS)
    def submit_graph(self, data, n, options):
        """Tasks that need earlier ones, of which only some are wanted."""
        client = self.pick(data, self.futures)
        first = self.next_id[client]
        self.next_id[client] += n
        ids = range(first, first + n)
        known = sorted(self.futures[client])
        deps = [
            data.draw(st.lists(st.sampled_from([*known, *ids[:k]]), max_size=3, unique=True))
            if known or k
            else []
            for k in range(n)
        ]
        wanted = data.draw(st.lists(st.sampled_from(range(n)), min_size=1, unique=True))
        self.futures[client].update(first + k for k in wanted)
        self.tell(submitted(client, first, n, deps, wanted=wanted, **options))

    @precondition(lambda self: self.futures)
    @rule(data=st.data(), key=st.sampled_from(["k1", "k2"]))
    def submit_named(self, data, key):
        client = self.pick(data, self.futures)
        first = self.next_id[client]
        self.next_id[client] += 1
        self.futures[client].add(first)
        self.tell(submitted(client, first, key=key))

    @precondition(lambda self: any(self.futures.values()))
    @rule(data=st.data())
    def let_run(self, data):
        client = self.pick(data, [c for c, ids in self.futures.items() if ids])
        self.tell(s.RunawaysNamed(client, [self.pick(data, self.futures[client])]))

    @precondition(lambda self: self.futures and self.given)
    @rule(data=st.data())
    def scatter(self, data):
        client, worker = self.pick(data, self.futures), self.pick(data, self.given)
        first = self.next_id[client]
        self.next_id[client] += 1
        self.futures[client].add(first)
        for each in data.draw(st.sampled_from([{worker}, set(self.held)])):
            self.held[each].add(first)
            told = data.draw(st.sampled_from([each, 10**6]))
            self.tell(s.DataScattered(client, [first], [10], told))

    @precondition(lambda self: any(self.futures.values()) and self.given)
    @rule(data=st.data())
    def scatter_confused(self, data):
        """A client that scatters the id of a computed task changes nothing."""
        client = self.pick(data, [c for c, ids in self.futures.items() if ids])
        task = self.core.state.tasks.get(self.pick(data, self.futures[client]))
        if task is not None and task.group.function is not None:
            worker = self.pick(data, self.given)
            self.tell(s.DataScattered(client, [task.id], [10], worker))

    def answer(self, data):
        """Some of what a busy worker was given: (worker, ids, attempts)."""
        worker = self.pick(data, [w for w, given in self.given.items() if given])
        given = self.given[worker]
        ids = data.draw(st.lists(st.sampled_from(sorted(given)), min_size=1, unique=True))
        return worker, ids, [given.pop(each) for each in ids]

    busy = precondition(lambda self: any(self.given.values()))

    @busy
    @rule(data=st.data(), value=st.sampled_from(INLINE))
    def finish(self, data, value):
        worker, ids, attempts = self.answer(data)
        self.held[worker].update(ids)
        n = len(ids)
        self.tell(s.TasksFinished(worker, ids, attempts, [8] * n, [100] * n, [value] * n))

    @busy
    @rule(data=st.data(), value=st.sampled_from(INLINE), n=st.integers(2, 4))
    def finish_together(self, data, value, n):
        """What several workers say in one turn is decided on together; maybe one goes in it."""
        for _ in range(n):
            if not any(self.given.values()):
                break
            worker, ids, attempts = self.answer(data)
            self.held[worker].update(ids)
            columns = [8] * len(ids), [100] * len(ids), [value] * len(ids)
            self.now += 0.01
            self.core.take(s.TasksFinished(worker, ids, attempts, *columns), self.now)
        if data.draw(st.booleans()):
            self.worker_dies(data)
        elif any(self.futures.values()) and data.draw(st.booleans()):
            self.release(data)
        else:
            self.obey(self.core.decide())

    @busy
    @rule(data=st.data())
    def err(self, data):
        worker, ids, attempts = self.answer(data)
        self.tell(s.TasksErred(worker, ids, attempts, [b"e"] * len(ids), ["t"] * len(ids)))

    @busy
    @rule(data=st.data())
    def killed(self, data):
        worker, ids, attempts = self.answer(data)
        self.tell(s.TasksKilled(worker, ids, attempts, ["t"] * len(ids)))

    @busy
    @rule(data=st.data())
    def stopped(self, data):
        worker, ids, attempts = self.answer(data)
        self.tell(s.TasksStopped(worker, ids, attempts, ["t"] * len(ids)))

    @busy
    @rule(data=st.data(), waiting=st.booleans())
    def secede(self, data, waiting):
        """A running task waits for others, or no longer."""
        worker = self.pick(data, [w for w, given in self.given.items() if given])
        task_id = self.pick(data, self.given[worker])
        attempt = self.given[worker][task_id]
        self.tell(s.TasksSeceded(worker, [task_id], [attempt], waiting))

    @busy
    @rule(data=st.data())
    def returned(self, data):
        self.tell(s.TasksReturned(*self.answer(data)))

    @busy
    @rule(data=st.data())
    def input_missing(self, data):
        worker, ids, attempts = self.answer(data)
        holder = self.pick(data, self.held)
        missing = sorted(self.held[holder])[:1]
        self.held[holder] -= set(missing)
        addresses = [self.address(holder)] * len(missing)
        self.tell(s.InputsMissing(worker, ids, attempts, missing, addresses))

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def copy_made(self, data):
        holder = self.pick(data, [w for w, held in self.held.items() if held])
        worker = self.pick(data, self.held)
        task_id = self.pick(data, self.held[holder])
        self.held[worker].add(task_id)
        self.tell(s.ReplicasAdded(worker, [task_id]))

    @precondition(lambda self: any(self.futures.values()))
    @rule(data=st.data())
    def release(self, data):
        client = self.pick(data, [c for c, ids in self.futures.items() if ids])
        ids = data.draw(st.lists(st.sampled_from(sorted(self.futures[client])), unique=True))
        self.futures[client] -= set(ids)
        self.tell(s.KeysReleased(client, ids))

    @precondition(lambda self: any(self.futures.values()))
    @rule(data=st.data())
    def cancel(self, data):
        client = self.pick(data, [c for c, ids in self.futures.items() if ids])
        self.tell(s.CancelRequested(client, [self.pick(data, self.futures[client])]))

    @precondition(lambda self: any(self.futures.values()))
    @rule(data=st.data())
    def locate(self, data):
        client = self.pick(data, [c for c, ids in self.futures.items() if ids])
        ids = [self.pick(data, self.futures[client])]
        self.tell(s.LocationsAsked(client, next(self.numbers), ids))

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def worker_dies(self, data):
        worker = self.pick(data, self.given)
        self.lose(worker)
        self.tell(s.WorkerLost(worker, "gone"))

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def heartbeat(self, data):
        self.tell(s.Heartbeat(self.pick(data, self.given), {}))

    @precondition(lambda self: self.futures)
    @rule(data=st.data())
    def client_leaves(self, data):
        client = self.pick(data, self.futures)
        del self.futures[client]
        self.tell(s.ClientLost(client))

    @rule(seconds=st.sampled_from([0.02, 1.0, 20.0]))
    def time_passes(self, seconds):
        self.now += seconds
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.obey(self.core.expire(self.now))
            assert (self.core.next_deadline() or self.now + 1) > self.now

    @invariant()
    def holds(self):
        """`SchedulerCore` keeps `core.invariants` after any stimulus."""
        invariants.check(self.core.state)

    def teardown(self):
        """`SchedulerCore` owes nothing once workers answer everything: all is reported."""
        if not self.futures:
            return
        for name in ("w0", "w1"):
            worker = next(self.numbers)
            self.given[worker], self.held[worker] = {}, set()
            self.addresses[f"h{worker}:1"] = worker
            self.tell(s.WorkerJoined(worker, f"h{worker}:1", name, 2, {"GPU": 10_000}))
        while any(self.given.values()):
            for worker in [w for w, given in self.given.items() if given]:
                given, self.given[worker] = self.given[worker], {}
                self.held[worker].update(given)
                ids, n = list(given), len(given)
                values = [b"v"] * n
                attempts = list(given.values())
                self.tell(s.TasksFinished(worker, ids, attempts, [8] * n, [9] * n, values))
        for client, ids in self.futures.items():
            assert ids <= self.reported[client]
        invariants.check(self.core.state)
        for client, ids in list(self.futures.items()):
            self.tell(s.KeysReleased(client, sorted(ids)))
        assert not self.core.state.tasks, "something is kept for nobody"
        assert not any(self.held.values()) or not any(
            w.has_what for w in self.core.state.workers.values()
        )


Network.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestNetwork = Network.TestCase
