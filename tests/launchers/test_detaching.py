"""Starting agents on hosts that do as they are told, and ending them, on a clock."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.launchers.test_fleet import DOWN, OLD_PYTHON, WRONG_KEY, Preparing, Watching
from tests.support.farhosts import FarClient
from twisted_dist.access.home import Home
from twisted_dist.errors import ClusterError
from twisted_dist.launchers.cluster.detaching import Detaching
from twisted_dist.launchers.cluster.dialling import Dialling
from twisted_dist.launchers.cluster.far_agent import REPORT_S
from twisted_dist.launchers.cluster.fleet import GATHER_S
from twisted_dist.launchers.cluster.forgetting import end_agents, forget_gone
from twisted_dist.launchers.cluster.orders import said_line
from twisted_dist.launchers.cluster.plan import make_plan
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.cluster.record import Record, Records
from twisted_dist.launchers.cluster.request import SSHOptions
from twisted_dist.launchers.cluster.station import PATIENCE_S
from twisted_dist.launchers.cluster.visiting import State, Visiting
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.hosts.spec import HostSpec
from twisted_dist.launchers.ssh.interface import Ending, How
from twisted_dist.launchers.ssh.settings import HostSettings

ADDRESS = "192.168.0.1:8786"


class AgentPreparing(Preparing):
    """As of fleets; agents need to know what programs are started in."""

    surroundings = Surroundings(python="python3")

    def start(self, daemon):
        if daemon.is_scheduler:
            self.world.address = ADDRESS
        return super().start(daemon)


class World:
    """A start, on hosts that are not there; it is the network in common, too.

    Attributes:
        agents: `{id: host}` of those that run.
        silent: hosts whose agents never report.
        hopeless: hosts whose agents report that they have failed.
    """

    def __init__(
        self,
        directory,
        *hosts,
        policy=None,
        down=None,
        unfit=None,
        silent=(),
        hopeless=(),
        added=None,
    ):
        self.clock = Clock()
        self.client = FarClient(*hosts)
        self.watching = Watching()
        self.unfit = unfit or {}
        self.silent, self.hopeless = silent, hopeless
        self.agents = {}
        self.address = "" if added is None else added.address
        self.machine = "first"
        self.records = Records(Home(directory))
        for host in self.client.hosts.values():
            host.on_start = self.on_start
            host.down = (down or {}).get(host.name)
        self.dialling = Dialling(self.clock, self.client, random.Random(1))
        plan = make_plan([HostSpec(host=each) for each in hosts])
        places = plan.places if added is None else plan.places[1:]
        ids = (f"{n:012x}" for n in itertools.count(1 if added is None else 100))
        self.detaching = Detaching(
            self.clock,
            places,
            policy or Policy(),
            SSHOptions(),
            lambda place, patience_s, failed: self.enter(place.spec, patience_s, failed),
            lambda place: AgentPreparing(self, place),
            self,
            self.records,
            added or Record(name="", address="", machine="", since=1.0),
            lambda: next(ids),
            self.watching,
            is_new=added is None,
        )
        self.outcome = []
        self.detaching.start().addBoth(self.outcome.append)

    def enter(self, spec, patience_s, failed=lambda problem: None):
        settings = HostSettings(alias=spec.host, host=spec.host, user="me")
        return self.dialling.connect(settings, patience_s, failed)

    def close(self):
        return self.client.close()

    def locate(self, address):
        self.address = address

    def on_start(self, command):
        """A host runs something of an agent."""
        # who starts one is held by its input, and who asks is not
        command.obeys = not {"status", "down"} & set(command.command.split())
        self.clock.callLater(0.5, self.answer, command)

    def answer(self, command):
        host = command.connection.host.name
        if not command.is_running:
            return
        words = command.command.rstrip("'").split("agent ")[-1].split()
        if words[0] in {"status", "down"}:
            id = words[-1]
            if words[0] == "down":
                state = "ended" if self.agents.pop(id, None) else "gone"
            else:
                state = "up" if id in self.agents else "gone"
            self.say(command, state=state, processes=2, daemons=[])
            command.end(Ending(How.EXITED, 0))
            return
        orders = json.loads(command.input)
        if host in self.silent:
            return
        if host in self.hopeless:
            self.say(command, state="failed", why="worker: its disk is full")
            command.end(Ending(How.EXITED, 1))
            return
        self.agents[orders["id"]] = host
        for each in orders["daemons"]:
            is_scheduler = each["label"].startswith("scheduler")
            line = f"Start scheduler at {ADDRESS}" if is_scheduler else "Registered with center at:"
            self.say(command, label=each["label"], line=line, error=False)
        self.say(command, state="up", why="")
        command.end(Ending(How.EXITED, 0))

    def say(self, command, **what):
        command.output(b"welcome\n" + said_line(**what).encode() + b"\n")

    def advance(self, seconds):
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def result(self):
        [outcome] = self.outcome
        return outcome

    def failure(self):
        return str(self.result().value)

    def leave(self):
        Deferred.fromCoroutine(self.detaching.leave())
        assert self.clock.getDelayedCalls() == []
        assert all(each._reason is not None for each in self.connections())

    def connections(self):
        return [each for host in self.client.hosts.values() for each in host.connections]

    def down(self, record):
        """End all; what may be left."""
        visiting = Visiting(self.clock, record.name, lambda ssh: self)
        seen, left = [], []
        ending = end_agents(visiting, self.records, record, record.agents, seen.append)
        Deferred.fromCoroutine(ending).addBoth(left.append)
        self.advance(20)
        Deferred.fromCoroutine(visiting.close())
        assert self.clock.getDelayedCalls() == []
        return seen, left[0]


def test_all_well(tmp_path):
    """`Detaching` starts the scheduler's agent, then workers' on all hosts; all is recorded."""
    world = World(tmp_path, "h1", "h2")
    world.advance(5)
    record = world.result()
    assert (record.name, record.address, record.machine) == (ADDRESS, ADDRESS, "first")
    assert [(each.host, each.is_scheduler, each.workers) for each in record.agents] == [
        ("h1", True, 0), ("h1", False, 1), ("h2", False, 1),
    ]  # fmt: skip
    assert world.records.find(None) == record
    assert sorted(world.agents.values()) == ["h1", "h1", "h2"]
    orders = json.loads(world.client.hosts["h2"].commands[0].input)
    assert orders["daemons"][0]["secret"] == "secret of worker h2"
    assert "secret" not in world.records.path(ADDRESS).read_text()
    assert world.detaching.workers_up == 2
    world.leave()
    assert len(world.agents) == 3


def test_down(tmp_path):
    """`end_agents` ends workers first and the scheduler last, and forgets the cluster."""
    world = World(tmp_path, "h1", "h2")
    world.advance(5)
    world.leave()
    seen, left = world.down(world.result())
    assert [each.state for each in seen] == [State.ENDED] * 3
    assert seen[-1].agent.is_scheduler
    assert left == []
    assert world.agents == {}
    assert world.records.all() == []


def test_down_with_a_host_away(tmp_path):
    """`end_agents` keeps what may live on, for another time."""
    world = World(tmp_path, "h1", "h2")
    world.advance(5)
    world.leave()
    host = world.client.hosts["h2"]
    host.down = DOWN
    _, left = world.down(world.result())
    assert [each.agent.host for each in left] == ["h2"]
    assert left[0].why == str(DOWN).removeprefix("h2: ")
    assert list(world.agents.values()) == ["h2"]
    record = world.records.find(None)
    assert [each.host for each in record.agents] == ["h2"]
    host.down = None
    _, left = world.down(record)
    assert left == []
    assert world.records.all() == []


@pytest.mark.parametrize("problem", [DOWN, WRONG_KEY, OLD_PYTHON], ids=["down", "key", "python"])
def test_a_host_fails(tmp_path, problem):
    """A host that cannot be used is named, and the rest is started."""
    where = {"h2": problem}
    how = {"unfit": where} if problem is OLD_PYTHON else {"down": where}
    world = World(tmp_path, "h1", "h2", "h3", **how)
    world.advance(PATIENCE_S + GATHER_S + 5)
    assert {each.host for each in world.result().agents} == {"h1", "h3"}
    assert ("h2", "FAILED", str(problem)) in world.watching.stages
    world.leave()


def test_hopeless(tmp_path):
    """An agent whose daemons do not come up is no part of the cluster."""
    world = World(tmp_path, "h1", "h2", hopeless=["h2"])
    world.advance(5)
    assert {each.host for each in world.result().agents} == {"h1"}
    assert ("h2", "FAILED", "h2: worker: its disk is full") in world.watching.stages
    world.leave()


def test_silent(tmp_path):
    """An agent that says nothing is given up, and stays in the record: it may be there."""
    world = World(tmp_path, "h1", "h2", silent=["h2"])
    world.advance(REPORT_S)
    assert world.outcome == []
    world.advance(10)
    assert {each.host for each in world.result().agents} == {"h1", "h2"}
    assert world.detaching.workers_up == 1
    world.leave()


@pytest.mark.parametrize(
    ("policy", "told"),
    [(Policy(require_all=True), "1 of 2 hosts"), (Policy(min_workers=2), "1 of 2 workers")],
)
def test_policy(tmp_path, policy, told):
    """What the policy wants is wanted before anything starts, where that is known."""
    world = World(tmp_path, "h1", "h2", policy=policy, down={"h2": WRONG_KEY})
    world.advance(5)
    assert told in world.failure()
    assert world.agents == {}
    assert world.records.all() == []
    world.leave()


def test_policy_afterwards(tmp_path):
    """And again once all has started; then the record tells what is to be ended."""
    world = World(tmp_path, "h1", "h2", policy=Policy(min_workers=2), hopeless=["h2"])
    world.advance(5)
    assert "1 of 2 workers" in world.failure()
    world.leave()
    _, left = world.down(world.detaching.record)
    assert left == []
    assert world.agents == {}


@pytest.mark.parametrize("how", [{"down": {"h1": WRONG_KEY}}, {"hopeless": ["h1"]}])
def test_no_scheduler(tmp_path, how):
    """Without a scheduler there is no cluster."""
    world = World(tmp_path, "h1", "h2", **how)
    world.advance(5)
    assert world.failure().startswith("no scheduler: ")
    assert world.agents == {}
    world.leave()


def test_name_that_is_taken(tmp_path):
    """Nothing is started under a name that there is already."""
    Records(Home(tmp_path)).create(Record(name=ADDRESS, address="", machine="", since=0))
    world = World(tmp_path, "h1")
    world.advance(5)
    assert isinstance(world.result().value, ClusterError)
    assert "already" in world.failure()
    assert world.agents == {}
    world.leave()


def test_added(tmp_path):
    """More workers for a cluster that there is, and nothing is done to the others."""
    world = World(tmp_path, "h1", "h2")
    world.advance(5)
    record = world.result()
    world.leave()
    later = World(tmp_path, "h1", "h3", added=record)
    later.advance(5)
    assert [each.host for each in later.result().agents] == ["h1", "h1", "h2", "h3"]
    assert list(later.agents.values()) == ["h3"]
    assert later.detaching.ids == [later.result().agents[-1].id]
    later.leave()


def test_forgotten(tmp_path):
    """`forget_gone` forgets agents that are not there any more, on hosts that were named."""
    world = World(tmp_path, "h1", "h2")
    world.advance(5)
    world.leave()
    record = world.result()
    world.agents.clear()
    visiting = Visiting(world.clock, record.name, lambda ssh: world)
    found = []
    fresh = [record.agents[1].id]
    forgetting = forget_gone(visiting, world.records, record, ["h1"], fresh)
    Deferred.fromCoroutine(forgetting).addBoth(found.append)
    world.advance(3)
    Deferred.fromCoroutine(visiting.close())
    assert [each.host for each in found[0].agents] == ["h1", "h2"]
    assert world.records.find(None) == found[0]


def test_leave_at_any_moment(tmp_path):
    """`Detaching.leave` cuts what is under way; what may run by then is in the record."""
    for quarters in range(14):
        world = World(tmp_path / str(quarters), "h1", "h2", down={"h2": DOWN})
        world.advance(quarters / 4)
        if quarters > 4:
            world.client.hosts["h2"].down = None
        world.leave()
        assert set(world.agents) <= {each.id for each in world.detaching.record.agents}
        for each in world.client.hosts.values():
            assert each.running == []
        world.outcome.clear()
