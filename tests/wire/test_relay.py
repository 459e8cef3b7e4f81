"""Two connections joined, in memory: bytes, flow, ends, bounds."""

import pytest
from twisted.internet import task
from twisted.internet.protocol import Protocol

from tests.support.lines import Net
from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import WORKER
from twisted_dist.errors import RefusedError
from twisted_dist.wire import relay as module
from twisted_dist.wire.once import MOST_SUBJECTS, Once
from twisted_dist.wire.relay import IDLE_S, LINGER_S, SPARE_S, TICKET_S, Relays
from twisted_dist.wire.tls import TLSProtocol, tls_context

DIALLER, SCHEDULER = (Credential.make(WORKER) for _ in range(2))
#: what the documentation says that a relay holds, each way
MOST_BYTES = 400 * 1024


class Talker(Protocol):
    """Notes what it hears."""

    def __init__(self):
        self.heard = 0
        self.last = b""
        self.ended = False

    def dataReceived(self, data):
        """Count."""
        self.heard += len(data)
        self.last = data[-10:]

    def connectionLost(self, reason):
        """Note."""
        self.ended = True


class Both:
    """What relays: each with an asker and a worker, and the lines between them.

    Attributes:
        held: the ends of lines at which a relay writes.
    """

    def __init__(self, *, tls=False):
        self.clock = task.Clock()
        self.numbers = iter(range(1, 1000))
        self.relays = Relays(self.clock, lambda count: next(self.numbers).to_bytes(count, "big"))
        self.net = Net()
        self.tls = tls
        self.held = []

    def _dial(self, there):
        """Connect somebody to an end of a relay's."""
        here = Talker()
        outer, inner = here, there
        if self.tls:
            dials = tls_context(DIALLER, [SCHEDULER.certificate], answers=False)
            answers = tls_context(SCHEDULER, [DIALLER.certificate], answers=True)
            outer = TLSProtocol(dials, here, answers=False)
            inner = TLSProtocol(answers, there, answers=True)
        _line, held = self.net.join(outer, inner)
        self.held.append(held)
        return here

    def open(self, address="h:1"):
        """One that is joined: its asker's and its worker's protocols."""
        asked = self.relays.open("somebody", address)
        asked.answer.addCallback(self._dial)
        worker = self._dial(self.relays.join(asked.ticket))
        self.net.pump()
        return asked.answer.result, worker


@pytest.fixture
def both():
    """Relays without TLS; no call is left in the end, and no relay after `Relays.close`."""
    made = Both()
    yield made
    made.relays.close()
    made.net.pump()
    assert len(made.relays) == 0
    assert not made.clock.getDelayedCalls()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_bytes_pass_both_ways(tls):
    """`Relays` hand over all bytes, each way, in order, by whatever the two came."""
    both = Both(tls=tls)
    asker, worker = both.open()
    asker.transport.write(b"what?" * 100_000 + b"asker ends")
    worker.transport.write(b"that!" * 300_000 + b"worker end")
    both.net.pump()
    assert (worker.heard, worker.last) == (500_010, b"asker ends")
    assert (asker.heard, asker.last) == (1_500_010, b"worker end")
    both.relays.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_receiver_that_is_slow_slows_the_sender(tls):
    """A relay holds little of what its receiver does not take, and all arrives in the end."""
    both = Both(tls=tls)
    asker, worker = both.open()
    reads = both.net.watcher.reading
    asker.transport.pauseProducing()
    worker.transport.write(b"x" * 20_000_000)
    both.net.pump()
    assert max(line.most for line in both.held) < MOST_BYTES
    assert len(reads & set(both.held)) == 1  # the worker is not read from
    asker.transport.resumeProducing()
    both.net.pump()
    assert asker.heard == 20_000_000
    assert max(line.most for line in both.held) < MOST_BYTES
    assert len(reads & set(both.held)) == 2
    both.relays.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("index", [0, 1], ids=["asker", "worker"])
