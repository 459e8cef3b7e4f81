"""Clusters on hosts that do as they are told, on a clock."""

from __future__ import annotations

import random

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.support.farhosts import FarClient
from twisted_dist.errors import ClusterError, SSHError
from twisted_dist.launchers.cluster.dialling import Dialling
from twisted_dist.launchers.cluster.far_daemon import END_S, SIGNAL_S
from twisted_dist.launchers.cluster.fleet import START_S, Fleet
from twisted_dist.launchers.cluster.keeper import MOST_STILLBORN, Start
from twisted_dist.launchers.cluster.plan import make_plan
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.cluster.station import PATIENCE_S, Station
from twisted_dist.launchers.hosts.spec import HostSpec
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.launchers.ssh.settings import HostSettings

DOWN = SSHError("h2: nothing answers at 192.168.0.2:22", "unreachable", is_passing=True)
WRONG_KEY = SSHError("h2: none of the keys is accepted", "auth")
OLD_PYTHON = SSHError("h2: Python 2.7 is too old", "command")


class Watching:
    """A `Watch` that remembers."""

    def __init__(self):
        self.lines = []
        self.stages = []
        self.notes = []

    def line(self, label, text, is_error):
        self.lines.append((label, text, is_error))

    def stage(self, host, stage, detail=""):
        self.stages.append((host, stage.name, detail))

    def note(self, host, text):
        self.notes.append((host, text))


class Preparing:
    """Finds what a test says, and starts daemons by their labels."""

    def __init__(self, world, place):
        self.world = world
        self.place = place

    async def look(self, connection):
        problem = self.world.unfit.get(self.place.spec.host)
        if problem is not None:
            raise problem

    def start(self, daemon):
        return Start(daemon.label, f"secret of {daemon.label}")


class World:
    """A fleet over hosts that are not there."""

    def __init__(self, *hosts, policy=None, specs=None, down=None, unfit=None, on_start=None):
        self.clock = Clock()
        self.client = FarClient(*hosts)
        self.watching = Watching()
        self.unfit = unfit or {}
        self.located = []
        self.on_start = on_start or self.come_up
        for host in self.client.hosts.values():
            host.on_start = self.on_start
            host.down = (down or {}).get(host.name)
        specs = [HostSpec(host=each) for each in hosts] if specs is None else specs
        dialling = Dialling(self.clock, self.client, random.Random(1))

        def station(place, company):
            settings = HostSettings(alias=place.spec.host, host=place.spec.host, user="me")
            return Station(
                self.clock,
                place,
                lambda: succeed(settings),
                dialling,
                Preparing(self, place),
                random.Random(1),
                self.watching,
                company,
            )

        self.fleet = Fleet(
            self.clock, make_plan(specs), policy or Policy(), station, self.located.append
        )
        self.starting = self.fleet.start()
        self.outcome = []
        self.starting.addBoth(self.outcome.append)

    def come_up(self, command):
        """A daemon says that it is there."""
        if command.command.startswith("scheduler"):
            told = b"Start scheduler at 192.168.0.1:8786\n"
        else:
            told = b"Registered with center at:  192.168.0.1:8786\n"
        # as a real one, only once it has read the secret
        self.clock.callLater(0.5, command.output, told)

    def advance(self, seconds):
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def running(self):
        return sorted(each.command for host in self.client.hosts.values() for each in host.running)

    def failure(self):
        [failure] = self.outcome
        return failure.value

    def end(self):
        """End it; nothing is left, and no timer either."""
        ended = []
        Deferred.fromCoroutine(self.fleet.end()).addBoth(ended.append)
        self.advance(END_S + 4 * SIGNAL_S)
        assert self.running() == []
        assert all(
            each._reason is not None
            for host in self.client.hosts.values()
            for each in host.connections
        )
        assert self.clock.getDelayedCalls() == []
        [left] = ended
        return left


def test_all_well():
    """`Fleet.start` starts the scheduler on the first host, workers on all, with secrets."""
    world = World("h1", "h2", "h3")
    world.advance(3)
    assert world.outcome == ["192.168.0.1:8786"]
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2", "worker h3"]
    worker = world.client.hosts["h2"].running[0]
    assert worker.input == b"secret of worker h2\n"
    assert ("worker h2", "Registered with center at:  192.168.0.1:8786", False) in (
        world.watching.lines
    )
    world.advance(30)
    assert worker.input == b"secret of worker h2\n\n\n"
    assert world.end() == []


