"""Faults: drawn from a seed, done to a simulated cluster, each undone after its time."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.support.simcluster import SCHEDULER_IP
from twisted_dist.core.scheduler import LEASE_S

#: seconds that a fault lasts which no lease notices, and one that any does
SHORT_S: Final = (0.001, 0.05, 1.0, 8.0, 40.0)
LONG_S: Final = (LEASE_S + 15, LEASE_S + 40)
#: of runs in which some faults are longer than a lease, where their kind may be
LONG_SHARE: Final = 0.3
#: by how much a slow host is slower
SLOWNESS: Final = (3, 10, 50)
#: seconds until a process that died is there again
RESTART_S: Final = (0.0005, 0.05, 2.0, 30.0)
#: seconds that a worker has to leave: too few, maybe, and more than any run takes
HASTE_S: Final = (0.0, 0.05, 1.0)
PATIENCE_S: Final = 10_000.0
#: how often a worker begins anew in a row, or a connection is lost, and the longest until the next
#: time: about as long as it takes to register
TURNS: Final = (1, 2, 3)
TURN_S: Final = 0.5
#: seconds where its process is told to end, and how often all are told so at once
DRAIN_S: Final = (0.05, 1.0, 25.0)
ALL_END: Final = 0.2
#: how often a moment is waited for in which something is fetched
MOST_TRIES: Final = 100
#: how many there may be
COUNTS: Final = (0, 1, 3, 8, 20)


class Faults:
    """What goes wrong in one run: some kinds of faults, at some instants.

    Args:
        cluster: to whom.
        random: draws them.
        window_s: seconds within which they begin.
        may_restart: the scheduler may be killed, and started again.

    Attributes:
        count: how many there will be.
        harmless: whether nothing may be lost, nor done twice.
    """

    def __init__(self, cluster, random, window_s, may_restart=False):
        self._cluster = cluster
        self._net = cluster.net
        self._random = random
        self._window_s = window_s
        self.count = random.choice(COUNTS)
        restarts = (RESTART, SHORT_LIVES)
        known = sorted(kind for kind in KINDS if may_restart or kind not in restarts)
        kinds = random.sample(known, random.choice([1, 2, 4, len(known)]))
        if may_restart and RESTART not in kinds:
            kinds.append(RESTART)
        self._drawn = random.choices(kinds, [KINDS[each].weight for each in kinds], k=self.count)
        self._long = any(KINDS[each].may_be_long for each in kinds)
        self._long = self._long and random.random() < LONG_SHARE
        self.harmless = not self._long and all(KINDS[each].harmless for each in self._drawn)
        self._ended = False
        start = self._net.clock.rightNow
        for each in self._drawn:
            self._net.at(start + random.uniform(0, window_s), lambda kind=each: self._do(kind))

    def _do(self, kind):
        if not self._ended:
            KINDS[kind].function(self)

    def end(self):
        """Let nothing new go wrong; what is wrong has its time."""
        self._ended = True

    # -- what to hit

    def _seconds(self):
        if self._long and self._random.random() < 0.5:
            return self._random.choice(LONG_S)
        return self._random.choice(SHORT_S) * self._random.uniform(0.5, 1.0)

    def _worker(self):
        workers = sorted(self._cluster.workers)
        return self._random.choice(workers) if workers else None

    def _when_fetching(self, function, tries=MOST_TRIES):
        """Call *function* with two workers of which one fetches from the other, once some do."""
        fetches = [
            (ip, address.partition(":")[0])
            for ip, worker in sorted(self._cluster.workers.items())
            for address, _tasks in worker.core.flights.values()
        ]
        if self._ended or not tries:
            return
        if fetches:
            function(*self._random.choice(fetches))
        else:
            self._later(self._window_s / MOST_TRIES, self._when_fetching, function, tries - 1)

    def _clients(self, networks=("10.2.", "10.3.")):
        """Clients, and processes whose tasks are clients."""
        return sorted(ip for ip in self._net.hosts if ip.startswith(networks))

    def _pair(self, ends):
        """Two hosts: the scheduler and somebody, or a worker and somebody."""
        others = {
            "scheduler": [SCHEDULER_IP],
            "worker": sorted(self._cluster.workers),
            "client": self._clients(),
        }
        a, b = (others[each] for each in ends)
        if not a or not b:
            return None
        pair = self._random.choice(a), self._random.choice(b)
        return pair if pair[0] != pair[1] else None

    def _later(self, seconds, function, *args):
        self._net.at(self._net.clock.rightNow + seconds, lambda: function(*args))

    def _repeat(self, function, *args):
        """Call *function* some times soon, as long as anything new may go wrong."""
        for _ in range(self._random.choice(TURNS)):
            again = self._random.uniform(0, TURN_S)
            self._later(again, lambda: None if self._ended else function(*args))

    # -- links

    def partition(self, ends):
        """Nothing gets through, for a time."""
        pair = self._pair(ends)
        if pair is not None:
            seconds = self._seconds()
            self._net.note("partition", *pair, seconds)
            self._net.partition(*pair)
            self._later(seconds, self._net.heal, *pair)

    def half_open(self, ends, severed=False):
        """One direction silently stops, and goes on later, or the connection is lost."""
        pair = self._pair(ends)
        if pair is None:
            return
        way = pair if self._random.random() < 0.5 else pair[::-1]
        seconds = self._seconds()
        self._net.note("half open", *way, seconds)
        self._net.stall(*way)
        if severed:
            self._later(seconds, self._net.sever, *way)
        self._later(seconds, self._net.heal, *way)

    def sever(self, ends):
        """The connections are lost."""
        pair = self._pair(ends)
        if pair is not None:
            self._sever_pair(*pair)

    def flap(self, ends):
        """The connections are lost again and again, while they are dialled and go on."""
        pair = self._pair(ends)
        if pair is not None:
            self._repeat(self._sever_pair, *pair)
            self._sever_pair(*pair)

    def sever_fetch(self):
        """A connection is lost while something is fetched on it."""
        self._when_fetching(self._sever_pair)

    def _sever_pair(self, a, b):
        self._net.note("sever", a, b)
        self._net.sever(a, b)

    # -- hosts

    def kill_source(self):
        """A worker is gone while another fetches from it."""
        self._when_fetching(self._kill_second)

    def _kill_second(self, _fetching, source):
        if source in self._cluster.workers:
            self._cluster.kill_worker(source)

    def kill(self, silently=False):
        """A worker is gone for good."""
        ip = self._worker()
        if ip is not None:
            self._cluster.kill_worker(ip, silently)

    def restart(self, silently=False):
        """A worker is gone, and there again, where it was or on another port."""
        ip = self._worker()
        if ip is not None:
            self._cluster.kill_worker(ip, silently)
            same = [self._random.random() < 0.7 for _ in ("name", "port")]
            self._cluster.restart_worker(ip, self._random.choice(RESTART_S), *same)

    def join(self):
        """One more worker."""
        self._cluster.add_worker(self._random.choice([1, 2, 4]))

    def retire(self, in_haste=False):
        """A worker's lifetime is over: it leaves, or begins anew, maybe before it can."""
        known = [ip for ip, each in sorted(self._cluster.workers.items()) if each._first is None]
        if known:
            seconds = self._random.choice(HASTE_S) if in_haste else PATIENCE_S
            restarts = self._random.random() < 0.5
            self._cluster.retire_worker(self._random.choice(known), seconds, restarts)

    def begin_anew(self):
        """A worker begins anew, and maybe again before it has, while it dials the scheduler."""
        ip = self._worker()
        if ip is not None:
            self._sever_pair(SCHEDULER_IP, ip)
            self._repeat(self._turn, ip)

    def _turn(self, ip):
        worker = self._cluster.workers.get(ip)
        if worker is not None and worker._first is None:
            self._cluster.retire_worker(ip, self._random.choice(HASTE_S), restarts=True)

    def tell_to_end(self):
        """A worker's process is told to end, maybe while it leaves already; so may all be."""
        known = [ip for ip, each in sorted(self._cluster.workers.items()) if each._first is None]
        if known:
            those = known if self._random.random() < ALL_END else [self._random.choice(known)]
            seconds = self._random.choice(DRAIN_S)
            for ip in those:
                self._cluster.drain_worker(ip, seconds)

    def slow(self):
        """A worker's link and tasks take many times as long."""
        ip = self._worker()
        if ip is not None:
            host = self._net.hosts[ip]
            host.slowness = self._random.choice(SLOWNESS)
            self._net.note("slow", ip, host.slowness)
            self._later(self._seconds(), setattr, host, "slowness", 1.0)

    def sleep(self, kind):
        """A process is stopped for a time."""
        others = {
            "scheduler": [SCHEDULER_IP],
            "worker": sorted(self._cluster.workers),
            "client": self._clients(),
        }[kind]
        # one that is stopped already would be so for longer than a lease
        # and one that is dead is not there to be stopped
        hosts = self._net.hosts
        awake = [ip for ip in others if ip in hosts and not hosts[ip].is_asleep]
        if awake:
            ip = self._random.choice(awake)
            seconds = self._random.choice(SHORT_S) if kind == "scheduler" else self._seconds()
            self._net.note("stopped", ip, seconds)
            self._net.hosts[ip].sleep(seconds)

    def restart_scheduler(self):
        """The scheduler is gone, and another one there, that knows nothing."""
        if SCHEDULER_IP in self._net.hosts:
            self._cluster.restart_scheduler(self._random.choice(RESTART_S))

    def short_lives(self):
        """So is each that follows, soon: before its members are all back, or any."""
        self.restart_scheduler()
        self._repeat(self.restart_scheduler)

    def kill_client(self):
        """A client is gone."""
        clients = self._clients("10.2.")
        if clients:
            ip = self._random.choice(clients)
            self._net.note("client killed", ip)
            self._net.kill(ip)