def test_one_end_closes_the_other(tls, index):
    """A relay's other end gets what was on its way, and is closed."""
    both = Both(tls=tls)
    ends = both.open()
    here, there = ends[index], ends[1 - index]
    there.transport.pauseProducing()  # so that the relay's transport has a producer it paused
    here.transport.write(b"y" * 100_000)
    here.transport.loseConnection()
    both.net.pump()
    there.transport.resumeProducing()
    both.net.pump()
    assert there.heard == 100_000
    assert there.ended
    assert len(both.relays) == 0
    assert not both.clock.getDelayedCalls()


def test_one_that_does_not_take_the_rest(both):
    """A relay whose receiver takes nothing any more is ended after its time."""
    asker, worker = both.open()
    asker.transport.pauseProducing()
    worker.transport.write(b"y" * 50_000)
    both.net.pump()
    worker.transport.loseConnection()
    both.net.pump()
    assert not asker.ended
    both.clock.advance(LINGER_S)
    assert asker.ended
    assert len(both.relays) == 0


def test_worker_that_does_not_come(both):
    """`Relays.open` fails after the ticket's time with who did not come; the ticket is void."""
    asked = both.relays.open("somebody", "h:1")
    failures = []
    asked.answer.addErrback(failures.append)
    both.clock.advance(TICKET_S)
    assert "h:1 did not come to the relay in 10 s" in failures[0].getErrorMessage()
    with pytest.raises(RefusedError, match="too old"):
        both.relays.join(asked.ticket)


def test_tickets_serve_once(both):
    """`Relays.join` takes no ticket twice, and none that was not given."""
    asked = both.relays.open("somebody", "h:1")
    both.relays.join(asked.ticket)
    for ticket in (asked.ticket, b"", b"guess"):
        with pytest.raises(RefusedError, match="no relay's ticket"):
            both.relays.join(ticket)


def test_asker_that_has_gone(both):
    """`Relay.asker_gone` frees the room; the worker that comes all the same is refused."""
    asked = both.relays.open("somebody", "h:1")
    asked.asker_gone()
    assert len(both.relays) == 0
    with pytest.raises(RefusedError, match="no relay's ticket"):
        both.relays.join(asked.ticket)
    assert not both.clock.getDelayedCalls()


def test_too_many(both, monkeypatch):
    """`Relays.open` refuses more than its bound; one that carries nothing gives way."""
    monkeypatch.setattr(module, "MOST_RELAYS", 2)
    first, _ = both.open("h:1")
    both.clock.advance(SPARE_S - 1)
    second, other = both.open("h:2")
    with pytest.raises(RefusedError, match="it relays 2 connections already"):
        both.relays.open("somebody", "h:3")
    assert [both.relays.count(each) for each in ("h:1", "h:2", "h:3")] == [1, 1, 0]
    both.clock.advance(1)
    third, _ = both.open("h:3")
    assert [each.ended for each in (first, second, third)] == [True, False, False]
    # one whose receiver is slow is no idle one
    second.transport.pauseProducing()
    other.transport.write(b"z" * 1_000_000)
    both.net.pump()
    both.clock.advance(SPARE_S)
    fourth, _ = both.open("h:4")
    assert [each.ended for each in (second, third, fourth)] == [False, True, False]


def test_idle_ones_end(both):
    """A relay that carries nothing for its time is ended, and none that does."""
    idle, _ = both.open()
    busy, worker = both.open()
    for _ in range(10):
        both.clock.advance(IDLE_S / 10)
        worker.transport.write(b".")
        both.net.pump()
    assert [idle.ended, busy.ended] == [True, False]
    both.clock.advance(IDLE_S)
    assert busy.ended


def test_said_once():
    """`Once.is_new` is true once for each subject, and holds a bounded number of them."""
    once = Once()
    assert [once.is_new(each) for each in ("a", "b", "a")] == [True, True, False]
    for each in range(MOST_SUBJECTS):
        once.is_new(each)
    assert len(once._known) <= MOST_SUBJECTS
