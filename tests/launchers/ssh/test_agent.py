"""`Agent`: an agent that answers, refuses, says nonsense, is silent or ends."""

import struct

import pytest
from twisted.conch.ssh.common import NS
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.support.sshserver import HOST_KEY
from twisted_dist.launchers.ssh.agent import AGENT_S, SIGN_S, Agent, AgentError


class Wire:
    """An endpoint to an agent whose answers the test gives."""

    def __init__(self):
        self.transport = StringTransport()
        self.protocol = None

    def connect(self, factory):
        self.protocol = factory.buildProtocol(None)
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        waiting = Deferred()
        waiting.callback(self.protocol)
        return waiting


def opened():
    """An agent, its clock and its wire."""
    clock, wire, found = Clock(), Wire(), []
    Deferred.fromCoroutine(Agent.open(clock, "/a", wire)).addBoth(found.append)
    return found[0], clock, wire


def outcome(coroutine):
    """What comes of it."""
    found = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    return found


def message(kind, body=b""):
    """What an agent says."""
    return struct.pack(">LB", len(body) + 1, kind) + body


def test_keys():
    """`Agent.keys` are those that can be used, in the agent's order."""
    agent, _, wire = opened()
    found = outcome(agent.keys())
    certificate = NS(b"ssh-ed25519-cert-v01@openssh.com") + b"x" * 50
    body = struct.pack(">L", 2) + NS(certificate) + NS(b"c") + NS(HOST_KEY.blob()) + NS(b"mine")
    answer = message(12, body)
    for each in answer:
        wire.protocol.dataReceived(bytes([each]))
    assert found == [[(HOST_KEY.public(), "mine")]]
    agent.close()
    assert wire.transport.disconnecting


@pytest.mark.parametrize(
    "answer", [message(5), message(6), message(12), message(12, b"\0\0\0\x09\0"), message(99)]
)
def test_nonsense(answer):
    """`Agent.keys` fails as itself, whatever comes."""
    agent, clock, wire = opened()
    found = outcome(agent.keys())
    wire.protocol.dataReceived(answer)
    assert found[0].check(AgentError)
    assert clock.getDelayedCalls() == []


def test_more_than_was_asked():
    """An agent that talks without being asked, or without an end, is left."""
    for words in (message(6), struct.pack(">L", 1 << 30) + b"x" * (300 << 10)):
        _, _, wire = opened()
        wire.protocol.dataReceived(words)
        assert wire.transport.disconnecting


def test_silence_and_end():
    """An agent that says nothing is waited for as long as a person needs, and no longer."""
    agent, clock, wire = opened()
    keys, signature = outcome(agent.keys()), outcome(agent.sign(HOST_KEY, b"x", b"ssh-ed25519"))
    clock.advance(AGENT_S)
    assert keys[0].check(AgentError)
    clock.advance(SIGN_S - AGENT_S)
    assert signature[0].check(AgentError)
    last = outcome(agent.keys())
    wire.protocol.connectionLost()
    assert last[0].check(AgentError)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("algorithm", "flags"), [(b"rsa-sha2-512", 4), (b"rsa-sha2-256", 2), (b"ssh-ed25519", 0)]
)
def test_sign(algorithm, flags):
    """`Agent.sign` asks for the hash that was agreed on, which conch's own way cannot."""
    agent, _, wire = opened()
    found = outcome(agent.sign(HOST_KEY, b"data", algorithm))
    assert wire.transport.value().endswith(NS(b"data") + struct.pack(">L", flags))
    wire.protocol.dataReceived(message(14, NS(b"signature")))
    assert found == [b"signature"]
