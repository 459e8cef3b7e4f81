"""Sends what a client's session has to say, in order: its outbox, and what it releases.

Whatever gathers is sent together, by the reactor's thread, which is woken once for it. What
is alone is sent by the thread that it comes from: somebody may be waiting for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted_dist.aliases import TaskId
from twisted_dist.client.outbox import Ids, Outbox
from twisted_dist.errors import ConnectionClosedError
from twisted_dist.wire import schema
from twisted_dist.wire.direct import DirectLine
from twisted_dist.wire.frames import frame
from twisted_dist.wire.session import StreamSession

#: seconds that released ids may gather before they are told, and how many: a message for
#: each would be a third of a small task's cost
RELEASE_DELAY_S: Final = 0.05
RELEASE_AT_ONCE: Final = 10_000
#: seconds since the last message after which one is alone: as long as the reactor's thread
#: takes to wake, send, and come back for what has gathered in the meantime
ALONE_S: Final = 0.0002
#: bytes that the kernel may well take at once
DIRECT_BYTES: Final = 16 * 1024


class Sender:
    """What a session sends. Methods are thread-safe unless they say otherwise.

    Args:
        reactor: the session's.
        outbox: filled by others.
        forget: called with the id of each task that is released; whether it was known.
        unsent: called when the outbox cannot be sent since the connection is gone.
    """

    def __init__(
        self,
        reactor: Any,
        outbox: Outbox,
        forget: Callable[[TaskId], bool],
        unsent: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._outbox = outbox
        self._forget = forget
        self._unsent = unsent
        self._stream: StreamSession | None = None
        self._line: DirectLine | None = None
        #: held while the connection is written to, whichever it is
        self._writing = threading.RLock()
        self._lock = threading.Lock()
        self._woken = False
        self._last = 0.0
        self._dropped: deque[TaskId] = deque()
        self._releasing: Any = None
        self._closed = False
        #: there is no scheduler to tell of releases any more
        self._is_lost = False

    @property
    def unsent(self) -> int:
        """Bytes that the scheduler has not acknowledged, about."""
        stream = self._stream
        return self._outbox.nbytes + (stream.kept if stream is not None else 0)

    def begin(self, stream: StreamSession) -> None:
        """Send to the scheduler at the other end of *stream*; in the reactor's thread."""
        self._is_lost = False
        self._stream = stream
        stream.lock = self._writing
        self.attach()
        if self._releasing is None:
            self._release_tick()

    def attach(self) -> None:
        """There is a connection, or another one; in the reactor's thread."""
        if self._stream is not None and self._stream.transport is not None:
            self._line = DirectLine(self._reactor, self._stream.transport)

    def detach(self) -> None:
        """There is none for the moment; in the reactor's thread."""
        self._line = None

    def pause(self) -> None:
        """The scheduler knows nothing of this client any more; another one will, maybe."""
        self._stream = self._line = None

    def lose(self) -> None:
        """The connection is gone; in the reactor's thread."""
        self._stream = self._line = None
        self._is_lost = True
        self._forget_dropped()

    def close(self) -> None:
        """Send what is there, and take no more; in the reactor's thread."""
        self._closed = True
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None
        if self._stream is not None:
            self.drain()  # what was asked in this turn of the reactor counts as well

    def send(self, payload: bytes) -> None:
        """Send a message."""
        self._outbox.put(payload)
        self.wake()

    def wake(self) -> None:
        """See that what is in the outbox is sent; for after it was put there.

        Raises:
            ConnectionClosedError: the client was closed.
        """
        if self._closed:
            raise ConnectionClosedError("this client was closed")
        if self._line is not None and self._send_alone(self._line):
            return
        try:
            with self._lock:
                if self._woken:
                    return
                self._woken = True
            self._reactor.callFromThread(self.drain)
        except BaseException:  # Ctrl-C: the next one wakes it
            self._woken = False
            raise

    def _send_alone(self, line: DirectLine) -> bool:
        """Send what is in the outbox, if it is one small message and comes alone."""
        now = self._reactor.seconds()
        alone, self._last = now - self._last > ALONE_S, now
        if not alone or self._woken:
            return False
        with self._writing, line.lock:
            stream = self._stream
            if line is not self._line or stream is None or self._closed:
                return False
            entries = self._outbox.alone(DIRECT_BYTES)
            if entries is None:
                return False
            written: list[bytes] = []
            data = frame(entries[0])
            if not stream.direct(data, written):
                return False
            try:
                line.write(data, written)
            finally:
                if written:
                    del entries[0]
        return bool(written)

    def drain(self, at_least: int = RELEASE_AT_ONCE) -> None:
        """Send the outbox, and releases if *at_least* so many have gathered.

        In the reactor's thread.
        """
        with self._lock:
            self._woken = False
        stream = self._stream
        if stream is None:
            if self._is_lost:
                self._outbox.clear()
                self._unsent()
            return
        with self._writing:
            # counted first: whatever needs these was put into the outbox before they were dropped
            dropped = len(self._dropped)
            for payload in self._outbox.take():
                stream.send(payload)
            if dropped >= at_least:
                self._send_dropped(stream, dropped)
            stream.flush()

    # -- releases

    def drop(self, task_id: TaskId) -> None:
        """A future was garbage collected; told to the scheduler a little later."""
        self._dropped.append(task_id)
        if self._is_lost:
            self._forget_dropped()

    def _forget_dropped(self) -> None:
        """Let go of what was released, large results among it, though nobody can be told."""
        with suppress(IndexError):
            while True:
                self._forget(self._dropped.popleft())

    def _send_dropped(self, stream: StreamSession, count: int) -> None:
        ids = []
        for _ in range(count):
            task_id = self._dropped.popleft()
            if self._forget(task_id):
                ids.append(task_id)
        if ids:
            stream.send_all(schema.RELEASE.encode(Ids(ids)))

    def _release_tick(self) -> None:
        self._releasing = self._reactor.callLater(RELEASE_DELAY_S, self._release_tick)
        self.tell_releases()

    def tell_releases(self) -> None:
        """Tell the scheduler what was released by now; in the reactor's thread."""
        if self._dropped and self._stream is not None:
            self.drain(at_least=1)
