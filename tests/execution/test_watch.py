"""`Child.watch`: who reads while all slots are busy."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

import pytest

from twisted_dist.execution import child
from twisted_dist.execution.channel import Channel
from twisted_dist.execution.status import StatusPage


class BusyPool:
    """A pool whose slot looked idle once, and had been given a task."""

    def __init__(self):
        self._looks = iter([True])

    @property
    def idle(self):
        """Once."""
        return next(self._looks, False)

    def start(self):
        """Nothing runs."""

    def look(self):
        """The slot is busy."""

    def flush(self):
        """Nothing is done."""

    def drop(self, ids):
        """None had begun."""
        return ids


@pytest.fixture
def nanny(monkeypatch):
    """A nanny's end of the channel to a child that watches, in a thread."""

    def end(status):
        raise SystemExit

    monkeypatch.setattr(child, "_leave", end)
    here, there = socket.socketpair()
    status = StatusPage(-1, child.most_slots(4))
    watched = child.Child(there, status, 4)
    watched._pool = BusyPool()
    watched._alarm.set()

    def watch():
        with contextlib.suppress(SystemExit):
            watched.watch()

    thread = threading.Thread(target=watch)
    thread.start()
    with here, there:
        yield here, Channel(here)
        here.shutdown(socket.SHUT_WR)
        thread.join(10)
        assert not thread.is_alive()


def test_slot_that_only_looked_idle(nanny):
    """What comes is read, though the slot that was to read was just given a task."""
    sock, channel = nanny
    assert channel.receive()[0] == child.READY
    channel.send([child.DROP, [7]])
    assert select.select([sock], [], [], 10)[0], "nobody reads"
    assert channel.receive() == [child.DROPPED, [7]]
