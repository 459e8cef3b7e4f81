"""A simulated cluster: the real services and clients on a `SimNet`; tasks take simulated time."""

from __future__ import annotations

from random import Random

from tests.support.simnet import SimNet
from twisted_dist.client.async_client import AsyncClient
from twisted_dist.core import invariants
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.runner import TaskRunner, TaskSpec
from twisted_dist.services.scheduler import Scheduler
from twisted_dist.services.worker import Worker

SCHEDULER = "10.0.0.1:8786"


class SimExecutor:
    """Runs tasks at once and says so after the simulated seconds they take."""

    def __init__(self, reactor, nthreads, random):
        self.tell = lambda fact: None
        self.ran = 0
        self._reactor = reactor
        self._free = nthreads
        self._random = random
        self._runner = TaskRunner(clock=lambda: 0.0)
        self._waiting = []

    def start(self):
        """Nothing to start."""

    def add_function(self, digest, blob):
        """As every executor's."""
        self._runner.add_function(digest, blob)

    def run(self, tasks, values):
        """Queue tasks."""
        for task in tasks:
            inputs = [values[each] for each in task.deps]
            self._waiting.append(TaskSpec(task.id, task.attempt, task.digest, task.call, inputs))
        self._next()

    def _next(self):
        while self._free and self._waiting:
            self._free -= 1
            spec = self._waiting.pop(0)
            seconds = self._random.uniform(0.001, 0.2)
            self._reactor.callLater(seconds, self._done, spec, seconds)

    def _done(self, spec, seconds):
        self._free += 1
        self.ran += 1
        outcome = self._runner.run(spec)
        ids, attempts = [spec.task_id], [spec.attempt]
        if outcome.error is None:
            took = int(seconds * 1e6)
            values = [outcome.value]
            self.tell(m.ExecutionFinished(ids, attempts, values, [outcome.nbytes], [took]))
        else:
            blob, text = outcome.error
            self.tell(m.ExecutionErred(ids, attempts, [blob], [text]))
        self._next()

    def drop(self, ids):
        """As every executor's."""
        dropped = [each.task_id for each in self._waiting if each.task_id in set(ids)]
        self._waiting = [each for each in self._waiting if each.task_id not in set(ids)]
        self.tell(m.ExecutionReturned(dropped))

    def stop(self):
        """Forget what waits."""
        self._waiting.clear()


class SimWorker(Worker):
    """A worker on a simulated host."""

    def __init__(self, reactor, nthreads, random):
        self._random = random
        super().__init__(
            SCHEDULER, reactor=reactor, host=reactor.ip, nthreads=nthreads, insecure=True
        )

    def _make_executor(self):
        return SimExecutor(self.reactor, self.nthreads, self._random)

    def metrics(self):
        """Nothing of this real process."""
        return {"held": len(self.core.held)}


class SimCluster:
    """A scheduler, workers that come and go, and clients."""

    def __init__(self, seed, checked=False):
        self.random = Random(seed)
        self.net = SimNet(self.random.random())
        self.scheduler = Scheduler(
            reactor=self.net.host("10.0.0.1"), host="10.0.0.1", insecure=True
        )
        self.workers = {}
        self._made = 0
        if checked:
            self._check_after_each_stimulus()
        self.wait(self.scheduler.start(8786))

    def _check_after_each_stimulus(self):
        handle = self.scheduler.core.handle

        def checked(stimulus, now):
            out = handle(stimulus, now)
            invariants.check(self.scheduler.core.state)
            return out

        self.scheduler.core.handle = checked

    def wait(self, deferred, limit_s=3600.0):
        """Run the network until a Deferred fires; its result."""
        outcome = []
        deferred.addBoth(outcome.append)
        self.net.run(lambda: outcome, limit_s)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def add_worker(self, nthreads=1):
        """One more host with a worker; a Deferred of its registration."""
        self._made += 1
        ip = f"10.1.{self._made >> 8}.{self._made & 255}"
        worker = SimWorker(self.net.host(ip), nthreads, Random(self.random.random()))
        self.workers[ip] = worker
        self.net.note("worker joins", ip)
        return worker.start(0)

    def kill_worker(self):
        """Kill -9 a random worker's host."""
        ip = self.random.choice(sorted(self.workers))
        self.net.note("worker killed", ip)
        del self.workers[ip]
        self.net.kill(ip)

    def client(self):
        """A connected client on a host of its own."""
        self._made += 1
        host = self.net.host(f"10.2.{self._made >> 8}.{self._made & 255}")
        return self.wait(AsyncClient(SCHEDULER, reactor=host, insecure=True).start())

    def stop(self):
        """Stop everything politely; no call of anybody may be left."""
        for worker in self.workers.values():
            self.wait(worker.stop())
        self.wait(self.scheduler.stop())
        calls = {ip: host.getDelayedCalls() for ip, host in self.net.hosts.items()}
        left = {ip: each for ip, each in calls.items() if each}
        assert not left, f"delayed calls left: {left}"
