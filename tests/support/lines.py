"""Connections in memory with Twisted's own buffers: who writes too much is told, as by TCP."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.abstract import FileDescriptor
from twisted.python.failure import Failure


class Watcher:
    """What a descriptor asks a reactor: whether it wants to read, and to write."""

    def __init__(self):
        self.reading = set()
        self.writing = set()
        self.addReader = self.reading.add
        self.removeReader = self.reading.discard
        self.addWriter = self.writing.add
        self.removeWriter = self.writing.discard


class Line(FileDescriptor):
    """One end. Bytes go straight to the other, where that one reads: no kernel holds any.

    Attributes:
        most: bytes that ever waited here.
    """

    disconnecting = False

    def __init__(self, watcher):
        super().__init__(watcher)
        self.connected = 1
        self.most = 0
        self.protocol = None
        self.other = None

    def writeSomeData(self, data):
        """Hand over what a socket takes at once."""
        piece = bytes(data[: 2**16])
        self.other.protocol.dataReceived(piece)
        return len(piece)

    def write(self, data):
        """As Twisted's; remembers how much waits."""
        super().write(data)
        self.most = max(self.most, len(self.dataBuffer) - self.offset + self._tempDataLen)

    def move(self):
        """Write something, if there is anything and the other end reads; whether it did."""
        watcher = self.reactor
        if not self.connected or self not in watcher.writing or self.other not in watcher.reading:
            return False
        why = self.doWrite()
        if why is not None:
            self.lose(why)
        return True

    def lose(self, why):
        """Both ends are lost, this one first."""
        for each in (self, self.other):
            if each.connected:
                each.connectionLost(Failure(why))
                each.protocol.connectionLost(Failure(why))

    def abortConnection(self):
        """Close at once."""
        self.disconnecting = True
        self.lose(error.ConnectionAborted())

    def getPeer(self):
        """Its name in logs."""
        return "the other end"

    getHost = getPeer


class Net:
    """Lines, and all that moves on them."""

    def __init__(self):
        self.watcher = Watcher()
        self.lines = []

    def join(self, here, there):
        """Connect two protocols."""
        ends = Line(self.watcher), Line(self.watcher)
        for line, other, protocol in zip(ends, reversed(ends), (here, there)):
            line.other = other
            line.protocol = protocol
            self.lines.append(line)
            line.startReading()
        for line in ends:
            line.protocol.makeConnection(line)
        return ends

    def pump(self):
        """Move until nothing does."""
        while any([line.move() for line in self.lines]):
            pass
