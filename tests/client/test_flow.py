"""`client.flow` and what it counts: who submits too much waits, and nobody else."""

from __future__ import annotations

import operator
import threading
from collections import deque

import pytest
from twisted.internet.task import Clock

from twisted_dist.client import flow as module
from twisted_dist.client import submitting
from twisted_dist.client.flow import DOUBT_S, LOOK_S, Flow
from twisted_dist.client.future import CANCELLED, Record
from twisted_dist.client.graphs import GraphReader
from twisted_dist.client.journal import Journal
from twisted_dist.client.outbox import Outbox
from twisted_dist.client.pickling import MAX_CALL_BYTES
from twisted_dist.client.records import Records
from twisted_dist.client.submitting import FIRST_PART, LOOK_TASKS, Submitter
from twisted_dist.errors import UsageProblem

#: seconds that another thread may take
PATIENCE_S = 20.0


class Turns(Clock):
    """A reactor in the test's thread, for calls that come from others."""

    def __init__(self):
        super().__init__()
        self._calls = deque()
        self._came = threading.Semaphore(0)

    def callFromThread(self, function, *args):
        """Call it when the test takes the turn."""
        self._calls.append((function, args))
        self._came.release()

    def turn(self):
        """Make one call, once it has come."""
        assert self._came.acquire(timeout=PATIENCE_S)
        function, args = self._calls.popleft()
        function(*args)


class Made:
    """A flow of which 100 tasks and 1000 bytes are the most."""

    def __init__(self):
        self.reactor = Turns()
        self.pending = self.unsent = 0
        self.flow = Flow(self.reactor, lambda: self.pending, lambda: self.unsent)

    def submit(self):
        """A thread that submits, and waits by now."""
        thread = threading.Thread(target=self.flow.wait, daemon=True)
        thread.start()
        self.reactor.turn()
        return thread


@pytest.fixture
def made(monkeypatch):
    """One that leaves no call behind."""
    monkeypatch.setattr(module, "MOST_PENDING", 100)
    monkeypatch.setattr(module, "MOST_UNSENT", 1000)
    made = Made()
    yield made
    assert not made.reactor.getDelayedCalls()


