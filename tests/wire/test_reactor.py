"""`wire.reactor`: turns, and the calls between them, of a reactor that is not installed."""

from __future__ import annotations

import socket
import sys

import pytest

from twisted_dist.wire.reactor import make_reactor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


class Reader:
    """A descriptor that can be read, and what is done when it is."""

    def __init__(self, do):
        self._here, self._there = socket.socketpair()
        self._there.send(b"x")
        self._do = do
        self.lost = None

    def fileno(self):
        """Of the end that is read."""
        return self._here.fileno()

    def doRead(self):
        """Take what is there."""
        self._here.recv(1)
        return self._do()

    def connectionLost(self, reason):
        """It was disconnected."""
        self.lost = reason
        self.close()

    def logPrefix(self):
        """For Twisted."""
        return "reader"

    def close(self):
        """Both ends."""
        self._here.close()
        self._there.close()


@pytest.fixture
def reactor():
    """One that polls when it is told to."""
    reactor = make_reactor()
    yield reactor
    for each in (*reactor.removeAll(), *reactor._internalReaders):
        if hasattr(each, "close"):
            each.close()
    reactor.waker.connectionLost(None)
    reactor._poller.close()


def add(reactor, *actions):
    """A reader for each action, all ready in one turn."""
    readers = [Reader(each) for each in actions]
    for each in readers:
        reactor.addReader(each)
    return readers


def test_turn_of_several(reactor):
    """What waits for the end of a turn is called once, after all that was ready."""
    seen = []

    def end():
        seen.append("end")

    def act():
        seen.append(reactor.call_after_turn(end))

    add(reactor, act, act, act)
    reactor.doPoll(0)
    assert seen == [True, True, True, "end"]


def test_turn_of_one(reactor):
    """What is alone in its turn has nothing to wait for, and neither has what is in none."""
    seen = []
    add(reactor, lambda: seen.append(reactor.call_after_turn(seen.clear)))
    reactor.doPoll(0)
    assert seen == [False]
    assert not reactor.call_after_turn(seen.clear)


def test_turn_with_failures(reactor):
    """A turn ends for those who wait for it, whatever fails in it, and so does the next."""
    seen = []

    def fail():
        raise ValueError("a handler")

    def wait():
        seen.append(reactor.call_after_turn(fail_late))
        reactor.call_after_turn(end)

    def fail_late():
        raise ValueError("at the end")

    def end():
        seen.append("end")

    failing, _ = add(reactor, fail, wait)
    reactor.doPoll(0)
    assert seen == [True, "end"]
    assert isinstance(failing.lost.value, ValueError)
    assert not reactor.call_after_turn(end)


def test_turn_that_breaks(reactor):
    """A protocol that fails while it is disconnected does not keep a turn from its end."""
    seen = []

    def broken(reason):
        raise ValueError("connectionLost")

    def wait():
        reactor.call_after_turn(lambda: seen.append("end"))

    closing, _ = add(reactor, lambda: ConnectionError("gone"), wait)
    closing.connectionLost = broken
    reactor.doPoll(0)
    assert seen == ["end"]
    assert not reactor.call_after_turn(seen.clear)
    closing.close()


def test_loop(reactor):
    """Calls come in their order, those from threads too, until the reactor is stopped."""
    seen = []

    def stop():
        seen.append("stop")
        reactor.stop()

    def more():
        seen.append("more")
        reactor.callLater(0, stop)

    reactor.callLater(0.02, more)
    reactor.callLater(0.01, seen.append, "first")
    cancelled = reactor.callLater(0.015, seen.append, "never")
    reactor.callFromThread(seen.append, "thread")
    reactor.callWhenRunning(cancelled.cancel)
    reactor.run(installSignalHandlers=False)
    assert seen == ["thread", "first", "more", "stop"]
