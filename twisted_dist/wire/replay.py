"""What was sent on a task stream and is not known to have arrived: kept, to be sent again.

Positions are bytes of the stream since its session began, whatever connections carried them.
Nothing is added to what is sent, and nothing is counted for a message of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted_dist.errors import ProtocolError


class Direct:
    """A chunk that another thread writes (`wire.direct`): it counts once *written* has anything.

    Ctrl-C may end that thread between any two steps. So it is here before it is written, and
    whether it was is read off what the write itself has left.
    """

    __slots__ = ("data", "written")

    def __init__(self, data: bytes, written: list[bytes]) -> None:
        self.data = data
        self.written = written


class Replay:
    """Chunks in the order in which they were sent, from the first that may not have arrived.

    Attributes:
        nbytes: of all that is kept, about.
    """

    def __init__(self) -> None:
        self._chunks: deque[Any] = deque()
        #: position of the first chunk
        self._start = 0
        self.nbytes = 0

    def add(self, data: bytes) -> None:
        """*data* is sent next."""
        self._chunks.append(data)
        self.nbytes += len(data)

    def add_direct(self, direct: Direct) -> None:
        """Another thread sends this next, or nothing."""
        self._chunks.append(direct)
        self.nbytes += len(direct.data)

    def arrived(self, position: int) -> None:
        """The peer has all before *position*.

        Raises:
            ProtocolError: it cannot have.
        """
        chunks = self._chunks
        while chunks:
            first = chunks[0]
            is_direct = type(first) is Direct
            data = first.data if is_direct else first
            length = len(data) if not is_direct or first.written else 0
            if self._start + length > position:
                return
            self._start += length
            self.nbytes -= len(data)
            chunks.popleft()
        self.nbytes = 0  # to the byte, where Ctrl-C has ended a thread before it had counted
        if self._start < position:
            raise ProtocolError(f"byte {position} is said to have arrived; {self._start} were sent")

    def after(self, position: int) -> bytes:
        """All that was sent from *position* on, once more.

        Raises:
            ProtocolError: that is not here any more, or was never sent.
        """
        self.arrived(position)
        if position < self._start:
            raise ProtocolError(f"byte {position} is asked for; {self._start} had arrived")
        parts = []
        for each in self._chunks:
            if type(each) is not Direct:
                parts.append(each)
            elif each.written:
                parts.append(each.data)
        return b"".join(parts)[position - self._start :]
