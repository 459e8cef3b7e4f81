"""`wire.direct`: bytes that another thread writes, whole, once, in order, whatever happens."""

from __future__ import annotations

import gc
import itertools
import select
import socket
import sys
import threading
from contextlib import closing

import pytest
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import SUBMIT
from twisted_dist.client.outbox import Outbox
from twisted_dist.client.sender import Sender
from twisted_dist.wire.direct import DirectLine
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.session import StreamSession
from twisted_dist.wire.tls import TLSProtocol, tls_context
from twisted_dist.wire.transports import SocketTransport, write_now

HERE, THERE = Credential.make(SUBMIT), Credential.make(SUBMIT)


class Turns:
    """A reactor whose turns are taken by the test."""

    def __init__(self):
        self.writers = set()
        self.calls = []
        self._now = itertools.count(1)

    def seconds(self):
        """Each is long after the last."""
        return float(next(self._now))

    def addReader(self, reader):  # noqa: N802 -- of Twisted
        """All are read when there is something."""

    removeReader = addReader

    def addWriter(self, writer):  # noqa: N802 -- of Twisted
        """It has bytes to write."""
        self.writers.add(writer)

    def removeWriter(self, writer):  # noqa: N802 -- of Twisted
        """It has none."""
        self.writers.discard(writer)

    def callFromThread(self, function, *args):
        """Call it in the next turn."""
        self.calls.append((function, args))

    def callLater(self, delay, function, *args):
        """Never, here."""

    def take(self):
        """Make the calls, and write what is to be written."""
        calls, self.calls = self.calls, []
        for function, args in calls:
            function(*args)
        for writer in list(self.writers):
            writer.doWrite()


class Listener(Protocol):
    """Puts frames together again."""

    def __init__(self):
        self.frames = []
        self.lost = None
        self._decoder = FrameDecoder()

    def dataReceived(self, data):
        """Note what is complete."""
        self.frames += map(bytes, self._decoder.feed(data))

    def connectionLost(self, reason):
        """Note why."""
        self.lost = reason


class Ends:
    """A TCP connection whose one end writes directly; with TLS or without."""

    def __init__(self, tls):
        self.reactor = Turns()
        with socket.create_server(("127.0.0.1", 0)) as server:
            here = socket.create_connection(server.getsockname())
            there, _ = server.accept()
        for each in (here, there):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.setblocking(False)
        self.listener = Listener()
        self.stream = StreamSession((), None, lambda reason: None)
        talker, listener = self.stream.first_stream(), self.listener
        if tls:
            own = tls_context(HERE, [THERE.certificate], answers=False)
            other = tls_context(THERE, [HERE.certificate], answers=True)
            listener = TLSProtocol(other, listener, answers=True)
            talker = TLSProtocol(own, talker, answers=False)
        self.there = SocketTransport(self.reactor, there, listener)
        self.here = SocketTransport(self.reactor, here, talker)
        if tls:
            while not talker._is_secure:
                self.pump()
            self.pump()
        self.line = DirectLine(self.reactor, self.stream.transport)

    def pump(self):
        """Let everything arrive that is under way."""
        quiet = 0
        while quiet < 2:
            self.reactor.take()
            ends = [each for each in (self.here, self.there) if each.connected]
            ready, _, _ = select.select(ends, [], [], 0.01)
            for each in ready:
                why = each.doRead()
                if why is not None:
                    each.connectionLost(Failure(why))
            quiet = 0 if ready or self.reactor.writers or self.reactor.calls else quiet + 1

    def close(self):
        """Both ends."""
        for each in (self.here, self.there):
            if each.connected:
                each.socket.close()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def ends(request):
    """A connection."""
    ends = Ends(request.param)
    yield ends
    ends.close()


def test_written_at_once(ends):
    """`DirectLine.write` needs no turn of the reactor."""
    written = []
    ends.line.write(frame(b"now"), written)
    assert written
    assert not ends.reactor.calls
    assert not ends.reactor.writers
    while not ends.listener.frames:
        select.select([ends.there], [], [], 10)
        ends.there.doRead()
    assert ends.listener.frames == [b"now"]


