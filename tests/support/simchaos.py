"""`Chaos`: one run of a simulated cluster under load and faults, all from one seed."""

from __future__ import annotations

import gc
from functools import partial
from random import Random

from tests.support.simbooks import Books
from tests.support.simcluster import SCHEDULER_IP, SimCluster
from tests.support.simcopies import COPIES, NESTING, RESTARTS, RETIRING
from tests.support.simerrands import ERRANDS
from tests.support.simfaults import Faults
from tests.support.simjanitor import Janitor
from tests.support.simload import NAMES, OUT_OF_REACH, RESOURCES, Load
from tests.support.simrecipes import LIMITS, RECIPES
from tests.support.simsharing import SHARING
from twisted_dist.core.answers import ALLOWED_FAILURES
from twisted_dist.errors import ConnectError, DependencyLostError, TaskKilledError, WorkerLostError

#: the longest that a plain task takes, seconds
PACES_S = (0.01, 0.2, 1.0)
#: the time within which everything is begun, in longest tasks
WINDOWS = (3, 10, 40)
#: of all clients
TASKS = (20, 40, 80)
#: by which factor the whole network is slower than a good one
SLOWNESS = (1, 1, 10, 100)
#: the longest between a client's pieces of work, as a share of the window
PAUSES = (0.0, 0.01, 0.1, 0.3)
#: each client's tasks are about so many numbers of its own
NUMBERS = 100_000
#: what some runs have beside `RECIPES`, and how many of them
MORE = (
    (NESTING, 0.3),
    (COPIES, 0.3),
    (RESTARTS, 0.2),
    (LIMITS, 0.15),
    *((each, 0.25) for each in SHARING),
    (RETIRING, 0.25),
)
#: of runs in which the scheduler may be killed, and what is not lost with it
RESTART_SHARE = 0.3
SURVIVING = (LIMITS, RETIRING, NESTING, ERRANDS)
#: by which factor that comes more often there than it says
EMPHASIS = 2
#: of clients that close while others go on
CLOSING_SHARE = 0.15
#: seconds until everything promised must have ended, once nothing new goes wrong: the longest
#: fault, two leases for what is found to be lost when that has ended, and the longest task; what
#: waits for turns (`Right.turns_s`) takes longer
SETTLED_S = 300.0
#: seconds for what is under way then: the longest fault, and a lease
QUIET_S = 200.0
#: a client that cannot connect tries for so long
CONNECTING_S = 500.0


class Violation(AssertionError):  # noqa: N818 - it is found, not made
    """What the simulation found."""


