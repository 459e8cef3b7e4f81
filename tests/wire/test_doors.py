"""Who may do what at a daemon's port, in memory: roles, bounds, and credentials that end."""

import pytest
from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.protocols import amp

from twisted_dist.access import roles
from twisted_dist.access.home import Home
from twisted_dist.access.network import Network
from twisted_dist.errors import RefusedError
from twisted_dist.services.authority import LOOK_S, NetworkAuthority
from twisted_dist.services.scheduler import Scheduler
from twisted_dist.services.worker import Worker
from twisted_dist.wire import commands, control
from twisted_dist.wire.control import ControlFactory, Door
from twisted_dist.wire.membership import Insecure, Membership
from twisted_dist.wire.refusals import MOST_LINES, WINDOW_S, Refusals
from twisted_dist.wire.tls import ALERT_PROTOCOL_VERSION

ADDRESS = "10.0.0.1:8786"


class As:
    """An authority that takes everybody for one role."""

    insecure = False

    def __init__(self, role):
        self._role = role

    def role(self, certificate):
        """The role."""
        return self._role

    def ready(self):
        """Always."""
        return True


#: {command: the roles that may give it}; what is not here, all may
ALLOWED = {
    "RegisterClient": {"admin", "submit"},
    "RegisterWorker": {"worker"},
    "RegisterTask": {"worker"},
    "Resume": {"admin", "submit", "worker"},
    "OpenData": {"admin", "submit", "worker"},
    "OpenRelay": {"admin", "submit", "worker"},
    "JoinRelay": {"worker"},
    "Terminate": {"admin"},
}


def services():
    """One daemon of each kind, none of which listens."""
    clock = task.Clock()
    yield Scheduler(reactor=clock, host="127.0.0.1", insecure=True)
    yield Worker("10.0.0.1:8786", reactor=clock, host="127.0.0.1", insecure=True)


@pytest.mark.parametrize("role", roles.ROLES)
def test_what_each_role_may(role):
    """Every command of every daemon is for the roles that docs/security.md names."""
    seen = set()
    for service in services():
        for command, responder in service.responders().items():
            seen.add(command.__name__)
            may = role in ALLOWED.get(command.__name__, roles.ROLES)
            assert (role in responder.roles) is may, command
    assert set(ALLOWED) <= seen


def box(command, **arguments):
    """A command's bytes."""
    made = command.makeArguments(arguments, None)
    return amp.AmpBox(_command=command.commandName, _ask=b"1", **_words(made)).serialize()


def _words(strings):
    return {key.decode(): value for key, value in strings.items()}


HELLO = box(commands.Hello, oldest=3, newest=3, role="x", software="0")


def test_a_role_is_told_what_is_missing():
    """A command that a role may not give is refused by name, and is not carried out."""
    (scheduler, _worker) = services()
    factory = ControlFactory("scheduler", scheduler.responders(), scheduler.reactor, As("worker"))
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(HELLO + box(commands.Terminate))
    assert b"Terminate needs a credential for admin, and this one is for worker" in (
        transport.value()
    )
    assert scheduler._stopping is None
    assert [each for each in scheduler.reactor.getDelayedCalls() if each.active()] == []


def test_little_is_taken_before_a_hello():
    """`ControlProtocol` takes few bytes from whoever has not said hello."""
    factory = ControlFactory("worker", {}, task.Clock(), Insecure())
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    value = b"\x00\x01k\x03\xe8" + b"v" * 1000
    for _ in range(3):
        protocol.dataReceived(value)
    assert not protocol.transport.disconnected
    for _ in range(3):
        protocol.dataReceived(value)
    assert protocol.transport.disconnected


