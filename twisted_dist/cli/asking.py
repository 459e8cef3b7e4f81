"""`TerminalAsker`: questions to the person at the terminal, while the reactor goes on.

On ``/dev/tty`` and not on standard input, which may be a pipe: as ``ssh`` does. No thread waits
there: a terminal gives whole lines, so the reactor can.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import termios
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

TERMINAL: Final = "/dev/tty"
#: bytes of a line; terminals end them at 4,096
LINE_BYTES: Final = 65_536
#: where the flags of `termios.tcgetattr` that tell of echo are
_LOCAL: Final = 3
_YES = frozenset({"yes", "y"})
_NO = frozenset({"no", "n"})


class TerminalAsker:
    """An `Asker`, one question at a time, whoever asks.

    Where there is no terminal, or this process is in the background and may not read from it,
    the answers are None and False at once. Cancelled, or when the reactor or the interpreter
    ends, the terminal is left as it was.

    Args:
        reactor: waits for lines.
        held: called with True before a question is shown and with False after it was answered,
            so that others write nothing in between.
        path: the terminal.
    """

    def __init__(
        self,
        reactor: Any,
        held: Callable[[bool], None] = lambda _: None,
        path: str = TERMINAL,
    ) -> None:
        self._reactor = reactor
        self._held = held
        self._path = path
        self._turn = DeferredLock()

    async def secret(self, prompt: str) -> str | None:
        """A line that is not shown while it is typed; None where nobody answers."""
        async with self._terminal() as terminal:
            return None if terminal is None else await terminal.ask(prompt, is_shown=False)

    async def confirm(self, question: str) -> bool:
        """Whether the person writes ``yes``; asked until it is that or ``no``."""
        prompt = f"{question.rstrip().removesuffix('?')} (yes/no)? "
        async with self._terminal() as terminal:
            while terminal is not None:
                line = await terminal.ask(prompt, is_shown=True)
                answer = "no" if line is None else line.strip().lower()
                if answer in _YES | _NO:
                    return answer in _YES
                prompt = "Please type 'yes' or 'no': "
        return False

    @contextlib.asynccontextmanager
    async def _terminal(self) -> AsyncIterator[_Terminal | None]:
        await self._turn.acquire()
        try:
            number = _open(self._path)
            if number is None:
                yield None
                return
            self._held(True)
            try:
                yield _Terminal(self._reactor, number)
            finally:
                os.close(number)
                self._held(False)
        finally:
            self._turn.release()


def _open(path: str) -> int | None:
    """A terminal that we may read from; None where there is none."""
    try:
        number = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # in the background we would be stopped
        is_ours = os.isatty(number) and os.tcgetpgrp(number) == os.getpgrp()
    except OSError:
        # a terminal, but not the one that controls us
        is_ours = True
    if not is_ours:
        os.close(number)
        return None
    return number


@implementer(IReadDescriptor)
class _Terminal:
    """An open terminal, and the question on it."""

    def __init__(self, reactor: Any, number: int) -> None:
        self._reactor = reactor
        self._number = number
        self._line = b""
        self._answer: Deferred[bytes | None] = Deferred()

    async def ask(self, prompt: str, is_shown: bool) -> str | None:
        """The next line; None at the end of input."""
        try:
            before = termios.tcgetattr(self._number)
        except termios.error:
            return None
        now = [*before]
        now[_LOCAL] |= termios.ICANON | termios.ISIG
        if not is_shown:
            now[_LOCAL] = now[_LOCAL] & ~termios.ECHO | termios.ECHONL

        def restore() -> None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._number, termios.TCSAFLUSH, before)

        # without what was typed before there was a question
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._number, termios.TCSAFLUSH, now)
        atexit.register(restore)
        stopping = self._reactor.addSystemEventTrigger("before", "shutdown", restore)
        self._answer = Deferred()
        self._reactor.addReader(self)
        try:
            self._show(prompt)
            line = await self._answer
        finally:
            self._reactor.removeReader(self)
            # it has fired, where the reactor has stopped
            with contextlib.suppress(KeyError, ValueError, TypeError):
                self._reactor.removeSystemEventTrigger(stopping)
            atexit.unregister(restore)
            restore()
        if line is None:
            self._show("\n")
            return None
        return line.decode("utf-8", "replace")

    def _show(self, text: str) -> None:
        data = text.encode()
        while data:
            try:
                data = data[os.write(self._number, data) :]
            except OSError:
                # gone, or stopped by ^S: the rest of a question is not worth waiting for
                return

    # -- for the reactor

    def fileno(self) -> int:
        """The terminal."""
        return self._number

    def logPrefix(self) -> str:
        """For logs."""
        return "terminal"

    def doRead(self) -> None:
        """A line is there, or its beginning where ^D was typed, or the end."""
        try:
            piece = os.read(self._number, LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._line += piece
        if piece and not piece.endswith(b"\n") and len(self._line) < LINE_BYTES:
            return
        line, self._line = self._line, b""
        self._tell(line.rstrip(b"\r\n") if line else None)

    def connectionLost(self, reason: Failure) -> None:
        """The terminal was closed."""
        self._tell(None)

    def _tell(self, line: bytes | None) -> None:
        if not self._answer.called:
            self._answer.callback(line)
