"""`client.fetching`: results are brought here from their workers, or it is said why not."""

from __future__ import annotations

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from twisted_dist.client.fetching import ATTEMPTS, FIRST_PAUSE_S, Fetcher
from twisted_dist.client.future import Record
from twisted_dist.errors import ConnectError, ConnectionClosedError

#: until all rounds are over
ALL_S = FIRST_PAUSE_S * 2**ATTEMPTS


class Gone:
    """Connections to workers, none of which answers."""

    async def connection(self, address):
        """Refused."""
        raise ConnectError(f"{address} is not there")


@pytest.fixture
def clock():
    """Time."""
    return Clock()


@pytest.fixture
def record():
    """A result that is said to be on a worker."""
    return Record(7, "x-7")


@pytest.fixture
def fetching(clock, record):
    """It is being fetched; nobody gives it."""

    async def locate(ids):
        return [("10.0.0.1:1", ids)], []

    fetcher = Fetcher(clock, Gone(), locate)
    return defer.Deferred.fromCoroutine(fetcher.fetch([record]))


def outcome(deferred):
    """What it has come to."""
    found = []
    deferred.addBoth(found.append)
    return found


def test_nobody_gives_it(clock, fetching):
    """After some rounds that is said, with the reason."""
    found = outcome(fetching)
    clock.pump([0.1] * int((ALL_S + 2) * 10))
    assert found[0].check(ConnectError)
    assert "10.0.0.1:1 is not there" in found[0].getErrorMessage()


def test_lost_in_the_last_pause(clock, record, fetching):
    """What was found lost before that is not said to be out of reach: its error says more."""
    found = outcome(fetching)
    clock.pump([0.1] * int((ALL_S / 2 + 1) * 10))
    assert not found
    record.error = ("data-lost", b"", "it was lost with its worker")
    clock.pump([1.0] * int(ALL_S))
    assert found == [None]


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_scheduler_goes_meanwhile(clock, record, is_lost):
    """That is said, unless it is known by then what became of the result."""
    asked = defer.Deferred()
    fetcher = Fetcher(clock, Gone(), lambda ids: asked)
    found = outcome(defer.Deferred.fromCoroutine(fetcher.fetch([record])))
    if is_lost:
        record.error = ("data-lost", b"", "it was lost with its worker")
    asked.errback(ConnectionClosedError("no answer"))
    if is_lost:
        assert found == [None]
    else:
        assert found[0].check(ConnectionClosedError)
