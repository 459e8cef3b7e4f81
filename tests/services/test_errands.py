"""The scheduler's errands: who is told, who is answered what, and what is refused."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core.peers import SchedulerWorker
from twisted_dist.core.scheduler import SchedulerCore
from twisted_dist.errors import ProtocolError
from twisted_dist.execution import errand_rules as rules
from twisted_dist.services import errands as errands_module
from twisted_dist.services.errands import Errands
from twisted_dist.wire import schema

CLIENT = 5
FIRST = CLIENT << CLIENT_SHIFT
FROM_SCHEDULER = (schema.ERRAND.number, schema.STOP_ERRANDS.number)


class Desk:
    """Errands with two workers, and what is said."""

    def __init__(self):
        self.clock = Clock()
        self.state = SchedulerCore().state
        self.told = []
        self.replies = []
        self.errands = Errands(self.clock, self.state, self._tell, self._reply)
        for number, name in ((1, "alice"), (2, "bob")):
            address = f"h:{number}"
            worker = SchedulerWorker(number, address, name, 1, 0.0, {})
            self.state.workers[number] = self.state.by_address[address] = worker

    def _tell(self, worker, payload):
        number, fields = schema.decode(payload, FROM_SCHEDULER)
        self.told.append((worker, schema.BY_NUMBER[number].name, *fields.values()))

    def _reply(self, client, request, error, result):
        self.replies.append((client, request, error or result))

    def run(self, *addresses, first=FIRST, request=10, timeout=-1.0, blob=b"call", client=CLIENT):
        """A client asks."""
        fields = {"request": request, "what": "run", "name": "\n".join(["run-f", *addresses])}
        fields |= {"blob": blob, "ids": [], "number": first, "timeout_s": timeout}
        assert self.errands.asked(client, fields)

    def done(self, worker, errand, kind="value", blob=b"4", text="", nbytes=1):
        """A worker says how one has ended."""
        fields = {"id": errand, "kind": kind, "nbytes": nbytes, "blob": blob, "text": text}
        self.errands.done(worker, fields)

    def heard(self):
        """What workers were told since the last time."""
        told, self.told = self.told, []
        return told

    def answers(self):
        """What clients were answered since the last time."""
        replies, self.replies = self.replies, []
        return replies


@pytest.fixture
def desk():
    """One of which nothing is left."""
    made = Desk()
    yield made
    made.errands.close()
    assert made.clock.getDelayedCalls() == []
    assert not made.errands._under_way
    assert not made.errands._loads


def test_each_worker_is_asked_and_each_answer_told(desk):
    """`Errands.asked` sends the call once to each worker named; each end is one answer."""
    desk.run("h:2", "h:1", timeout=9.0)
    assert desk.heard() == [(2, "errand", FIRST, b"call"), (1, "errand", FIRST + 1, b"call")]
    assert desk.errands.key_of(FIRST + 1) == "run-f"
    desk.done(1, FIRST + 1, "raised", b"e", "text")
    desk.done(2, FIRST, "held", b"", nbytes=10**6)
    desk.done(2, FIRST, "value", b"again")
    assert desk.answers() == [
        (CLIENT, 11, ["raised", 1, b"e", "text", 1]),
        (CLIENT, 10, ["held", 10**6, b"", "", 2]),
    ]
    assert desk.errands.key_of(FIRST + 1) == ""


def test_other_operations_are_left():
    """`Errands.asked` answers nothing that is not its own."""
    assert not Desk().errands.asked(1, {"what": "upload"})


def test_a_worker_that_is_lost(desk):
    """`Errands.worker_gone` ends what it was to do; one that was never there has not done it."""
    desk.run("h:1", "h:3", "h:2")
    desk.errands.worker_gone(1, "it was killed")
    lost = "run-f: worker alice (h:1) was lost: it was killed"
    assert desk.answers() == [
        (CLIENT, 11, ["worker-lost", 0, b"", "no worker is at h:3 any more", 0]),
        (CLIENT, 10, ["worker-lost", 0, b"", lost, 0]),
    ]
    desk.done(1, FIRST)
    assert desk.answers() == []


def test_a_time_limit(desk):
    """`Errands` tells workers to stop what takes too long, and clients that it did."""
    desk.run("h:1", "h:2", timeout=3.0)
    desk.done(1, FIRST)
    desk.heard()
    desk.answers()
    desk.clock.advance(3.0)
    assert desk.heard() == [(2, "stop-errands", [FIRST + 1])]
    told = "run-f was not done within 3 s on worker bob (h:2); it was told to stop"
    assert desk.answers() == [(CLIENT, 11, ["timed-out", 0, b"", told, 0])]
    desk.done(2, FIRST + 1)
    assert desk.answers() == []


def test_a_client_that_goes(desk):
    """`Errands.client_gone` has its errands stopped, and no other's."""
    desk.run("h:1", timeout=3.0)
    desk.run("h:1", first=9 << CLIENT_SHIFT, client=9)
    desk.heard()
    desk.errands.client_gone(CLIENT)
    assert desk.heard() == [(1, "stop-errands", [FIRST])]
    desk.done(1, 9 << CLIENT_SHIFT)
    assert [client for client, *_ in desk.answers()] == [9]