def test_what_the_kernel_does_not_take(ends):
    """`DirectLine.write` queues the rest, and writes nothing while anything is queued."""
    sent = []
    for number in range(10_000):
        payload = b"%d" % number * 300
        written = []
        ends.line.write(frame(payload), written)
        if not written:
            break
        sent.append(payload)
    assert 1 < len(sent) < 10_000
    assert ends.reactor.calls  # the last one was not taken whole
    write_now(ends.stream.transport, frame(b"after"))  # the reactor's own goes behind it
    ends.pump()
    assert ends.listener.frames == [*sent, b"after"]
    ends.line.write(frame(b"free again"), written)
    assert written
    ends.pump()
    assert ends.listener.frames[-1] == b"free again"


def test_nothing_to_a_connection_that_ends(ends):
    """`DirectLine.write` leaves an ending connection alone, and one that is gone."""
    written = []
    ends.stream.transport.loseConnection()
    ends.line.write(frame(b"late"), written)
    ends.here.connectionLost(Failure(ends.here.doWrite()))
    ends.line.write(frame(b"later"), written)
    assert not written
    ends.pump()
    assert ends.listener.frames == []


def test_reset_while_it_writes(ends):
    """`DirectLine.write` leaves a broken connection to the transport, which finds out."""
    ends.there.socket.close()
    ends.there.connected = False
    for _ in range(5):
        written = []
        ends.line.write(frame(b"into nothing"), written)
        if ends.reactor.calls:
            break
        select.select([], [], [], 0.01)
    assert ends.reactor.calls
    (go_on, args), ends.reactor.calls = ends.reactor.calls[0], []
    go_on(*args)
    assert isinstance(ends.here.doWrite(), Exception)


def test_other_transports():
    """`DirectLine.write` does nothing with what is no connection of Twisted's."""
    written = []
    DirectLine(Turns(), object()).write(b"x", written)
    assert not written


def test_many_threads(ends):
    """Frames from several threads, and the reactor's among them, arrive whole, each once."""
    each, threads = 400, 4
    pause = threading.Event()

    def talk(which):
        for number in range(each):
            payload = b"%d-%d " % (which, number) * (1 + number % 50)
            written = []
            while not written:
                with ends.line.lock:
                    if which == 0:  # as the reactor's thread does
                        write_now(ends.stream.transport, frame(payload))
                        break
                    ends.line.write(frame(payload), written)
                pause.wait(0.001)

    def is_done():
        return len(ends.listener.frames) == each * threads

    talkers = [threading.Thread(target=talk, args=(n,)) for n in range(1, threads)]
    for thread in talkers:
        thread.start()
    talk(0)
    for _ in range(5000):
        ends.pump()
        if is_done():
            break
    for thread in talkers:
        thread.join()
    assert is_done()
    for which in range(threads):
        mine = [f for f in ends.listener.frames if f.startswith(b"%d-" % which)]
        assert mine == [b"%d-%d " % (which, n) * (1 + n % 50) for n in range(each)]


class Interrupt(BaseException):
    """As Ctrl-C raises."""


def interrupt_at(step):
    """Raise `Interrupt` where a signal's handler would: the *step*-th time that it could.

    Handlers run when a function of Python begins and when one of C has returned.
    """
    left = itertools.count(step, -1)

    def profile(frame, event, arg):
        if event in ("call", "c_return") and next(left) == 0:
            sys.setprofile(None)
            raise Interrupt

    sys.setprofile(profile)


@pytest.fixture
def _uncollected():
    """No collector: an interrupt in one of its callbacks reaches nobody (Hypothesis has one)."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("messages", [[b"once"], [b"once", b"and more"]], ids=["alone", "two"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.usefixtures("_uncollected")
def test_interrupted_anywhere(tls, messages):
    """Whenever Ctrl-C comes: a message is sent, or is still in the outbox; never both."""
    seen = set()
    for step in itertools.count():
        with closing(Ends(tls)) as ends:
            outbox = Outbox()
            sender = Sender(ends.reactor, outbox, None, None)
            sender.begin(ends.stream)
            for each in messages:
                outbox.put(each)
            came = False
            try:
                interrupt_at(step)
                sender.wake()
            except Interrupt:
                came = True
            finally:
                sys.setprofile(None)
            seen.add(bool(outbox._entries))
            ends.pump()
            sender.send(b"next")  # which takes what was left along
            ends.pump()
            assert ends.listener.frames == [*messages, b"next"], step
        if not came:
            break
    assert step > 5
    assert True in seen
    assert (False in seen) is (len(messages) == 1)