@pytest.mark.parametrize("what", ["pending", "unsent"])
def test_waits(made, what):
    """`Flow.wait` blocks above a limit, until a quarter of it is free again."""
    most = {"pending": 100, "unsent": 1000}[what]
    setattr(made, what, most)
    made.flow.wait()
    setattr(made, what, most + 1)
    threads = [made.submit(), made.submit()]
    made.reactor.advance(LOOK_S)
    setattr(made, what, most * 3 // 4 + 1)
    made.reactor.advance(LOOK_S)
    assert all(each.is_alive() for each in threads)
    setattr(made, what, most * 3 // 4)
    made.reactor.advance(LOOK_S)
    for each in threads:
        each.join(PATIENCE_S)
        assert not each.is_alive()


def test_end_lets_all_go(made):
    """`Flow.end` blocks nobody any more, and whoever waited goes on."""
    made.pending = 101
    thread = made.submit()
    fires = made.flow.room()
    assert not fires.called
    made.flow.end()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert fires.called
    made.flow.wait()
    assert made.flow.room().called


def test_reactor_that_has_ended(made, monkeypatch):
    """`Flow.wait` does not hang where its reactor takes no more turns."""
    monkeypatch.setattr(module, "DOUBT_S", DOUBT_S / 100)
    made.pending = 101
    thread = threading.Thread(target=made.flow.wait, daemon=True)
    thread.start()
    assert made.reactor._came.acquire(timeout=PATIENCE_S)
    made.flow._has_ended = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_reactors_thread_never_waits(made):
    """`Flow.wait` returns at once in the thread of the reactor, which would wait for itself."""
    made.flow.begin()
    made.pending = 101
    made.flow.wait()


def test_room(made):
    """`Flow.room` fires at once where there is room, and when there is; it can be cancelled."""
    assert made.flow.room().called
    made.pending = 101
    waits, cancelled = made.flow.room(), made.flow.room()
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()
    assert not waits.called
    made.pending = 0
    made.reactor.advance(LOOK_S)
    assert waits.called


# -- what is counted


class Site:
    """A submitter, and how often it looked for room."""

    def __init__(self):
        self.outbox = Outbox()
        self.records = Records(None)
        self.dropped = []
        self.looks = []
        self.submitter = Submitter(
            self.outbox,
            self.records,
            lambda: None,
            self.dropped.append,
            Journal(self.records),
            lambda: self.looks.append(self.pending),
        )
        self.submitter.index = 3

    @property
    def pending(self):
        """As a session counts."""
        return self.submitter.submitted - self.records.ended

    def map(self, *calls, keys=None):
        """Submit calls of `operator.add`."""
        return self.submitter.submit(operator.add, calls, {}, keys)


@pytest.fixture
def site():
    """A new one."""
    return Site()


def call(n=1, size=0):
    """A call, of about so many bytes."""
    return ((n, b"x" * size), {})


def test_pending(site):
    """A task counts until it has ended, in whatever way, once; so does one that was handed over."""
    ids = [each.id for each in site.map(*[call()] * 10)]
    assert site.pending == 10
    site.records.finished(ids[:3], [8] * 3, [None] * 3)
    site.records.finished(ids[:3], [8] * 3, [b"value"] * 3)  # fetched
    site.records.erred(ids[3], CANCELLED, ("cancelled", b"", ""))
    site.records.erred(ids[3], CANCELLED, ("cancelled", b"", ""))
    assert site.pending == 6
    for each in ids[:5]:
        site.records.forget(each)
    site.records.forget(ids[4])
    assert site.pending == 5
    site.records.adopt(Record(7, "another's"))
    assert site.pending == 6
    site.records.finished([7], [8], [None])
    assert site.pending == 5
    site.records.lose_pending("gone")
    assert site.pending == 0


def test_pending_of_graphs(site):
    """Of a graph the outputs count, which are all that is told of."""
    graph = GraphReader({"a": (operator.neg, 1), "b": (operator.neg, "a")}).read("b")
    (record,) = site.submitter.submit_graph(graph, {}, [])
    assert site.pending == 1
    site.records.finished([record.id], [8], [None])
    assert site.pending == 0


def test_looks_now_and_then(site):
    """`Submitter.submit` looks for room first, and then after many tasks or bytes."""
    for _ in range(LOOK_TASKS):
        site.map(call())
    assert site.looks == [0]
    site.map(call())
    assert site.looks == [0, LOOK_TASKS]
    site.map(call(size=submitting.LOOK_BYTES))
    site.map(call())
    assert len(site.looks) == 3
    site.outbox.take()
    site.map(call())
    assert len(site.looks) == 3


def test_parts(site, monkeypatch):
    """`Submitter.submit` looks between the parts of a map; a part ends at a number of bytes."""
    monkeypatch.setattr(submitting, "PART_BYTES", 4 * 1024)
    records = site.map(*[call(size=1024) for _ in range(20)])
    assert len(records) == 20
    assert [each.id for each in records] == list(range(records[0].id, records[0].id + 20))
    assert site.outbox.nbytes > 20 * 1024
    monkeypatch.setattr(submitting, "LOOK_BYTES", 1024)
    before = len(site.looks)
    site.map(*[call(size=1024) for _ in range(20)])
    assert len(site.looks) - before >= 5


def test_parts_with_names(site):
    """`Submitter.submit` sends what has names in parts too, each task under its own."""
    count = FIRST_PART + 10
    names = [f"n{each}" for each in range(count)]
    records = site.map(*[call()] * count, keys=names)
    assert [each.key for each in records] == names
    with pytest.raises(UsageProblem, match="2 keys for 1 tasks"):
        site.map(call(), keys=["a", "b"])
    assert site.pending == count


def test_part_that_fails(site):
    """`Submitter.submit` drops the parts before one that cannot be sent."""
    calls = [call()] * FIRST_PART + [call(size=MAX_CALL_BYTES)]
    with pytest.raises(UsageProblem):
        site.map(*calls)
    assert len(site.dropped) == FIRST_PART


def test_bytes(site):
    """`Outbox.nbytes` is what gathers there, and begins anew when that was taken."""
    for _ in range(3):
        site.map(call(size=1000))
    assert 3000 < site.outbox.nbytes < 4000
    site.outbox.take()
    assert site.outbox.nbytes == 0
    site.map(call(size=1000))
    del site.outbox.alone(10_000)[0]  # as a thread that sends it itself
    site.map(call(size=1000))
    assert site.outbox.nbytes == 0
    site.map(call(size=1000))
    assert site.outbox.nbytes > 1000
    site.outbox.clear()
    for _ in range(3):
        site.outbox.put(b"asked")
        del site.outbox.alone(10_000)[0]
    assert site.outbox.nbytes == len(b"asked")
    site.outbox.clear()
    assert site.outbox.nbytes == 0
