"""A simulated cluster: the real services and clients on a `SimNet`; tasks take simulated time."""

from __future__ import annotations

from functools import partial
from random import Random

from twisted.internet import defer
from twisted.internet.task import deferLater

from tests.support.simexecutor import SimExecutor
from tests.support.simnet import SimNet
from tests.support.simtasks import World
from tests.support.simwatch import Watch
from twisted_dist.client.async_client import AsyncClient
from twisted_dist.errors import RefusedError
from twisted_dist.execution.errand_rules import METRIC
from twisted_dist.services.scheduler import Scheduler
from twisted_dist.services.worker import Worker

SCHEDULER_IP = "10.0.0.1"
SCHEDULER = f"{SCHEDULER_IP}:8786"
#: seconds until a worker that was refused is started again, as whoever supervises it would
SUPERVISOR_S = 5.0


class SimScheduler(Scheduler):
    """A scheduler that says nothing of the real process that it is in."""

    def identity(self):
        """As every scheduler's, of a simulated host."""
        return {**super().identity(), "pid": 1, "host": self.host}


class SimWorker(Worker):
    """A worker on a simulated host."""

    def __init__(self, reactor, nthreads, random, world, name="", resources=None):
        self._random = random
        self._world = world
        super().__init__(
            SCHEDULER,
            reactor=reactor,
            host=reactor.ip,
            nthreads=nthreads,
            name=name,
            resources=resources,
            insecure=True,
            chance=Random(random.random()),
        )

    def _make_executor(self):
        return SimExecutor(self.reactor, self.nthreads, self._random, self._world)

    def metrics(self):
        """Nothing of this real process."""
        return {"held": len(self.core.held), METRIC: len(self._errands)}


