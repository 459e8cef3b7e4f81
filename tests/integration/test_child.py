"""The nanny's child as a process of its own, spoken to as its nanny does."""

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from twisted_dist.execution import child
from twisted_dist.execution.channel import Channel
from twisted_dist.execution.status import StatusPage

pytestmark = pytest.mark.slow

#: seconds that a task of these tests takes when it is to be slow
SLOW_S = 0.7


class Child:
    """A child process and the nanny's end of its channel."""

    def __init__(self, nthreads):
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        with theirs, tempfile.TemporaryFile() as page:
            page.truncate(StatusPage.size(child.most_slots(nthreads)))
            fds = (theirs.fileno(), page.fileno())
            argv = [sys.executable, "-m", "twisted_dist.execution", *map(str, fds)]
            argv += [str(nthreads), str(os.getpid())]
            self.process = subprocess.Popen(argv, pass_fds=fds)
        self._sock = ours
        self.channel = Channel(ours)
        assert self.channel.receive()[:2] == [child.READY, self.process.pid]
        for digest, function in enumerate((time.sleep, abs, len)):
            self.channel.send([child.FUNCTION, bytes([digest]), pickle.dumps(function)])

    def run(self, digest, arguments, first=1):
        """Send calls of one function, with ids from *first* on."""
        ids = list(range(first, first + len(arguments)))
        calls = [pickle.dumps(((each,), {})) for each in arguments]
        self.channel.send([child.RUN, [[bytes([digest]), ids, [1] * len(ids), calls, []]], {}])

    def finished(self, count):
        """``{id: value}`` of the next *count* results, none raised."""
        values = {}
        while len(values) < count:
            kind, ids, _attempts, blobs, *_ = self.channel.receive()
            assert kind == child.FINISHED
            values.update(zip(ids, map(pickle.loads, blobs)))
        return values

    def close(self):
        """The nanny goes; the child must end by itself."""
        self._sock.close()
        return self.process.wait(30)


@pytest.fixture(params=[1, 2, 4])
def started(request):
    """A child of one, two or four slots."""
    one = Child(request.param)
    one.nthreads = request.param
    yield one
    one.close()
    one.process.kill()
    one.process.wait()


def test_batches_and_single_tasks(started):
    """`Child` runs batches and single tasks, whichever thread has read them."""
    started.run(1, list(range(-500, 0)))
    values = started.finished(500)
    for each in range(300):
        started.run(1, [-each], first=1000 + each)
        values.update(started.finished(1))
    assert values == {
        **{i: 501 - i for i in range(1, 501)},
        **{1000 + each: each for each in range(300)},
    }


def test_no_result_waits_for_a_slow_task(started):
    """`Child.watch` and `Child._lead` deliver what is done while another task runs."""
    slow_at = time.monotonic()
    calls = [0.0] * 5 * started.nthreads + [SLOW_S]
    started.run(0, calls)
    quick = started.finished(len(calls) - 1)
    assert time.monotonic() - slow_at < SLOW_S
    assert len(calls) not in quick
    assert started.finished(1) == {len(calls): None}


def test_a_free_slot_gets_work_while_others_run(started):
    """`Child` reads while slots are busy, so that a free one gets what comes."""
    for slot in range(started.nthreads - 1):
        started.run(0, [SLOW_S], first=slot + 1)
    for each in range(20):
        started.run(1, [-each], first=100 + each)
        if started.nthreads > 1:
            assert started.finished(1) == {100 + each: each}


def test_withdrawal_while_a_task_runs(started):
    """`Child.watch` reads a withdrawal while all slots are busy."""
    started.run(0, [SLOW_S] * started.nthreads + [0.0])
    last = started.nthreads + 1
    asked = time.monotonic()
    started.channel.send([child.DROP, [last]])
    assert started.channel.receive() == [child.DROPPED, [last]]
    assert time.monotonic() - asked < SLOW_S
    assert len(started.finished(started.nthreads)) == started.nthreads


def test_large_frames(started):
    """`Channel` takes a frame of megabytes, and small ones around it."""
    blobs = [b"x" * size for size in (10, 5_000_000, 20, 70_000)]
    for number, blob in enumerate(blobs):
        started.run(2, [blob], first=number + 1)
    assert started.finished(4) == {n: len(blob) for n, blob in enumerate(blobs, 1)}


def test_end_of_the_channel(started):
    """`Child` ends with its channel, idle or in the midst of a task."""
    started.run(0, [30.0])
    assert started.close() == 0
