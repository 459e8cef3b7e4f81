"""Members that register with a `Scheduler` that listens nowhere."""

from random import Random

from twisted.internet import task
from twisted.internet.testing import StringTransport

from twisted_dist.access.roles import ADMIN
from twisted_dist.core.scheduler import LEASE_S
from twisted_dist.services.scheduler import Scheduler

#: what somebody says who was never welcome
NEVER = {"life": b"", "generation": 0, "peers": 0}


class FromOne(Random):
    """Chance that draws the lowest number: the first member is called 1."""

    def randrange(self, *args, **kwargs):
        """One."""
        return 1


class Greeted:
    """A connection that has said hello."""

    certificate = None
    role = ADMIN

    def __init__(self):
        self.transport = StringTransport()


def silent_scheduler(clock=None):
    """One that listens nowhere, and calls its first member 1."""
    clock = clock if clock is not None else task.Clock()
    scheduler = Scheduler(reactor=clock, host="127.0.0.1", insecure=True, chance=FromOne())
    scheduler._members.begin()
    return scheduler


def register_worker(scheduler, address, name="", nthreads=1, resources=None, **earlier):
    """A worker's stream."""
    said = {**NEVER, **earlier}
    members = scheduler._members
    resources = {"GPU": 10_000} if resources is None else resources
    return members._register_worker(Greeted(), address, name, nthreads, resources, **said)


def register_client(scheduler, name, index=0, **earlier):
    """A client's stream."""
    return scheduler._members._register_client(Greeted(), name, index, **{**NEVER, **earlier})


def expire(clock):
    """Let the time pass after which who is not there is given up."""
    clock.pump([1.0] * int(LEASE_S + 1))
