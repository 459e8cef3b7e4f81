"""Who may register, in memory."""

import pytest
from twisted.internet import task
from twisted.internet.testing import StringTransport

from twisted_dist.core import invariants
from twisted_dist.errors import RefusedError
from twisted_dist.services.scheduler import Scheduler


@pytest.fixture
def scheduler():
    """One that listens nowhere."""
    return Scheduler(reactor=task.Clock(), host="127.0.0.1", insecure=True)


def register(scheduler, address, name):
    """A worker's stream, connected."""
    stream = scheduler._register_worker(None, address, name, 1, {"GPU": 10_000})
    stream.makeConnection(StringTransport())
    return stream


def test_a_name_is_taken(scheduler):
    """A second worker of one name is refused, with what to do."""
    register(scheduler, "h:1", "alice")
    with pytest.raises(RefusedError, match="another --name"):
        register(scheduler, "h:2", "alice")
    with pytest.raises(RefusedError, match="one thread at least"):
        scheduler._register_worker(None, "h:3", "", 0, {})
    with pytest.raises(RefusedError, match="not names with amounts"):
        scheduler._register_worker(None, "h:3", "", 1, {"GPU": 0.5})
    assert len(scheduler.core.state.workers) == 1


def test_a_worker_that_comes_back_replaces_itself(scheduler):
    """A worker whose connection broke unnoticed here may register anew, by its name too."""
    first = register(scheduler, "h:1", "alice")
    second = register(scheduler, "h:1", "alice")
    assert first.transport.disconnecting
    assert len(scheduler.core.state.workers) == 1
    first.connectionLost()
    invariants.check(scheduler.core.state)
    assert len(scheduler.core.state.workers) == 1
    second.connectionLost()
    assert not scheduler.core.state.workers
