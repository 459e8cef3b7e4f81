"""`Journal`: a named pipe that a program writes what it says of itself to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: bytes of the end that are kept
KEPT_BYTES: Final = 16_384
_PIECE_BYTES: Final = 65_536


@implementer(IReadDescriptor)
class Journal:
    """Reads it until it is closed.

    It is open for writing here as well, so that it does not end with its first writer.

    Args:
        reactor: tells when there is something.
        path: where it is made.
        said: called with the end of what was said, whenever there is more.
    """

    def __init__(self, reactor: IReactorFDSet, path: str, said: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._path = path
        self._said = said
        self._text = b""
        os.mkfifo(path, 0o600)
        self._number = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        reactor.addReader(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self._number

    def doRead(self) -> None:
        """Something was said."""
        if self._take():
            self._said(self._text)

    def logPrefix(self) -> str:
        """For the reactor."""
        return "ssh"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor reads no more."""

    def close(self) -> bytes:
        """Read what is there; the end of all that was said. Idempotent."""
        if self._number >= 0:
            while self._take():
                pass
            self._reactor.removeReader(self)
            os.close(self._number)
            self._number = -1
            with contextlib.suppress(FileNotFoundError):  # /tmp is swept now and then
                os.unlink(self._path)
        return self._text

    def _take(self) -> bool:
        try:
            piece = os.read(self._number, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self._text = (self._text + piece)[-KEPT_BYTES:]
        return bool(piece)
