"""Who may register, in memory."""

import pytest
from twisted.internet import task
from twisted.internet.testing import StringTransport

from tests.support.registering import expire, register_worker, silent_scheduler
from twisted_dist.core import invariants
from twisted_dist.errors import RefusedError


@pytest.fixture
def clock():
    """The time."""
    return task.Clock()


@pytest.fixture
def scheduler(clock):
    """One that listens nowhere."""
    return silent_scheduler(clock)


def register(scheduler, address, name):
    """A worker's stream, connected."""
    stream = register_worker(scheduler, address, name)
    stream.makeConnection(StringTransport())
    return stream


def test_a_name_is_taken(scheduler):
    """A second worker of one name is refused, with what to do."""
    register(scheduler, "h:1", "alice")
    with pytest.raises(RefusedError, match="another --name"):
        register(scheduler, "h:2", "alice")
    with pytest.raises(RefusedError, match="one thread at least"):
        register_worker(scheduler, "h:3", nthreads=0)
    with pytest.raises(RefusedError, match="not names with amounts"):
        register_worker(scheduler, "h:3", resources={"GPU": 0.5})
    assert len(scheduler.core.state.workers) == 1


def test_a_worker_that_comes_back_replaces_itself(scheduler, clock):
    """A worker whose connection broke unnoticed here may register anew, by its name too."""
    first = register(scheduler, "h:1", "alice")
    second = register(scheduler, "h:1", "alice")
    assert first.transport.disconnecting
    assert len(scheduler.core.state.workers) == 1
    first.connectionLost()
    invariants.check(scheduler.core.state)
    assert len(scheduler.core.state.workers) == 1
    second.connectionLost()
    assert all(each.is_cut for each in scheduler.core.state.workers.values())
    expire(clock)
    invariants.check(scheduler.core.state)
    assert not scheduler.core.state.workers