def test_a_worker_of_before(desk):
    """A worker whose heartbeats know no errands is sent none: it would end its session."""
    desk.state.workers[1].metrics = {"rss": 1}
    desk.state.workers[2].metrics = {"rss": 1, rules.METRIC: 0}
    desk.run("h:1", "h:2")
    assert [worker for worker, *_ in desk.heard()] == [2]
    told = "worker alice (h:1) is of a version that does not know run()"
    assert desk.answers() == [(CLIENT, 10, ["no-worker", 0, b"", told, 0])]


def test_refused(desk, monkeypatch):
    """What cannot be meant is refused at once, by one answer, and nobody is told."""
    desk.run("h:1", first=FIRST - 1)
    desk.run("h:1", "h:2", first=((CLIENT + 1) << CLIENT_SHIFT) - 1)
    desk.run()
    desk.run("h:1", blob=bytes(rules.MAX_CALL_BYTES + 1))
    monkeypatch.setattr(errands_module, "MOST_UNDER_WAY", 1)
    desk.run("h:1", "h:2")
    assert desk.heard() == []
    ids = "run: no workers, or ids that are not this client's"
    assert [told for _, _, told in desk.answers()] == [
        ids,
        ids,
        ids,
        "run: a call of 8388609 bytes, and 8388608 at most",
        "run: more than 1 calls would be under way",
    ]
    desk.run("h:1")
    monkeypatch.setattr(errands_module, "MOST_UNDER_WAY", 10)
    desk.run("h:1")
    assert desk.answers() == [(CLIENT, 10, "run: ids that are in use")]


def test_a_worker_has_so_many_at_a_time(desk):
    """A worker is sent what its session can hold: 100 calls, or some large ones."""
    for n in range(rules.MOST_ERRANDS + 1):
        desk.run("h:1", first=FIRST + n)
    told = "worker alice (h:1) has too many calls of run() to make already"
    assert desk.answers() == [(CLIENT, 10, ["no-worker", 0, b"", told, 0])]
    large = bytes(rules.MAX_CALL_BYTES)
    for n in range(rules.MOST_BYTES // len(large) + 1):
        desk.run("h:2", first=FIRST + 1000 + n, blob=large)
    assert len(desk.answers()) == 1


def test_a_worker_that_says_too_much(desk):
    """A result or an exception that is over its bound ends the session of who sends it."""
    desk.run("h:1")
    with pytest.raises(ProtocolError):
        desk.done(1, FIRST, "value", bytes(70_000))
    with pytest.raises(ProtocolError):
        desk.done(1, FIRST, "raised", bytes(2 * 2**20))
    desk.done(2, FIRST)  # another's
    assert desk.answers() == []
    desk.done(1, FIRST, "killed", b"", "it died")
    told = "run-f on worker alice (h:1): it died"
    assert desk.answers() == [(CLIENT, 10, ["killed", 1, b"", told, 1])]
