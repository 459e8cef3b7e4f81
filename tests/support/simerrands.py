"""Errands in simulated networks: what runs them beside the tasks, and who asks for them."""

from __future__ import annotations

import pickle
from concurrent.futures import CancelledError

from tests.support import simtasks as t
from twisted_dist.core.task import KILLED
from twisted_dist.errors import (
    ConnectionClosedError,
    DataLostError,
    TaskKilledError,
    WorkerLostError,
)
from twisted_dist.execution.graphs import call_given
from twisted_dist.execution.runner import TaskSpec
from twisted_dist.services.worker_errands import Ended, as_ended

_CALL = b"errand"


class SimErrands:
    """Runs errands in the child of a `SimExecutor`; each takes a while, and dies with it."""

    def __init__(self, executor, pipe_s):
        self.done = lambda errand, ended: None
        self._executor = executor
        self._pipe_s = pipe_s
        executor.runner.add_function(_CALL, pickle.dumps(call_given))
        self._held = {}
        #: {errand in the child: the call that ends it}
        self._given = {}

    def run(self, errand, blob):
        """As every executor's."""
        if self._executor._child is None:
            self._held[errand] = blob
            return
        t.world = self._executor.world
        t.world.forget_conduct()
        outcome = self._executor.runner.run(TaskSpec(errand, 0, _CALL, blob, ()))
        seconds = t.world.seconds
        if seconds is None:
            seconds = self._executor.random.uniform(0, t.world.pace)
        later = self._executor.reactor.callLater
        ending = self._killed if t.world.kills else self._finish
        self._given[errand] = later(seconds + 2 * self._pipe_s, ending, errand, outcome)

    def _finish(self, errand, outcome):
        del self._given[errand]
        self.done(errand, as_ended(outcome.value, outcome.nbytes, outcome.error))

    def _killed(self, errand, _outcome):
        child = self._executor._child
        child.end()
        self._executor.bury(child, [])

    def stop(self, ids):
        """As every executor's: these end, and nobody is told."""
        for each in ids:
            self._held.pop(each, None)
            call = self._given.pop(each, None)
            if call is not None and call.active():
                call.cancel()

    def begin(self):
        """A child has started."""
        held, self._held = self._held, {}
        for errand, blob in held.items():
            self.run(errand, blob)

    def close(self):
        """As every executor's."""
        for call in self._given.values():
            if call.active():
                call.cancel()

    def ended(self):
        """The child has died, and that was noticed."""
        self.close()
        given, self._given = self._given, {}
        for each in given:
            self.done(each, Ended(KILLED, text="the simulated process died"))


# -- what clients ask for


async def errand(load):
    """Call something on all workers: on each it is right, or lost for a reason."""
    n = load.number()
    function, right = load.random.choice([(t.double, 2 * n), (t.big, t.big(n))])
    timeout = load.random.choice([None, 1.0, 20.0])
    restarts = load.books.restarts
    got = await load.client.run(function, n, timeout=timeout, on_error="return")
    allowed = [TimeoutError] if timeout is not None else []
    if load.faulty or load.gone or load.books.asked_retirements or load.books.restarts > restarts:
        allowed += [WorkerLostError, TaskKilledError, ConnectionClosedError, DataLostError]
        allowed.append(CancelledError)
    wrong = [each for each in got.values() if each != right and type(each) not in allowed]
    return f"errands gave {wrong!r:.300}" if wrong else None


#: beside others, in some runs
ERRANDS = {errand: 4}