class SimCluster:
    """A scheduler, workers that come and go, and clients.

    Args:
        seed: of all that is random.
        checked: have the `Watch` look after each step.

    Attributes:
        workers: those that live, by the address of their host.
        generation: how often the scheduler was started again.
        returning: names of workers that will live again, likewise.
        on_left: called with each worker that has ended by itself.
        watch: what looks.
        world: what the tasks do.
    """

    def __init__(self, seed, checked=False):
        self.random = Random(seed)
        self.world = World()
        self.net = SimNet(self.random.random())
        self.scheduler = self._make_scheduler()
        self.generation = 0
        self.workers = {}
        self._made = 0
        self._graves = []
        self.returning = {}
        self.on_left = lambda worker: None
        self.watch = Watch(self, checked)
        self.wait(self.scheduler.start(8786))

    def wait(self, deferred, limit_s=3600.0):
        """Run the network until a Deferred fires; its result."""
        outcome = []
        deferred.addBoth(outcome.append)
        self.net.run(lambda: outcome, limit_s)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    # -- the scheduler

    def _make_scheduler(self):
        return SimScheduler(
            reactor=self.net.host(SCHEDULER_IP),
            host=SCHEDULER_IP,
            insecure=True,
            chance=Random(self.random.random()),
        )

    def restart_scheduler(self, delay_s):
        """Kill -9 the scheduler, and start another one, *delay_s* seconds later."""
        self.net.note("scheduler killed", delay_s)
        self.generation += 1
        self._graves.insert(0, self.scheduler)
        self.net.kill(SCHEDULER_IP)

        def start():
            self.net.note("scheduler starts again")
            self.scheduler = self._make_scheduler()
            self.watch.look_at(self.scheduler.core)
            return self.scheduler.start(8786)

        return deferLater(self.net.clock, delay_s, start)

    def new_ip(self, network):
        """The address of one more host."""
        self._made += 1
        return f"10.{network}.{self._made >> 8}.{self._made & 255}"

    # -- workers

    def add_worker(self, nthreads=1, name="", resources=None):
        """One more host with a worker; a Deferred of its registration."""
        ip = self.new_ip(1)
        self.net.note("worker joins", ip)
        return self._start_worker(ip, 0, nthreads, name, resources)

    def _start_worker(self, ip, port, nthreads, name, resources):
        random = Random(self.random.random())
        worker = SimWorker(self.net.host(ip), nthreads, random, self.world, name, resources)
        self.workers[ip] = worker
        worker.done.addCallback(lambda _: self._has_left(ip, worker))
        return worker.start(port).addErrback(self._start_once_more, ip)

    def _start_once_more(self, failure, ip):
        """It was refused, since its name is still another's: whoever supervises it insists."""
        failure.trap(RefusedError)
        self.kill_worker(ip)
        return self.restart_worker(ip, SUPERVISOR_S)

    def _has_left(self, ip, worker):
        """A worker has ended by itself."""
        self.net.note("worker has left", ip)
        if self.workers.get(ip) is worker:
            del self.workers[ip]
            self.on_left(worker)

    def retire_worker(self, ip, timeout_s, restarts):
        """A worker's lifetime is over."""
        worker = self.workers[ip]
        self.net.note("worker's lifetime is over", ip, timeout_s, restarts)
        worker.reactor.when_awake(partial(worker._lifetime.leave, timeout_s, restarts=restarts))

    def drain_worker(self, ip, timeout_s):
        """A worker's process is told to end."""
        worker = self.workers[ip]
        self.net.note("worker is told to end", ip, timeout_s)
        worker.reactor.when_awake(partial(worker.retire, timeout_s, waits=False))

    def names(self):
        """Those of workers that live or will live again."""
        return {worker.name for worker in self.workers.values()} | set(self.returning.values())

    def worker_at(self, address):
        """The worker that lives at ``ip:port``; None where there is none."""
        worker = self.workers.get(address.partition(":")[0])
        return worker if worker is not None and worker.address == address else None

    def kill_worker(self, ip=None, silently=False):
        """Kill -9 a worker (a random one by default), or *silently* end its machine."""
        ip = ip or self.random.choice(sorted(self.workers))
        self.net.note("worker's machine ends" if silently else "worker killed", ip)
        worker = self.workers.pop(ip)
        self._graves.append(worker)
        (self.net.crash if silently else self.net.kill)(ip)
        clients = worker._executor.clients
        if clients is not None:
            # EXCLUDED: clients whose machine ends (test_found_shared.py): nobody notices that
            clients.die()

    def restart_worker(self, ip, delay_s, same_name=True, same_port=True):
        """Start a worker anew, *delay_s* seconds after it was killed."""
        old = self._graves[-1]
        name = old.name if same_name else ""
        resources = {each: amount / 10_000 for each, amount in old.resources.items()}
        port = int(old.address.partition(":")[2]) if same_port and old.address else 0

        self.returning[ip] = name

        def start():
            del self.returning[ip]
            self.net.note("worker starts again", ip)
            return self._start_worker(ip, port, old.nthreads, name, resources)

        return deferLater(self.net.clock, delay_s, start)

    # -- clients

    def connect(self, timeout=10.0):
        """A client on a host of its own, and the Deferred of its connection."""
        host = self.net.host(self.new_ip(2))
        client = AsyncClient(
            SCHEDULER,
            reactor=host,
            timeout=timeout,
            insecure=True,
            chance=Random(self.random.random()),
        )
        return client, client.start()

    def client(self):
        """A connected client on a host of its own."""
        client, connected = self.connect()
        self.wait(connected)
        return client

    def stop(self):
        """Stop everything politely; no call of anybody may be left."""
        stopping = [worker.stop() for worker in list(self.workers.values())]
        self.wait(defer.gatherResults(stopping))
        self.wait(self.scheduler.stop())
        calls = {ip: host.getDelayedCalls() for ip, host in self.net.hosts.items()}
        left = {ip: each for ip, each in calls.items() if each}
        assert not left, f"delayed calls left: {left}"
