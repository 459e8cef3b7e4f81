"""The agent that stays on a host, on a clock and over a connection that is none."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.farhosts import FarConnection, FarHost
from twisted_dist.launchers.cluster.agent import SETTLE_S, Agent
from twisted_dist.launchers.cluster.far_daemon import END_S, SIGNAL_S
from twisted_dist.launchers.cluster.keeper import MOST_STILLBORN
from twisted_dist.launchers.cluster.orders import (
    MAX_NAME,
    Order,
    Orders,
    OrdersError,
    file_name,
    heard,
    read_orders,
    said_line,
)
from twisted_dist.launchers.ssh.interface import Ending, How

REGISTERED = b"Registered with center at:  h1:8786\n"


def order(label):
    """An order for a daemon."""
    return Order(label=label, log_name=f"{label}.log", command=f"run {label}", secret="s3cret")


class World:
    """An agent, and daemons that do as a test says."""

    def __init__(self, *labels, come_up=True):
        self.clock = Clock()
        self.host = FarHost("here")
        self.connection = FarConnection(self.host)
        if come_up:
            self.host.on_start = lambda command: self.clock.callLater(
                0.5, command.output, REGISTERED
            )
        self.lines = []
        self.announced = []
        self.changes = 0
        self.agent = Agent(
            self.clock,
            random.Random(1),
            [order(each) for each in labels],
            self.connection,
            lambda order, line, is_error: self.lines.append((order.label, line, is_error)),
            lambda order, line: self.announced.append(order.label),
            self.change,
            lambda: 1000.0 + self.clock.seconds(),
        )
        self.settled = []
        self.done = []
        self.agent.settled.addCallback(self.settled.append)
        self.agent.done.addCallback(self.done.append)
        self.agent.start()

    def change(self):
        self.changes += 1

    def advance(self, seconds):
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def end(self):
        ended = []
        Deferred.fromCoroutine(self.agent.end()).addBoth(ended.append)
        self.advance(END_S + 4 * SIGNAL_S)
        assert ended == [None]
        assert self.done == [None]
        assert self.host.running == []
        assert self.clock.getDelayedCalls() == []


def test_agent_keeps_daemons():
    """`Agent` starts its daemons, gives them their secrets, and settles once all are up."""
    world = World("a", "b")
    assert [each.command for each in world.host.running] == ["run a", "run b"]
    assert [each.input for each in world.host.running] == [b"s3cret\n"] * 2
    assert world.settled == []
    world.advance(1)
    assert world.settled == [None]
    assert world.announced == ["a", "b"]
    assert [each.is_up for each in world.agent.states] == [True, True]
    world.end()


def test_agent_restarts():
    """`Agent` starts a daemon again that has died, and counts that."""
    world = World("a")
    world.advance(10)
    [first] = world.host.running
    first.errors(b"it is too hot\n")
    first.end(Ending(How.SIGNALLED, signal="KILL"))
    [state] = world.agent.states
    assert not state.is_up
    assert state.since == 1010.0
    assert "SIGKILL: it is too hot; it is started again in" in state.why
    assert state.restarts == 1
    world.advance(5)
    assert state.is_up
    assert state.why == ""
    assert state.last == "it is too hot"
    assert len(world.host.commands) == 2
    world.end()


def test_agent_is_over():
    """`Agent` has done once all of its daemons have ended as they were meant to."""
    world = World("a", "b")
    world.advance(1)
    for each in list(world.host.running):
        assert world.done == []
        each.end(Ending(How.EXITED, 0))
    assert world.done == [None]
    assert [each.is_over for each in world.agent.states] == [True, True]
    assert world.clock.getDelayedCalls() == []


def test_agent_gives_up():
    """`Agent` settles, and is done, where a daemon never comes up."""
    world = World("a", come_up=False)
    world.host.on_start = lambda command: None
    for number in range(MOST_STILLBORN):
        world.host.commands[number].end(Ending(How.EXITED, 1))
        world.advance(60)
    assert world.settled == [None]
    assert not world.agent.is_any_up
    assert world.done == [None]
    assert "exited with status 1" in world.agent.states[0].why


def test_agent_does_not_wait_for_ever():
    """`Agent` settles after a while, whatever its daemons do."""
    world = World("a", come_up=False)
    world.advance(SETTLE_S - 1)
    assert world.settled == []
    world.advance(2)
    assert world.settled == [None]
    world.end()


def test_agent_without_room_for_a_process():
    """`Agent` tries again where this machine has no process for a daemon."""
    world = World("a", come_up=False)
    world.connection.lose("no process")
    world.connection._reason = None
    world.advance(10)
    assert len(world.host.running) == 1
    world.end()


def test_end_at_any_moment():
    """`Agent.end` leaves nothing, whenever it comes."""
    for quarters in range(12):
        world = World("a", "b")
        world.advance(quarters / 4)
        if quarters % 2:
            world.host.commands[0].end(Ending(How.EXITED, 1))
        world.end()


def test_orders():
    """`read_orders` reads what `Orders.to_line` has written, and neither shows secrets."""
    orders = Orders(cluster="h1:8786", id="0123456789ab", daemons=(order("a"), order("b\n")))
    assert "\n" not in orders.to_line()
    assert read_orders(orders.to_line()) == orders
    assert "s3cret" not in repr(orders)


@pytest.mark.parametrize(
    "line",
    [
        '{"cluster": "a", "id": "0123456789ab", "daemons": [{"announcements": "1"}]}',
        "", "[]", "{}", "7", '{"cluster": "a", "id": "0123456789ab", "daemons": []}',
        '{"cluster": "a", "id": "../../etc", "daemons": [{}]}', "[" * 100_000,
        '{"cluster": "a", "id": 7, "daemons": 7}',
    ],
)  # fmt: skip
def test_no_orders(line):
    """`read_orders` refuses what is none."""
    with pytest.raises(OrdersError):
        read_orders(line)


@given(st.text())
def test_file_name(name):
    """`file_name` gives a name for a file below a directory, or refuses."""
    if not 0 < len(name) <= MAX_NAME:
        with pytest.raises(OrdersError):
            file_name(name)
    else:
        safe = file_name(name)
        assert safe
        assert safe.isascii()
        assert "/" not in safe
        assert not safe.startswith(".")


def test_heard():
    """`heard` knows an agent's lines from what profiles print."""
    assert heard(said_line(state="up", why="é\n")) == {"state": "up", "why": "é\n"}
    for line in ("welcome", "twisted_dist-agent:", "twisted_dist-agent:[]", ""):
        assert heard(line) is None