class Chaos:
    """A run: workers join, clients submit, faults happen and end; then all is compared.

    Args:
        seed: of everything.

    Attributes:
        log: what happened, the same for the same seed.
    """

    def __init__(self, seed):
        self.random = Random(f"chaos {seed}")
        self.cluster = SimCluster(self.random.random(), checked=True)
        self.net = self.cluster.net
        self.log = self.net.log
        self.net.slowness = self.random.choice(SLOWNESS)
        self.cluster.world.pace = pace_s = self.random.choice(PACES_S)
        self._window_s = pace_s * self.random.choice(WINDOWS)
        self._loads = []
        self._connecting = {}
        more = [recipes for recipes, share in MORE if self.random.random() < share]
        self._may_restart = self.random.random() < RESTART_SHARE
        if self._may_restart:  # what is shared is lost with the scheduler, and tasks' clients are
            more = [each for each in more if each in SURVIVING]
        recipes = {recipe: n * EMPHASIS for each in more for recipe, n in each.items()} | RECIPES
        self._books = Books(self.cluster.watch.guard, recipes)
        self._janitor = None
        self._faults = None

    def run(self):
        """Everything, in order.

        Raises:
            Violation: with what is wrong.
        """
        self.cluster.watch.listen()
        try:
            self._begin()
            self.net.run_for(self._window_s)
            self._settle()
            self._compare()
            self._leave()
            gc.collect(0)  # errors that nobody handled are logged when they are garbage
            assert self.net.broken is None, self.net.broken
        except AssertionError as problem:
            raise Violation(str(problem)) from problem
        finally:
            self.cluster.watch.close()

    # -- what happens

    def _soon(self, function, *args):
        when = self.net.clock.rightNow + self.random.uniform(0, self._window_s)
        self.net.at(when, lambda: function(*args))

    def _begin(self):
        """Have workers join, faults happen, and clients come, at once or soon."""
        random = self.random
        names = random.sample(NAMES[:-1], random.randrange(len(NAMES)))
        for n in range(random.randint(3, 6)):
            name = names.pop() if names else ""
            # what a task may ask for at all, some named worker has
            resources = RESOURCES if name or random.random() < 0.2 else {}
            how = (random.choice([1, 1, 2, 4]), name, resources)
            if n < 2 or random.random() < 0.7:
                self.cluster.add_worker(*how)
            else:
                self._soon(self.cluster.add_worker, *how)
        self._faults = Faults(
            self.cluster, Random(random.random()), self._window_s, self._may_restart
        )
        self._books.faults = self._faults
        tasks = random.choice(TASKS)
        clients = random.choice([1, 1, 2, 3])
        self._connect(tasks // clients)
        for _ in range(1, clients):
            self._soon(self._connect, tasks // clients)

    def _connect(self, tasks):
        client, connected = self.cluster.connect(CONNECTING_S)
        host = client.session.reactor
        self._connecting[host] = None
        connected.addBoth(self._no_longer_connecting, host)
        connected.addCallbacks(self._submit, self._not_connected, (tasks,))

    def _no_longer_connecting(self, result, host):
        del self._connecting[host]
        return result

    def _not_connected(self, failure):
        failure.trap(ConnectError)
        assert self._faults.count, "a client cannot connect, and nothing is wrong"

    def _submit(self, client, tasks):
        random = Random(self.random.random())
        faulty = self._faults.count > 0
        load = Load(client, random, self._books, faulty, tasks, NUMBERS * len(self._loads))
        self._loads.append(load)
        self._step(load)
        if tasks and self.random.random() < CLOSING_SHARE:
            self._soon(load.host.when_awake, partial(self._close, load))

    def _close(self, load):
        """A Deferred, unless it is dead."""
        load.is_cut_off = load.gone or not self._is_heard(load)
        load.closed_in = self.cluster.generation
        if not load.host.dead:
            return load.client.close()

    def _is_heard(self, load):
        """Whether what a client says as its last word gets through, as far as it knows."""
        between = {load.host.ip, SCHEDULER_IP}
        is_open = not any(set(way) == between for way in self.net.cut)
        return is_open and load.client.session._reach._link.is_connected

    def _step(self, load):
        """One piece of work, and the next a little later."""
        if load.left > 0 and not load.gone:
            load.step()
            pause = load.random.choice(PAUSES) * load.random.random() * self._window_s
            again = partial(load.host.when_awake, lambda: self._step(load))
            self.net.at(self.net.clock.rightNow + pause, again)

    # -- the end

    def _settle(self):
        """Have whatever may be missing come, and wait for all that was promised."""
        self._faults.end()
        taken = self.cluster.names()
        for name in NAMES:
            if name not in taken:
                self.cluster.add_worker(2, name, RESOURCES)
        self.cluster.add_worker(2, "", RESOURCES)
        self.cluster.on_left = self._replace
        _, connected = self.cluster.connect(CONNECTING_S)
        self._submit(self.cluster.wait(connected), 0)
        self._janitor = Janitor(self._loads[-1])
        self._janitor.begin()
        end = self.net.clock.rightNow + SETTLED_S
        self.net.run(lambda: self._is_begun() or self._is_late(end))
        self._ask_all()
        self._until_told(end)

    def _is_late(self, end):
        """Whether it is past *end*, and past all turns that anything may have to wait for."""
        now = self.net.clock.rightNow
        if now <= end:
            return False
        promises = [each for load in self._living() for each in load.promises]
        return now > end + sum(each.right.turns_s for each in promises)

    def _replace(self, worker):
        """One has left whose name may be asked for."""
        if worker.name:
            self.cluster.add_worker(2, worker.name, RESOURCES)

    def _ask_all(self):
        """Ask for what nobody has asked for yet."""
        for load in self._living():
            for promise in load.promises:
                if promise.future is not None and not promise.asked:
                    promise.ask()

    def _is_begun(self):
        connecting = any(not host.dead for host in self._connecting)
        return not connecting and all(load.is_done for load in self._loads)

    def _living(self):
        return [load for load in self._loads if not load.host.dead]

    def _until_told(self, end):
        """Let time pass until all that was asked is told, what is asked meanwhile too."""
        waiting = []

        def all_told():
            while waiting and (waiting[-1].is_told() or waiting[-1].load.host.dead):
                waiting.pop()
            if not waiting:
                untold = [p for load in self._living() for p in load.promises if not p.is_told()]
                waiting.extend(untold)
            return not waiting or self._is_late(end)

        self.net.run(all_told)

    def _excuses(self, load):
        """Errors of the system that what has happened explains."""
        excuses = set()
        if self.cluster.watch.attempts_lost > ALLOWED_FAILURES:
            excuses.add(WorkerLostError)
        if self.cluster.world.deaths >= ALLOWED_FAILURES:
            excuses.add(TaskKilledError)
        index = load.client.session.submitter.index
        if index in self.cluster.watch.returned:
            # what others have given it is not its to tell of again
            excuses.add(DependencyLostError)
        if load.gone or index in self.cluster.watch.returned | self.cluster.watch.given_up:
            excuses |= OUT_OF_REACH
        return excuses

    def _compare(self):
        """Compare every promise with what it has become, and with what it is when asked again."""
        self._object()
        for load in self._living():
            for promise in load.promises:
                if promise.future is not None and not load.gone:
                    promise.ask()
        self._until_told(self.net.clock.rightNow + QUIET_S)
        self._object()
        end = self.net.clock.rightNow + QUIET_S
        self.net.run(lambda: self._are_gone() or self.net.clock.rightNow > end)
        self._janitor.end()
        self._until_told(self.net.clock.rightNow + QUIET_S)
        self._ask_all()
        self._until_told(self.net.clock.rightNow + QUIET_S)
        self._object()
        if self._faults.harmless:
            assert not self.cluster.watch.losses, "a worker was given up without a reason"
            assert not self.cluster.watch.lost_results, "a result was lost without a reason"
            closed = all(load.client.session.closed for load in self._loads if load.gone)
            assert closed, "a client lost its connection without a reason"

    def _are_gone(self):
        """Whether the scheduler has heard the last of all clients that are gone."""
        known = self.cluster.scheduler.core.state.clients
        return not any(
            load.gone and load.client.session.submitter.index in known for load in self._loads
        )

    def _object(self):
        wrong = [told for load in self._living() for told in self._objections(load)]
        assert not wrong, "\n".join(wrong)

    def _objections(self, load):
        excuses = self._excuses(load)
        state = self.cluster.scheduler.core.state
        for promise in load.promises:
            wrong = promise.objection(excuses)
            if wrong is not None:
                key = promise.future.key if promise.future is not None else ""
                task = promise.future and state.tasks.get(promise.future._record.id)
                where = f" (the scheduler: {task.state})" if task else ""
                yield f"{promise.what} {key}, of {load.host.ip}: {wrong}{where}"

    def _leave(self):
        """Everybody goes; nothing may be left behind."""
        self._until_quiet(self.cluster.watch.differences)
        for load in self._living():
            load.promises.clear()
            if not load.client.session.closed:
                self.cluster.wait(self._close(load), QUIET_S)
        self._until_quiet(self._leftovers)
        self.cluster.on_left = lambda worker: None
        self.cluster.stop()

    def _until_quiet(self, differences):
        end = self.net.clock.rightNow + QUIET_S
        while (told := differences()) and self.net.clock.rightNow < end:
            self.net.run_for(1.0)
        assert not told, "\n".join(told)

    def _leftovers(self):
        tasks = self.cluster.scheduler.core.state.tasks.values()
        left = [f"{task.name} is kept for nobody" for task in tasks]
        for load in self._living():
            # a scheduler that has begun anew learns from nobody what a client let run that went
            if load.closed_in not in (None, self.cluster.generation):
                continue
            # one that was lost may not have told of them, and what was killed was given up
            if not load.is_cut_off and not self._excuses(load) - OUT_OF_REACH:
                missing = set(load.marks) - self.cluster.world.marks
                left += [f"mark {each} of {load.host.ip} was never made" for each in missing]
        return left + self.cluster.watch.differences() + self.cluster.watch.leftovers()
