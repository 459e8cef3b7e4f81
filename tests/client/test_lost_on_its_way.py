"""Results that are lost while they are brought here: who waits hears what became of them."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from twisted_dist.client import operations as op
from twisted_dist.client.executor import _when_settled
from twisted_dist.client.future import FINISHED, LOST, Future, Record
from twisted_dist.errors import DataLostError

LOSS = ("data-lost", b"", "it was lost with the last worker that held it")


class Session:
    """One whose results are all lost as soon as somebody fetches them."""

    def __init__(self):
        self.records = SimpleNamespace(
            wait_all=lambda records, timeout: None,
            when_done=lambda record, function: function(record),
        )
        self.fetcher = SimpleNamespace(fetch_blocking=self.fetch, fetch=self.fetch_soon)
        self.reactor = SimpleNamespace(callFromThread=lambda function: function())

    def fetch(self, records, timeout):
        """What is lost is not brought, and no error of fetching."""
        for each in records:
            each.error, each.status = LOSS, LOST

    async def fetch_soon(self, records):
        """Likewise."""
        self.fetch(records, None)

    def drop(self, task_id):
        """It is not kept."""


@pytest.fixture
def session():
    """Fresh."""
    return Session()


@pytest.fixture
def future(session):
    """One whose result is on some worker, so far."""
    record = Record(7, "data-7")
    record.status = FINISHED
    return Future(session, record)


def test_result(future):
    """`Future.result` raises what became of it; so it does the second time."""
    for _ in range(2):
        with pytest.raises(DataLostError, match="lost with the last worker"):
            future.result()


def test_comes_all_the_same(session, future):
    """`Future.result` is what its status says, where a value comes after it was cancelled."""
    fetch = session.fetcher.fetch_blocking

    def come(records, timeout):
        fetch(records, timeout)
        future._record.value = pickle.dumps(7)

    session.fetcher.fetch_blocking = come
    for _ in range(2):
        with pytest.raises(DataLostError):
            future.result()


def test_gather(session, future):
    """`unpack` raises it, or leaves it out, once the rest was fetched."""
    there = Future(session, Record(8, "x-8"))
    there._record.value = pickle.dumps(8)
    session.fetcher.fetch_blocking([future._record], None)
    with pytest.raises(DataLostError):
        op.unpack([there, future], skip=False)
    assert op.unpack([there, future], skip=True) == [8]


def test_executor(session, future):
    """An `Executor`'s future has that exception."""
    settled = []
    _when_settled(session, future._record, lambda *told: settled.append(told))
    ((value, problem),) = settled
    assert value is None
    assert isinstance(problem, DataLostError)
