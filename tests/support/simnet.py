"""A network of hosts in one process, on one `HeapClock`, from one seed.

Each host is a reactor of its own as far as services can tell. Bytes travel with a random
latency, in order within a direction. What can go wrong, as one call each:

* ``stall``: one direction between two hosts silently stops: a half-open link. What is sent
  waits, as TCP lets it. ``partition`` stops both; ``heal`` lets through what waited.
* ``sever``: the connections between two hosts are lost, and both know.
* ``kill``: a process ends as by ``kill -9``; its peers hear of it.
* ``crash``: a whole machine ends; its peers hear nothing, until one speaks to it and it
  runs again.
* a host's ``sleep`` stops its process for a time; its ``slowness`` makes it slow.

Time moves only through `SimNet.run`.
"""

from __future__ import annotations

from functools import partial
from random import Random

from twisted.internet import error

from tests.support.simclock import HeapClock
from tests.support.simreactor import SimReactor
from twisted_dist.wire.transports import SILENCE_S

#: seconds until a kernel gives up what it has sent and nobody acknowledges (Linux's tcp(7):
#: tcp_retries2); meanwhile it does not ask whether the other end is there
RETRANSMITTED_S = 924.6


class SimNet:
    """The hosts, and what gets through between them.

    Attributes:
        hosts: those that live, by address.
        ports: ``{(address, number): SimPort}``.
        cut: ``{(source, target): what waits until that direction is open again}``.
        crashed: addresses of machines that answer nothing, not even that nobody listens.
        slowness: by which factor all messages take longer than on a good network.
        log: what happened, as tuples of an instant, a kind, and details.
        broken: what whoever watches has found wrong; ends `run`.
    """

    def __init__(self, seed):
        self.seed = seed
        self.clock = HeapClock()
        self.random = Random(seed)
        self.hosts = {}
        self.ports = {}
        self.cut = {}
        self.crashed = set()
        self.slowness = 1.0
        self.log = []
        self.broken = None
        self._graves = []

    def host(self, ip):
        """A new machine (or the same address after its machine died)."""
        self.crashed.discard(ip)
        self.hosts[ip] = host = SimReactor(self, ip)
        return host

    def note(self, kind, *what):
        """One line of the run's log."""
        self.log.append((round(self.clock.rightNow, 9), kind, *what))

    def at(self, when, function):
        """Call *function* at an instant, or now if that has passed."""
        self.clock.call_at(max(when, self.clock.rightNow), function)

    def run(self, until, limit_s=3600.0):
        """Let time pass, event by event, until *until()* is true.

        Raises:
            AssertionError: *limit_s* simulated seconds passed first, or something is `broken`.
        """
        end = self.clock.rightNow + limit_s
        while not until():
            assert self.clock.advance_to_next(), "nothing will ever happen again"
            assert self.broken is None, self.broken
            assert self.clock.rightNow <= end, f"not within {limit_s} simulated seconds"

    def run_for(self, seconds):
        """Let some time pass."""
        end = self.clock.rightNow + seconds
        self.at(end, lambda: None)
        self.run(lambda: self.clock.rightNow >= end)

    # -- links

    def waits(self, way, function):
        """Whether nothing gets through; *function* is called when it does again."""
        waiting = self.cut.get(way)
        if waiting is None:
            return False
        waiting[function] = None
        return True

    def stall(self, source, target):
        """Let nothing through from one host to another; what is sent waits."""
        self.cut.setdefault((source, target), {})

    def partition(self, a, b):
        """Let nothing through between two hosts, either way."""
        self.stall(a, b)
        self.stall(b, a)

    def heal(self, a, b):
        """Let everything through again, all that waited first."""
        for way in ((a, b), (b, a)):
            for function in self.cut.pop(way, ()):
                function()

    def sever(self, a, b):
        """Lose the connections between two hosts."""
        for here, there in ((a, b), (b, a)):
            for transport in list(self.hosts[here].transports if here in self.hosts else ()):
                if transport.other[0] == there:
                    transport.lose(error.ConnectionLost("severed"))

    # -- hosts

    def kill(self, ip):
        """End a process as ``kill -9`` does: its calls never happen, its peers lose it."""
        host = self._bury(ip)
        for transport in host.transports:
            transport.out.end(error.ConnectionLost("the process was killed"))

    def crash(self, ip):
        """End a machine: nobody is told, but by keepalive."""
        self._bury(ip)
        self.crashed.add(ip)
        now = self.clock.rightNow
        for host in self.hosts.values():
            for each in host.transports:
                if each.other[0] == ip and each.keeps_alive:
                    self.at(now + SILENCE_S, partial(each.notice, now))
                    self.at(now + RETRANSMITTED_S, partial(each.lose, error.TimeoutError()))

    def _bury(self, ip):
        host = self.hosts.pop(ip)
        host.die()
        for key in [key for key, port in self.ports.items() if port.host is host]:
            del self.ports[key]
        # kept, since what the collector ends as garbage would act and complain once more
        self._graves.append(host)
        return host
