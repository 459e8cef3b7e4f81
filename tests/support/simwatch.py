"""`Watch`: what must hold in a simulated network at any moment, and once it is quiet."""

from __future__ import annotations

from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.support.simguard import Guard
from twisted_dist.core import invariants
from twisted_dist.core import stimuli as s
from twisted_dist.core.task import MEMORY
from twisted_dist.execution.payloads import in_band

#: what makes results, or more copies of them, visible
_NEW_RESULTS = (s.TasksFinished, s.ReplicasAdded)
#: at what workers are given up: the last is time that has passed
_LOSING = (s.WorkerLost, s.WorkerJoined, float)


class Watch:
    """Looks after each decision of the scheduler's machine; says what is wrong to the network.

    * `core.invariants` hold: every task in exactly one state, nothing idle beside what it may
      run.
    * No two attempts' results are both visible: all copies of a result that the scheduler
      counts are of one execution, and stay what they were.
    * Who has retired runs nothing, and holds nothing alone, when it is told to leave.
    * What `Guard` looks after.
    * Nobody logs a failure that nobody expected (`listen`).

    Args:
        cluster: to look at.
        checked: look after each step; else it only notes what happens.

    Attributes:
        losses: how many workers were given up that had something to lose.
        attempts_lost: how many were given up that had something to do.
        lost_results: how many were given up because somebody could not have them.
        guard: looks after what clients share.
    """

    def __init__(self, cluster, checked):
        self._cluster = cluster
        self._checks = checked
        self._results = {}
        self._seen_off = set()
        #: numbers of clients that came again after they had been given up
        self.returned = set()
        #: and of all that were, or have gone
        self.given_up = set()
        self.losses = 0
        self.attempts_lost = 0
        self.lost_results = 0
        self.look_at(cluster.scheduler.core)

    def look_at(self, core):
        """Look at a scheduler's machine, from its beginning; at no other any more."""
        self.guard = Guard(core, self._say)
        self._taken = []
        core.take = self._noted(core.take)
        core.expire = self._noted(core.expire)
        core.decide = self._checked(core.decide)

    def listen(self):
        """Hear what is logged, until `close`; for who knows that no garbage of others speaks."""
        globalLogPublisher.addObserver(self._hear)

    def close(self):
        """Hear no more."""
        globalLogPublisher.removeObserver(self._hear)

    def _hear(self, event):
        if event["log_level"] is LogLevel.critical:
            failure = event.get("log_failure")
            trace = failure.getTraceback() if failure is not None else ""
            self._say(f"a failure was logged: {formatEvent(event)}\n{trace}")

    def _say(self, what):
        net = self._cluster.net
        if net.broken is None:
            net.broken = what

    def _noted(self, function):
        core = self._cluster.scheduler.core
        state = core.state

        def noted(*args):
            what = args[0]  # a stimulus, or the instant of `expire`
            self._cluster.net.note(function.__name__, *args[:-1])
            self._taken.append(what)
            busy, given, held = [], [], []
            if type(what) in (*_LOSING, s.InputsMissing):
                core.catch_up()  # as it would itself: the books are compared with what follows
            if type(what) in _LOSING:
                # one that was never heard of may not know that it is registered: it gives up
                heard = [each for each in state.workers.values() if each.metrics]
                busy = [each for each in heard if each.processing or each.has_what]
                given = [each for each in state.workers.values() if each.processing]
            elif type(what) is s.ClientJoined and what.returns:
                self.returned.add(what.client)
            elif type(what) is s.ClientLost:
                self.given_up.add(what.client)
            elif type(what) is s.InputsMissing:
                missing = filter(None, map(state.tasks.get, what.missing))
                held = [task for task in missing if task.state is MEMORY]
            if self._checks:
                self.guard.before(what)
            out = function(*args)
            if isinstance(what, float) and (core.next_deadline() or what + 1) <= what:
                self._say("the time has come for something that is not done: a timer spins")
            self.losses += sum(map(self._is_lost, busy))
            self.attempts_lost += sum(map(self._is_lost, given))
            self.lost_results += sum(task.state is not MEMORY for task in held)
            if self._checks:
                self.guard.after(what)
            return out

        return noted

    def _is_lost(self, worker):
        """Whether a worker is off the books, and has not retired."""
        known = self._cluster.scheduler.core.state.workers
        return known.get(worker.id) is not worker and worker not in self._seen_off

    def _checked(self, decide):
        core = self._cluster.scheduler.core
        state = core.state

        def checked():
            if state.retiring:
                core.catch_up()  # what has ended by now is not what is left with
            leaving = {w: (list(w.processing), list(w.has_what)) for w in state.retiring}
            out = decide()
            all_leave = all(each.retiring is not None for each in state.workers.values())
            for worker, (running, held) in leaving.items():
                if state.workers.get(worker.id) is not worker:
                    self._seen_off.add(worker)
                    lost = [task.name for task in held if task.state is not MEMORY]
                    if all_leave and not worker.retiring.waits:
                        lost = []  # they had nowhere to go
                    if running or lost:
                        self._say(f"{worker.name} left with {running}, and {lost} only there")
            taken, self._taken = self._taken, []
            if self._checks:
                self._check(state, taken)
                self.guard.decided(out)
            return out

        return checked

    def _check(self, state, taken):
        try:
            invariants.check(state)
            for what in taken:
                if isinstance(what, _NEW_RESULTS):
                    self._check_copies(what.ids)
        except AssertionError as problem:
            self._say(f"after {taken}:\n{problem}")

    def _check_copies(self, ids):
        for task_id in ids:
            task = self._cluster.scheduler.core.state.tasks.get(task_id)
            if task is None or task.state is not MEMORY:
                continue
            for holder in task.who_has:
                worker = self._cluster.worker_at(holder.address)
                value = worker and worker._store.get(task_id)
                if value is not None:
                    value = in_band(value)
                    known = self._results.setdefault((task_id, task.attempt), value)
                    is_same = known == value  # not shown: some are large
                    assert is_same, (
                        f"{task.name}: a second attempt's result is visible at {holder.address}"
                    )

    # -- once it is quiet

    def differences(self):
        """Where the scheduler's books and its workers' differ; nothing once all is quiet."""
        told = [f"{ip} is to live again" for ip in self._cluster.returning]
        told += self.guard.differences()
        for known in self._cluster.scheduler.core.state.workers.values():
            worker = self._cluster.worker_at(known.address)
            if worker is None:
                told.append(f"{known.address} is registered and gone")
                continue
            books = {task.id for task in known.has_what}
            if not books == worker.core.held.keys() == set(worker._store):
                told.append(
                    f"{known.address} holds {sorted(worker._store)} and says "
                    f"{sorted(worker.core.held)}; the scheduler says {sorted(books)}"
                )
            given = {task.id for task in known.processing}
            if given != worker.core.tasks.keys():
                told.append(f"{known.address} has {sorted(worker.core.tasks)}, not {sorted(given)}")
            waiting = {(task.id, task.attempt) for task in known.seceded}
            theirs = {each for each in worker._executor.waiting if each[0] in given}
            if waiting != theirs:
                told.append(f"{known.address}: {theirs} wait for others, not {waiting}")
            if known.dropped or worker.core.flights:
                told.append(f"{known.address}: {known.dropped} dropped, {worker.core.flights}")
        registered = self._cluster.scheduler.core.state.by_address
        for worker in self._cluster.workers.values():
            if worker.address not in registered or worker._first is not None:
                told.append(f"{worker.address} lives, and does not know that it is registered")
        return told

    def leftovers(self):
        """What is there, and nobody's, once everything has ended."""
        told = [*self.guard.things(), *self.guard.lost_items()]
        for ip, worker in self._cluster.workers.items():
            if not worker._executor.is_idle:
                told.append(f"{ip} still runs something")
            if len(worker._errands):
                told.append(f"{ip} still has errands")
        if self._cluster.scheduler._members.errands._under_way:
            told.append("the scheduler waits for errands of nobody")
        return told
