"""A daemon's life: bound ports, plain lines, signals, exit status."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer, stdio
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.errors import ConnectError


def port_number(text: str) -> int:
    """A port from an option; ValueError's words are shown to the user."""
    port = int(text)
    if not 0 <= port < 65536:
        raise ValueError(f"{port} is not a port: 0 to 65535")
    return port


def positive(text: str) -> int:
    """A count from an option."""
    number = int(text)
    if number < 1:
        raise ValueError("must be 1 or more")
    return number


def bind(program: str, host: str | None, port: int) -> socket.socket:
    """A listening socket, or the end of the program with one line that says why."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    try:
        sock.bind((host or "", port))
        sock.listen(1024)
    except OSError as problem:
        sock.close()
        why = problem.strerror or problem
        raise SystemExit(
            f"{program}: cannot listen on {host or '*'}:{port}: {why}; try another --port or --host"
        ) from None
    return sock


class Daemon(Service):  # type: ignore[misc]
    """Services of one process, from start to exit status.

    SIGINT and SIGTERM stop them and end with status 0 (a second one at once, with 1); so
    does the end of all of them by command.
    """

    log = Logger()

    def __init__(
        self, services: Sequence[Any], begin: Callable[[Daemon], None], watch_stdin: bool
    ) -> None:
        self._services = services
        self._begin = begin
        self._watch_stdin = watch_stdin
        self._ending = False
        self.exit_status = 0

    def announce(self, line: str) -> None:
        """One plain line on standard output, and in the log."""
        if sys.__stdout__ is not None:
            print(line, file=sys.__stdout__, flush=True)
        self.log.info("{line}", line=line)

    def failed(self, failure: Failure) -> None:
        """A start that failed: one line, and a non-zero end."""
        if self._ending and failure.check(ConnectError, defer.CancelledError):
            return
        print(f"cannot start: {failure.getErrorMessage()}", file=sys.__stderr__, flush=True)
        self.exit_status = 1
        self.end()

    def startService(self) -> None:
        """Begin once the reactor runs."""
        super().startService()
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._reactor.callWhenRunning(self._started)

    def _started(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        if self._watch_stdin:
            stdio.StandardIO(_StdinWatch(self.end), reactor=self._reactor)
        ended = defer.DeferredList([each.done for each in self._services])
        ended.addCallback(lambda _: self._stop_reactor())
        self._begin(self)

    def _signalled(self, number: int, frame: object) -> None:
        if self._ending:
            os._exit(1)
        self._reactor.callFromThread(self.end)

    def end(self) -> None:
        """Stop the services; their end stops the reactor."""
        if not self._ending:
            self._ending = True
            for each in self._services:
                each.stop().addErrback(lambda f: self.log.failure("stopping", failure=f))

    def _stop_reactor(self) -> None:
        self._ending = True
        if self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Any:
        """The reactor is stopping, by whatever cause: wait for the services."""
        super().stopService()
        return defer.DeferredList([each.stop() for each in self._services])


class _StdinWatch(Protocol):  # type: ignore[misc]
    def __init__(self, closed: Callable[[], None]) -> None:
        self._closed = closed

    def connectionLost(self, reason: Any = None) -> None:
        self._closed()
