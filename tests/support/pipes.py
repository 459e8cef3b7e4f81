"""Two stream sessions in memory, whose connections are cut wherever the test likes."""

from __future__ import annotations

from twisted.internet import error
from twisted.python.failure import Failure

from twisted_dist.wire import schema
from twisted_dist.wire.session import StreamSession

#: what the ends say to each other
WORD = schema.FUNCTION


class Pipe:
    """One end's transport: what is written waits in `out` until the test lets it through."""

    def __init__(self):
        self.out = bytearray()
        self.protocol = None
        self.disconnecting = self.aborted = False

    def write(self, data):
        """As ITransport's."""
        if not self.aborted:
            self.out += data

    def loseConnection(self):
        """As ITransport's."""
        self.disconnecting = True

    def abortConnection(self):
        """As ITCPTransport's."""
        self.aborted = self.disconnecting = True

    def getPeer(self):
        """What logs say."""
        return "a pipe"

    def lose(self):
        """Tell this end that the connection is lost."""
        protocol, self.protocol = self.protocol, None
        self.aborted = True
        if protocol is not None:
            protocol.connectionLost(Failure(error.ConnectionLost("cut")))


class End:
    """One side: its session, what it has sent and received, and what it was told."""

    def __init__(self, cuts=True):
        self.sent = []
        self.received = []
        self.lost = []
        self.cuts = []
        cut = self.cuts.append if cuts else None
        self.session = StreamSession((WORD.number,), self._take, self.lost.append, None, cut)
        self.pipe = None

    def _take(self, number, fields):
        self.received.append(fields["blob"])

    def say(self, size=3, flush=True):
        """Send a word of so many bytes."""
        blob = b"%d:" % len(self.sent) + b"x" * size
        self.sent.append(blob)
        self.session.send(WORD.pack(b"", "", blob))
        if flush:
            self.session.flush()

    def say_directly(self, writes):
        """Send a word as another thread does, or keep it as that does and write nothing."""
        blob = b"%d:directly" % len(self.sent)
        data = len(payload := WORD.pack(b"", "", blob)).to_bytes(4, "big") + payload
        written = []
        if self.session.direct(data, written) and writes:
            written.append(data)
            self.pipe.write(data)
            self.sent.append(blob)

    def plug(self, stream):
        """Give a stream its connection."""
        self.pipe = Pipe()
        self.pipe.protocol = stream
        stream.makeConnection(self.pipe)

    @property
    def is_on(self):
        """Whether it believes in its connection."""
        return self.session.stream is not None


class Pair:
    """The end that dials, and the end that is dialled."""

    def __init__(self):
        self.dialling, self.dialled = self.ends = End(), End()
        self.dialled.plug(self.dialled.session.first_stream())
        self.dialling.plug(self.dialling.session.first_stream())
        self._join()

    def _join(self):
        #: {an end's pipe: the other's}; those of earlier connections carry nothing any more
        self.joined = {
            self.dialling.pipe: self.dialled.pipe,
            self.dialled.pipe: self.dialling.pipe,
        }

    def other(self, end):
        """The other one."""
        return self.dialled if end is self.dialling else self.dialling

    def deliver(self, source, count=None):
        """Let up to *count* bytes through from one end; whether there were any."""
        pipe = source.pipe
        there = self.joined.get(pipe)
        if there is None or there.protocol is None or there.aborted:
            return False
        data = bytes(pipe.out[:count])
        del pipe.out[: len(data)]
        if data:
            there.protocol.dataReceived(data)
        return bool(data)

    def settle(self):
        """Let everything through, and end what is ending."""
        moved = True
        while moved:
            moved = any([self.deliver(each) for each in self.ends])
            for each in self.ends:
                there = self.joined.get(each.pipe)
                if each.pipe.protocol is None or not each.pipe.disconnecting:
                    continue
                if each.pipe.aborted or not each.pipe.out or there.protocol is None:
                    each.pipe.lose()
                    there.lose()
                    moved = True

    def cut(self, *ends):
        """Lose the connection; only *ends* hear of it, both by default."""
        self.joined = {}
        for each in ends or self.ends:
            each.pipe.lose()

    def ask(self):
        """The dialling end asks to go on: both have their streams, neither a connection."""
        received = self.dialling.session.arrived
        stream = self.dialling.session.resume()
        there = self.dialled.session.resumed(received)
        return stream, there

    def dial(self):
        """Go on, on another connection."""
        stream, there = self.ask()
        self.dialled.plug(there)
        self.dialling.plug(stream)
        self._join()
