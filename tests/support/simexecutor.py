"""`SimExecutor`: runs a simulated worker's tasks, as a nanny does with its child process."""

from __future__ import annotations

from twisted.internet import defer
from twisted.internet.task import deferLater

from tests.support import simtasks
from tests.support.simerrands import SimErrands
from tests.support.simnesting import TaskClients
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.payloads import dump_exception, dump_value, value_nbytes
from twisted_dist.execution.runner import TaskRunner, TaskSpec
from twisted_dist.services.child_executor import TASK_PATIENCE_S
from twisted_dist.services.executor import no_pass
from twisted_dist.services.restarts import FIRST_RESTART_S

#: seconds that a message between a nanny and its child takes
PIPE_S = 0.0001
#: the shortest that a task takes, seconds
LEAST_TASK_S = 0.001
#: shares of the tasks that do not end when they are told to: but with their process, or not
#: at all, as a worker's without a nanny
STUBBORN, DEAF = 0.3, 0.3
#: seconds until a child that is started runs tasks
BIRTH_S = 0.2


class SimExecutor:
    """The nanny's side: feeds one child, and another one when that has died.

    Args:
        reactor: of its host.
        nthreads: tasks at a time.
        random: for how long tasks take.
        world: what the tasks do.
    """

    def __init__(self, reactor, nthreads, random, world):
        self.tell = lambda fact: None
        self.get_pass = no_pass
        self.rss = 0
        self.reactor = reactor
        self.nthreads = nthreads
        self.random = random
        self.world = world
        self.runner = TaskRunner(clock=lambda: 0.0)
        self._child = None
        self._held = []
        self.errands = SimErrands(self, PIPE_S)
        self._restart = None
        #: {name: bytes} of what was uploaded, and names that cannot be had
        self.uploads = {}
        self.refused = set()

    def start(self):
        """Start a child."""
        self._restart = None
        self._child = _Child(self)
        held, self._held = self._held, []
        self._send(self._child.run, held)
        self.errands.begin()

    def add_function(self, digest, blob):
        """As every executor's."""
        self.runner.add_function(digest, blob)

    def add_upload(self, name, digest, blob):
        """As every executor's; takes as long as a message to the child and back."""
        self.uploads[name] = blob
        error = "no space left" if name in self.refused else ""
        return deferLater(self.reactor, 2 * PIPE_S, lambda: error)

    def forget_uploads(self):
        """As every executor's."""
        self.uploads.clear()

    def run(self, tasks, values):
        """Send tasks with their inputs to the child."""
        specs = [
            TaskSpec(t.id, t.attempt, t.digest, t.call, [values[each] for each in t.deps])
            for t in tasks
        ]
        if self._child is None:
            self._held += specs
        else:
            self._send(self._child.run, specs)

    def drop(self, ids):
        """Take back what has not begun."""
        dropped = [each.task_id for each in self._held if each.task_id in ids]
        if dropped:
            self._held = [each for each in self._held if each.task_id not in ids]
            self.tell(m.ExecutionReturned(dropped))
        if self._child is not None:
            self._send(self._child.drop, ids)

    def stop_tasks(self, ids, attempts):
        """End tasks, politely or by force."""
        which = set(zip(ids, attempts))
        held = [each.task_id for each in self._held if (each.task_id, each.attempt) in which]
        self.drop(held)
        if self._child is not None:
            self._send(self._child.stop_tasks, which)

    def restart(self):
        """End the child, and start another; a Deferred of when that is there."""
        self.stop()
        self._child = None
        self.errands.ended()
        self._held.clear()
        started = defer.Deferred()

        def start():
            self.start()
            started.callback(None)

        self._restart = self.reactor.callLater(BIRTH_S, start)
        return started

    def stop(self):
        """End the child."""
        self.errands.close()
        if self._child is not None:
            self._child.end()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    @property
    def clients(self):
        """Those of the child's tasks."""
        return self._child.clients if self._child is not None else None

    @property
    def waiting(self):
        """``(id, attempt)`` of the tasks that wait for others."""
        return self._child.waiting_for_others() if self._child is not None else set()

    @property
    def is_idle(self):
        """Whether no thread runs anything."""
        return self._child is None or self._child.is_idle

    def _send(self, function, *args):
        self.reactor.callLater(PIPE_S, function, *args)

    # -- from the child

    def hear(self, fact):
        """The child says something."""
        self._send(lambda: self.tell(fact))

    def bury(self, child, running):
        """The child has died while it ran some tasks."""
        self.world.deaths += 1
        self._send(self._start_anew, child, running)

    def _start_anew(self, child, running):
        if self._child is not child:
            return  # it was to end, and another start, before that was noticed
        self._child = None
        self.errands.ended()
        self._restart = self.reactor.callLater(FIRST_RESTART_S, self.start)
        self.tell(m.ExecutorDied(running, "the simulated process died"))


