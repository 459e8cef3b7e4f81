"""`SimExecutor`: runs a simulated worker's tasks, as a nanny does with its child process."""

from __future__ import annotations

from tests.support import simtasks
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.payloads import value_nbytes
from twisted_dist.execution.runner import TaskRunner, TaskSpec
from twisted_dist.services.child_executor import FIRST_RESTART_S

#: seconds that a message between a nanny and its child takes
PIPE_S = 0.0001
#: the shortest that a task takes, seconds
LEAST_TASK_S = 0.001


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
        self.reactor = reactor
        self.nthreads = nthreads
        self.random = random
        self.world = world
        self.runner = TaskRunner(clock=lambda: 0.0)
        self._child = None
        self._held = []
        self._restart = None

    def start(self):
        """Start a child."""
        self._restart = None
        self._child = _Child(self)
        held, self._held = self._held, []
        self._send(self._child.run, held)

    def add_function(self, digest, blob):
        """As every executor's."""
        self.runner.add_function(digest, blob)

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

    def stop(self):
        """End the child."""
        if self._child is not None:
            self._child.end()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _send(self, function, *args):
        self.reactor.callLater(PIPE_S, function, *args)

    # -- from the child

    def hear(self, fact):
        """The child says something."""
        self._send(lambda: self.tell(fact))

    def bury(self, running):
        """The child has died while it ran some tasks."""
        self.world.deaths += 1
        self._send(self._start_anew, running)

    def _start_anew(self, running):
        self._child = None
        self._restart = self.reactor.callLater(FIRST_RESTART_S, self.start)
        self.tell(m.ExecutorDied(running, "the simulated process died"))


class _Child:
    """Runs a task when a thread is free, and says so after the seconds that it takes.

    Each value ends with the number of the execution that made it: results of two attempts
    can be told apart, and pickle does not mind.
    """

    def __init__(self, nanny):
        self._nanny = nanny
        self._alive = True
        self._waiting = []
        self._running = {}

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

    def end(self):
        """Do nothing any more."""
        self._alive = False
        for call in self._running.values():
            if call.active():
                call.cancel()

    def _next(self):
        while self._waiting and len(self._running) < self._nanny.nthreads:
            self._begin(self._waiting.pop(0))

    def _begin(self, spec):
        nanny = self._nanny
        world = simtasks.world = nanny.world
        world.forget_conduct()
        world.begun[spec.task_id] += 1
        outcome = nanny.runner.run(spec)
        if outcome.error is None:
            outcome.value = _stamped(outcome.value, world.begun.total())
            outcome.nbytes = value_nbytes(outcome.value)
        seconds = world.seconds
        if seconds is None:  # one that says how long it takes does so on a slow host as well
            seconds = nanny.random.uniform(LEAST_TASK_S, world.pace) * nanny.reactor.slowness
        outcome.duration_us = int(seconds * 1e6)
        ending = self._die if world.kills else self._finish
        self._running[spec] = nanny.reactor.callLater(seconds, ending, spec, outcome)

    def _finish(self, spec, outcome):
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

    def _die(self, _spec, _outcome):
        self.end()
        self._nanny.bury([each.task_id for each in self._running])


def _stamped(value, number):
    stamp = number.to_bytes(8, "big")
    return value + stamp if isinstance(value, bytes) else [value[0] + stamp, *value[1:]]