def test_host_twice():
    """A host that is named twice is entered once, and has two workers."""
    world = World("h1", "h2", specs=[HostSpec(host=each) for each in ("h1", "h2", "h2")])
    world.advance(3)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2", "worker h2 #2"]
    assert len(world.client.hosts["h2"].connections) == 1
    world.end()


def test_host_down():
    """A host that is down is tried for a while, and named; the rest goes on without it."""
    world = World("h1", "h2", "h3", down={"h2": DOWN})
    world.advance(8)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h3"]
    world.advance(PATIENCE_S)
    assert world.outcome == ["192.168.0.1:8786"]
    assert world.client.hosts["h2"].attempts > 3
    assert ("h2", "FAILED", str(DOWN)) in world.watching.stages
    world.end()


def test_host_comes_late():
    """A host that answers while others run already has its worker too."""
    world = World("h1", "h2", down={"h2": DOWN})
    world.advance(8)
    assert world.running() == ["scheduler h1:8786", "worker h1"]
    world.client.hosts["h2"].down = None
    world.advance(8)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    assert world.outcome == ["192.168.0.1:8786"]
    world.end()


def test_workers_come_slowly():
    """`Fleet.start` waits for workers for as long as one registers now and then."""
    waiting = []
    world = World("h1", "h2", "h3", "h4", on_start=waiting.append)
    world.advance(1)
    world.come_up(waiting.pop())
    world.advance(1)
    for command in waiting:
        assert not world.outcome
        world.advance(START_S * 0.75)
        world.come_up(command)
    world.advance(1)
    assert len(world.fleet.stations) == sum(bool(each.up) for each in world.fleet.stations)
    assert world.outcome == ["192.168.0.1:8786"]
    world.end()


@pytest.mark.parametrize("problem", [WRONG_KEY, OLD_PYTHON], ids=["key", "python"])
def test_what_will_not_pass(problem):
    """What will not pass is not tried again, and nothing starts there."""
    where = {"h2": problem}
    world = World("h1", "h2", **({"unfit": where} if problem is OLD_PYTHON else {"down": where}))
    world.advance(3)
    assert world.outcome == ["192.168.0.1:8786"]
    assert world.client.hosts["h2"].attempts == 1
    assert world.client.hosts["h2"].commands == []
    assert ("h2", "FAILED", str(problem)) in world.watching.stages
    world.end()


def test_require_all():
    """With require_all nothing starts where a host is known to have failed."""
    world = World("h1", "h2", policy=Policy(require_all=True), down={"h2": WRONG_KEY})
    world.advance(1)
    assert isinstance(world.failure(), ClusterError)
    assert str(WRONG_KEY) in str(world.failure())
    assert world.running() == []
    world.end()


def test_min_workers():
    """Fewer workers than are wanted are an error that says which are missing."""
    world = World("h1", "h2", policy=Policy(min_workers=2), down={"h2": DOWN})
    world.advance(PATIENCE_S + 10)
    assert "1 of 2 workers, and 2 are wanted" in str(world.failure())
    assert str(DOWN) in str(world.failure())
    world.end()


def test_no_scheduler():
    """Without the scheduler's host there is no cluster."""
    world = World("h2", "h1", down={"h2": WRONG_KEY})
    world.advance(1)
    assert str(world.failure()) == f"no scheduler: {WRONG_KEY}"
    assert world.running() == []
    world.end()


def test_silent_scheduler():
    """A scheduler that does not come up is not waited for for ever."""
    world = World("h1", "h2", on_start=lambda command: None)
    world.advance(START_S + 2)
    assert "has not started" in str(world.failure())
    world.end()


def test_scheduler_cannot_start():
    """A scheduler that ends again and again is given up, with what it said last."""

    def refuse(command):
        command.errors(b"dscheduler: cannot listen on port 8786: in use\n")
        command.end(Ending(How.EXITED, 1))

    world = World("h1", on_start=refuse)
    world.advance(START_S + 2)
    assert world.outcome
    assert 1 < len(world.client.hosts["h1"].commands) <= MOST_STILLBORN
    assert any("in use" in detail for _, _, detail in world.watching.stages)
    world.end()