class _Child:
    """Runs a task when a thread is free, and says so after the seconds that it takes.

    A task that waits for others gives its thread away meanwhile, and takes one more when it
    goes on, as a `SlotPool` does.

    Each value ends with the number of the execution that made it: results of two attempts
    can be told apart, and pickle does not mind.
    """

    def __init__(self, nanny):
        self._nanny = nanny
        self._alive = True
        self._waiting = []
        self._running = {}
        self._seceded = {}
        self._forces = []
        #: {what runs: the number of a `flaky` task}; whose end nobody hears of has not counted
        self._tries = {}
        self.clients = TaskClients(nanny)

    def run(self, specs):
        """Tasks have come."""
        if self._alive:
            self._waiting += specs
            self._next()

    def drop(self, ids):
        """Tasks are asked back."""
        if self._alive:
            dropped = [each.task_id for each in self._waiting if each.task_id in ids]
            self._waiting = [each for each in self._waiting if each.task_id not in ids]
            self._nanny.hear(m.ExecutionReturned(dropped))

    def stop_tasks(self, which):
        """Tasks are to end: at once, or, where that is no use, with this process."""
        if not self._alive:
            return
        self.drop([each.task_id for each in self._waiting if (each.task_id, each.attempt) in which])
        for spec in [each for each in self._running if (each.task_id, each.attempt) in which]:
            call = self._running[spec]
            if call is None:  # it waits for a pass, and is left to it
                continue
            chance = self._nanny.random.random()
            if chance < STUBBORN:
                force = self._nanny.reactor.callLater(TASK_PATIENCE_S, self._stop_by_force, spec)
                self._forces.append(force)
            elif chance > STUBBORN + DEAF:
                call.cancel()
                del self._running[spec]
                self._tries.pop(spec, None)
                self._tell_stopped(spec)
        self._next()

    def _stop_by_force(self, spec):
        if spec in self._running:
            self._tell_stopped(spec)
            self.end()
            self._nanny.bury(self, [])

    def _tell_stopped(self, spec):
        self._nanny.hear(m.ExecutionStopped([spec.task_id], [spec.attempt], ["in there"]))

    def end(self):
        """Do nothing any more."""
        self._alive = False
        self._nanny.world.tries.subtract(self._tries.values())
        self._tries.clear()
        for call in (*self._running.values(), *self._forces):
            if call is not None and call.active():
                call.cancel()
        self.clients.die()

    def waiting_for_others(self):
        """``(id, attempt)`` of the tasks that do."""
        return {(each.task_id, each.attempt) for each in self._seceded}

    @property
    def is_idle(self):
        """Whether no thread runs anything."""
        return not (self._running or self._seceded or self._waiting)

    def _next(self):
        while self._alive and self._waiting and len(self._running) < self._nanny.nthreads:
            self._begin(self._waiting.pop(0))

    def _begin(self, spec):
        nanny = self._nanny
        world = simtasks.world = nanny.world
        world.forget_conduct()
        world.begun[spec.task_id] += 1
        outcome = nanny.runner.run(spec)
        self._stamp(outcome)
        if world.tried is not None:
            self._tries[spec] = world.tried
        seconds = world.seconds
        if seconds is None:  # one that says how long it takes does so on a slow host as well
            seconds = nanny.random.uniform(LEAST_TASK_S, world.pace) * nanny.reactor.slowness
        outcome.duration_us = int(seconds * 1e6)
        ending, args = (self._die if world.kills else self._finish), (spec, outcome)
        if world.nest is not None:
            ending, args = self._nest, (*args, world.nest)
        self._running[spec] = nanny.reactor.callLater(seconds, ending, *args)

    def _stamp(self, outcome):
        if outcome.error is None:
            outcome.value = _stamped(outcome.value, self._nanny.world.begun.total())
            outcome.nbytes = value_nbytes(outcome.value)

    def _finish(self, spec, outcome):
        self._tries.pop(spec, None)
        del self._running[spec]
        ids, attempts = [spec.task_id], [spec.attempt]
        if outcome.error is None:
            size, took = [outcome.nbytes], [outcome.duration_us]
            fact = m.ExecutionFinished(ids, attempts, [outcome.value], size, took)
        else:
            blob, text = outcome.error
            fact = m.ExecutionErred(ids, attempts, [blob], [text])
        self._nanny.hear(fact)
        self._next()

    # -- tasks that submit tasks

    def _nest(self, spec, outcome, nest):
        defer.Deferred.fromCoroutine(self._run_nested(spec, outcome, nest))

    async def _run_nested(self, spec, outcome, nest):
        """Submit tasks, wait for them on no thread, and end with what they give."""
        self._running[spec] = None
        try:
            client = await self.clients.get(spec)
            futures = [client.submit(function, *args) for function, args in nest.calls]
            self._secede(spec)
            try:
                values = await client.gather(futures)
            finally:
                for each in futures:  # and not when the traceback of an error is let go
                    each.release()
                self._return(spec)
            outcome.value = dump_value(nest.end(values))
            self._stamp(outcome)
        except Exception as problem:
            outcome.error = dump_exception(problem)
        if self._alive:
            self._running[spec] = self._nanny.reactor.callLater(
                LEAST_TASK_S, self._finish, spec, outcome
            )

    def _secede(self, spec):
        if self._alive:
            del self._running[spec]
            self._seceded[spec] = None
            self._nanny.hear(m.ExecutionWaits([spec.task_id], [spec.attempt], True))
            self._next()

    def _return(self, spec):
        if self._alive:
            del self._seceded[spec]
            self._running[spec] = None
            self._nanny.hear(m.ExecutionWaits([spec.task_id], [spec.attempt], False))

    def _die(self, _spec, _outcome):
        self.end()
        self._nanny.bury(self, [each.task_id for each in (*self._running, *self._seceded)])


def _stamped(value, number):
    stamp = number.to_bytes(8, "big")
    return value + stamp if isinstance(value, bytes) else [value[0] + stamp, *value[1:]]
