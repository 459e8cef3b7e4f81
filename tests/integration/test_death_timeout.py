"""Workers without a scheduler end by themselves, and say why."""

from __future__ import annotations

import pytest
from twisted.internet import defer

from tests.support.daemons import all_gone
from tests.support.misdeeds import SCHEDULER
from twisted_dist import ReactorThread, Worker
from twisted_dist.errors import ConnectError

pytestmark = pytest.mark.slow

NOBODY = "127.0.0.1:9"
#: a port that nobody listens on, and what is said of it
WHY = "dworker: a worker leaves: no scheduler at {} for 0.5 s (its death timeout)"


def told(worker):
    """The lines that are no log's."""
    return [line for line in worker.output() if line.startswith("dworker: ")]


@pytest.mark.parametrize("form", [(), ("twistd", "-n", "--pidfile=")], ids=" ".join)
@pytest.mark.parametrize("options", [(), ("--no-nanny",), ("--nprocs", "2")], ids=" ".join)
def test_never_reached(start, tmp_path, form, options):
    """`dworker --death-timeout` ends where no scheduler comes: one line, and status 1."""
    command = ("dworker", NOBODY, "--nthreads", "1", "--death-timeout", "500ms")
    worker = start(*form, *command, *options, cwd=tmp_path)
    assert worker.wait() == 1
    assert [line for line in told(worker) if "leaves" in line] == [WHY.format(NOBODY)]
    assert not any("cannot start" in line or "Traceback" in line for line in worker.lines)


def test_lost(start):
    """`dworker --death-timeout` counts from when the scheduler was there last."""
    scheduler = start(*SCHEDULER)
    address = scheduler.address("^Start scheduler at")
    worker = start("dworker", address, "--death-timeout", "0.5")
    worker.line("^Registered")
    family = worker.family()
    scheduler.process.kill()
    assert worker.wait() == 1
    assert told(worker) == [WHY.format(address)]
    assert all_gone(family)


def test_for_ever(start):
    """`dworker --death-timeout 0` waits for ever, as far as can be seen."""
    worker = start("dworker", NOBODY, "--death-timeout", "0")
    worker.line("waiting for")
    assert worker.process.poll() is None


def test_embedded():
    """`Worker` with a death timeout stops as a service does: `start` fails, and `done` fires."""
    with ReactorThread() as loop:

        async def run():
            worker = Worker(NOBODY, reactor=loop.reactor, insecure=True, death_timeout="300ms")
            said = []
            worker.left = said.append
            with pytest.raises(ConnectError):
                await worker.start(0)
            await worker.done
            return said

        def call():
            return defer.Deferred.fromCoroutine(run())

        assert loop.call(call) == [f"no scheduler at {NOBODY} for 0.3 s (its death timeout)"]