def test_worker_dies():
    """A worker that dies is started again, after a while that grows."""
    world = World("h1", "h2")
    world.advance(3)
    [worker] = world.client.hosts["h2"].running
    worker.end(Ending(How.SIGNALLED, signal="KILL"))
    assert world.running() == ["scheduler h1:8786", "worker h1"]
    world.advance(3)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    assert len(world.client.hosts["h2"].connections) == 1
    world.end()


def test_scheduler_is_away():
    """A worker that waits for a scheduler in vain, again and again, is started all the same."""
    world = World("h1", "h2")
    world.advance(3)
    world.client.hosts["h2"].on_start = lambda command: None
    for _ in range(2 * MOST_STILLBORN):
        [worker] = world.client.hosts["h2"].running
        world.clock.advance(300)
        worker.end(Ending(How.EXITED, 1))
        world.advance(3)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    world.end()


def test_worker_is_told_to_end():
    """A worker that ends with status 0 was told to, and is not started again."""
    world = World("h1", "h2")
    world.advance(3)
    [worker] = world.client.hosts["h2"].running
    worker.end(Ending(How.EXITED, 0))
    world.advance(60)
    assert world.running() == ["scheduler h1:8786", "worker h1"]
    assert ("h2", "worker h2: it was told to end") in world.watching.notes
    world.end()


def test_network_is_ended():
    """`Fleet.ended` fires where the scheduler was told to end by somebody else."""
    world = World("h1", "h2")
    world.advance(3)
    ended = []
    world.fleet.ended.addCallback(ended.append)
    world.client.hosts["h1"].running[0].end(Ending(How.EXITED, 0))
    assert len(ended) == 1
    world.end()


def test_host_is_lost():
    """A host whose connection breaks is entered again, however long that takes."""
    world = World("h1", "h2")
    world.advance(3)
    host = world.client.hosts["h2"]
    host.down = DOWN
    host.connections[0].lose("nothing was heard for 45 s")
    world.advance(600)
    assert ("h2", "LOST", "nothing was heard for 45 s") in world.watching.stages
    assert host.running == []
    host.down = None
    world.advance(60)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    world.end()


def test_scheduler_host_is_lost():
    """The scheduler is started again on its host as workers are."""
    world = World("h1", "h2")
    world.advance(3)
    first = world.client.hosts["h1"].connections[0]
    first.lose("reset by peer")
    world.advance(3)
    told = "reset by peer; it has the scheduler, which all wait for"
    assert ("h1", "LOST", told) in world.watching.stages
    assert not any(each.is_running for each in first.commands)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    world.end()


def test_host_is_lost_while_its_worker_is_dead():
    """A worker that waits to be started again is started once, on the new connection."""
    world = World("h1", "h2")
    world.advance(3)
    host = world.client.hosts["h2"]
    host.running[0].end(Ending(How.SIGNALLED, signal="KILL"))
    host.connections[0].lose("reset by peer")
    world.advance(60)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    assert host.running[0].connection is host.connections[-1]
    host.running[0].end(Ending(How.SIGNALLED, signal="KILL"))
    world.advance(60)
    assert world.running() == ["scheduler h1:8786", "worker h1", "worker h2"]
    world.end()


def test_changed_key_of_lost_host():
    """A host that has another key when it is entered again is given up."""
    world = World("h1", "h2")
    world.advance(3)
    host = world.client.hosts["h2"]
    host.down = SSHError("h2: its key has changed", "host-key-changed")
    host.connections[0].lose("reset by peer")
    world.advance(120)
    assert host.attempts == 2
    assert ("h2", "FAILED", "h2: its key has changed") in world.watching.stages
    world.end()


def test_stubborn_daemon():
    """`Fleet.end` sends signals to a daemon that does not end with its input."""
    world = World("h1")
    world.advance(3)
    stubborn = world.client.hosts["h1"].running[1]
    stubborn.obeys = False
    assert world.end() == []
    assert stubborn.signals == ["TERM", "KILL"]


def test_silent_host_at_the_end():
    """`Fleet.end` waits once for a daemon of which nothing is heard, and names its host."""
    world = World("h1", "h2")
    world.advance(3)
    silent = world.client.hosts["h2"].running[0]
    silent.obeys = silent.hears = False
    assert world.end() == ["h2"]
    assert silent.signals == ["TERM", "KILL"]


def test_end_while_starting():
    """`Fleet.end` at any moment leaves nothing."""
    for quarters in range(16):
        world = World("h1", "h2", "h3", down={"h3": DOWN})
        world.advance(quarters / 4)
        world.end()