class Kind(NamedTuple):
    """A kind of fault: what it does, how often, and whether nothing is lost by it."""

    function: object
    weight: float
    harmless: bool = False
    may_be_long: bool = False


#: excluded where what is shared would be lost with the scheduler
RESTART: Final = "restart scheduler"
SHORT_LIVES: Final = "restart scheduler again and again"
_TO_WORKER: Final = ("scheduler", "worker")
_TO_CLIENT: Final = ("scheduler", "client")
_BETWEEN: Final = ("worker", "worker")
_FETCHING: Final = ("client", "worker")

KINDS: Final = {
    "partition worker": Kind(lambda f: f.partition(_TO_WORKER), 2, True, True),
    "partition client": Kind(lambda f: f.partition(_TO_CLIENT), 1, True),
    "partition workers": Kind(lambda f: f.partition(_BETWEEN), 2, True),
    "partition fetching": Kind(lambda f: f.partition(_FETCHING), 1, True),
    "half-open worker": Kind(lambda f: f.half_open(_TO_WORKER), 2, True, True),
    "half-open client": Kind(lambda f: f.half_open(_TO_CLIENT), 1, True),
    "half-open workers": Kind(lambda f: f.half_open(_BETWEEN), 2, True),
    "half-open fetching": Kind(lambda f: f.half_open(_FETCHING), 1, True),
    "half-open worker, severed": Kind(lambda f: f.half_open(_TO_WORKER, True), 2, True, True),
    "half-open client, severed": Kind(lambda f: f.half_open(_TO_CLIENT, True), 0.5, True),
    "half-open workers, severed": Kind(lambda f: f.half_open(_BETWEEN, True), 1),
    "sever worker": Kind(lambda f: f.sever(_TO_WORKER), 3, True),
    "sever client": Kind(lambda f: f.sever(_TO_CLIENT), 2, True),
    "flapping worker": Kind(lambda f: f.flap(_TO_WORKER), 2, True),
    "flapping client": Kind(lambda f: f.flap(_TO_CLIENT), 2, True),
    "sever workers": Kind(lambda f: f.sever(_BETWEEN), 2),
    "sever fetching": Kind(lambda f: f.sever(_FETCHING), 1),
    "sever a fetch": Kind(lambda f: f.sever_fetch(), 3),
    "kill a source": Kind(lambda f: f.kill_source(), 3),
    "kill worker": Kind(lambda f: f.kill(), 3),
    "machine ends": Kind(lambda f: f.kill(True), 1),
    "restart worker": Kind(lambda f: f.restart(), 3),
    "restart machine": Kind(lambda f: f.restart(True), 1),
    "join": Kind(lambda f: f.join(), 3, True),
    "lifetime over": Kind(lambda f: f.retire(), 3, True),
    "lifetime over, in haste": Kind(lambda f: f.retire(True), 1),
    "begins anew": Kind(lambda f: f.begin_anew(), 2),
    "told to end": Kind(lambda f: f.tell_to_end(), 2),
    "slow worker": Kind(lambda f: f.slow(), 2, True),
    "stop worker": Kind(lambda f: f.sleep("worker"), 2, True, True),
    "stop client": Kind(lambda f: f.sleep("client"), 1, True),
    "stop scheduler": Kind(lambda f: f.sleep("scheduler"), 1, True),
    RESTART: Kind(lambda f: f.restart_scheduler(), 1),
    SHORT_LIVES: Kind(lambda f: f.short_lives(), 1),
    "kill client": Kind(lambda f: f.kill_client(), 1),
}