def test_a_box_without_end():
    """`ControlProtocol` ends a member's message that never ends, and takes many short ones."""
    factory = ControlFactory("worker", {}, task.Clock(), Insecure())
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    for _ in range(1000):
        protocol.dataReceived(HELLO)
    value = b"\x00\x01k\xff\xff" + b"v" * 65535
    for _ in range(control.MAX_BOX_BYTES // len(value)):
        protocol.dataReceived(value)
        assert not protocol.transport.disconnected
    protocol.dataReceived(value * 2)
    assert protocol.transport.disconnected


def test_who_speaks_tls_is_told_that_here_is_none():
    """`ControlProtocol` of ``--insecure`` answers a TLS client with TLS's own alert."""
    factory = ControlFactory("worker", {}, task.Clock(), Insecure())
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(b"\x16\x03\x01\x00\x05hello")
    assert protocol.transport.value() == ALERT_PROTOCOL_VERSION
    assert protocol.transport.disconnecting


def test_the_oldest_stranger_gives_way(monkeypatch):
    """`ControlFactory` holds few connections without a hello; members do not count."""
    monkeypatch.setattr(control, "MAX_STRANGERS", 3)
    factory = ControlFactory("worker", {}, task.Clock(), Insecure())
    protocols = []
    for number in range(6):
        protocol = factory.buildProtocol(None)
        protocols.append(protocol)
        protocol.makeConnection(StringTransport())
        if number < 2:
            protocol.dataReceived(HELLO)
    ended = [each.transport.disconnected for each in protocols]
    assert ended == [False, False, True, False, False, False]


def test_refusals_are_few_lines():
    """`Refusals` logs some lines in a while, and counts the others."""
    clock = task.Clock()
    lines = []
    refusals = Refusals(clock, "scheduler")
    refusals.log = type("Log", (), {"warn": lambda self, line, **about: lines.append(about)})()
    for _ in range(MOST_LINES + 5):
        refusals.note("somebody", "a reason")
    assert len(lines) == MOST_LINES
    clock.advance(WINDOW_S)
    refusals.note("somebody", "a reason")
    assert lines[MOST_LINES] == {"n": 5}
    assert len(lines) == MOST_LINES + 2


def test_a_door_opens_when_access_is_there(tmp_path):
    """`Door` closes connections at once until it can know who comes."""
    network = Home(tmp_path).open_network(ADDRESS)
    access = network.access([ADDRESS], "m", [network.owned[roles.WORKER]])
    membership = Membership(access, False, [roles.WORKER])
    door = Door(ControlFactory("worker", {}, task.Clock(), membership))
    assert door.buildProtocol(None) is None
    membership.to_scheduler(ADDRESS)
    assert door.buildProtocol(None) is not None


class Watched:
    """A scheduler's authority over a home, on a clock, and what it said."""

    def __init__(self, directory):
        self.clock = task.Clock()
        self.home = Home(directory)
        self.changes = []
        self.authority = NetworkAuthority(
            self.home,
            self.clock,
            lambda: self.changes.append(dict(self.authority.keys())),
            wall=lambda: 1000.0 + self.clock.seconds(),
        )
        self.authority.open(ADDRESS, passing=False)

    def role(self, certificate):
        """The role, or why there is none."""
        try:
            return self.authority.role(certificate)
        except RefusedError as problem:
            return str(problem)


@pytest.fixture
def watched(tmp_path):
    """One that ends with nothing left on its clock."""
    one = Watched(tmp_path)
    yield one
    one.authority.close()
    assert not one.clock.getDelayedCalls()


def test_what_daccess_does_is_noticed(watched):
    """`NetworkAuthority` follows its file: given, revoked, and a file that is broken."""
    with watched.home.changing_network(ADDRESS) as network:
        alice = network.grant(roles.SUBMIT, "alice", None).certificate
    watched.authority.context()  # whoever was just given one may come at once
    assert watched.role(alice) == roles.SUBMIT
    assert watched.changes[-1][alice] == roles.SUBMIT  # and workers know of it before
    with watched.home.changing_network(ADDRESS) as network:
        network.revoke("alice")
    watched.clock.advance(LOOK_S)
    assert "'alice' was revoked" in watched.role(alice)
    assert alice not in watched.changes[-1]
    watched.home.network_path(ADDRESS).write_text("nonsense")
    watched.clock.advance(LOOK_S)
    assert len(watched.changes) == 2
    assert "'alice' was revoked" in watched.role(alice)


def test_time_ends_a_credential(watched):
    """`NetworkAuthority` notices what expires without anybody's doing."""
    with watched.home.changing_network(ADDRESS) as network:
        alice = network.grant(roles.SUBMIT, "alice", 1010.0).certificate
    watched.clock.advance(9.0)
    assert watched.role(alice) == roles.SUBMIT
    watched.clock.advance(2.0)
    assert "has expired" in watched.role(alice)
    assert [alice in each for each in watched.changes] == [True, False]


def test_strangers_have_no_role(watched):
    """`NetworkAuthority.role` refuses no certificate, and that of another network."""
    other = Network.make().owned[roles.ADMIN].certificate
    for certificate in (None, other):
        assert "no credential of this network" in watched.role(certificate)


def test_connections_end_with_their_credential(watched):
    """`ControlFactory.end_unwelcome` ends a revoked member's connections and no others."""
    with watched.home.changing_network(ADDRESS) as network:
        network.grant(roles.SUBMIT, "alice", None)
        network.grant(roles.SUBMIT, "bob", None)
    watched.authority.context()
    factory = ControlFactory("scheduler", {}, watched.clock, watched.authority)
    protocols = {}
    for certificate, grant in watched.home.load_network(ADDRESS).grants.items():
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.certificate = certificate
        protocol.greeted = True
        protocols[grant.name] = protocol
    with watched.home.changing_network(ADDRESS) as network:
        network.revoke("alice")
    watched.clock.advance(LOOK_S)
    factory.end_unwelcome()
    ended = {name for name, each in protocols.items() if each.transport.disconnected}
    assert ended == {"alice"}
    for each in protocols.values():
        each.connectionLost()
