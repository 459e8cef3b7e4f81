"""A daemon's life: bound ports, plain lines, signals, exit status."""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.cli.standard_input import StdinWatch, takes_a_line
from twisted_dist.cli.supervision import Supervisor
from twisted_dist.errors import AccessError, ConnectError

if TYPE_CHECKING:
    from twisted_dist.cli.draining import Draining

T = TypeVar("T")

#: files that a daemon lets itself open: more members than one scheduler can serve
MOST_FILES: Final = 65536
#: seconds in which signals are one: timeout(1), and others that pass signals on, send each to
#: the process and to its group
ONE_SIGNAL_S: Final = 0.3
#: seconds after which somebody who has pressed Ctrl-C wonders why nothing happens
WONDER_S: Final = 0.5
#: seconds that it takes to stop when nothing is waited for any more, at most
STOP_S: Final = 15.0


def checked_access(program: str, check: Callable[[], T]) -> T:
    """What *check* gives, or the end of the program with one line that says why."""
    try:
        return check()
    except AccessError as problem:
        raise SystemExit(f"{program}: {problem}") from None


def warn_insecure(program: str) -> None:
    """Say loudly what ``--insecure`` means, on standard error and so in the log too."""
    line = (
        f"{program}: INSECURE: no TLS and no credentials; whoever reaches this port can run code "
        "as this user. Leave --insecure out to close it."
    )
    if sys.__stderr__ is not None:
        print(line, file=sys.__stderr__, flush=True)


def allow_files() -> None:
    """Let this process open as many files as the system lets it, within reason.

    Every member is a connection, and 1,024, the usual limit, were made for `select`. What
    it starts inherits that, as it does from a shell where somebody has said ``ulimit -n``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def tune_collector() -> None:
    """Collect seldom: daemons have tables of many objects that live long, and few cycles.

    A full collection of a million tasks is seconds of silence. Only for daemons: a process
    that embeds a service keeps its own settings.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class Daemon(Service):
    """Services of one process, from start to exit status.

    SIGINT and SIGTERM drain them, where there is something to drain, stop them and end with
    status 0 (a second one at once, with 1); so does the end of all of them by command.

    Args:
        program: its name.
        services: whose end is its own.
        begin: called once the reactor runs.
        watch_stdin: the end of standard input stops it, without draining.
        silence_s: so does silence there, for so many seconds; None where silence says nothing.
        draining: what to do first when it is told to end by a signal.
        http: a bound socket to say on whether all is well.
    """

    log = Logger()

    def __init__(
        self,
        program: str,
        services: Sequence[Any],
        begin: Callable[[Daemon], None],
        watch_stdin: bool,
        draining: Draining | None = None,
        http: socket.socket | None = None,
        silence_s: float | None = None,
    ) -> None:
        self.program = program
        self._services = services
        self._begin = begin
        self._watch_stdin = watch_stdin
        self._silence_s = silence_s
        self._draining = draining
        self._http = http
        #: when it was told to end, by whatever
        self._told_at: float | None = None
        self._ending = False
        self._noted: set[str] = set()
        self.exit_status = 0

    def announce(self, line: str) -> None:
        """One plain line on standard output, and in the log."""
        if sys.__stdout__ is not None:
            print(line, file=sys.__stdout__, flush=True)
        self.log.info("{line}", line=line)

    def ready(self, status: str) -> None:
        """The services are there for others: whoever watches this process may know."""
        self._supervisor.ready(status)
        if self._http is not None:
            # only for those who want it: twisted.web takes longer to import than to use
            from twisted_dist.services.health import serve_health

            http, self._http = self._http, None
            where = serve_health(self._reactor, http, lambda: self._told_at is None)
            self.announce(f"Health at:                  {where}")

    def status(self, text: str) -> None:
        """What it is at, for whoever watches."""
        self._supervisor.status(text)

    def failed(self, failure: Failure) -> None:
        """A start that failed: one line, and a non-zero end."""
        is_leaving = self._told_at is not None or self._noted
        if is_leaving and failure.check(ConnectError, defer.CancelledError):
            return
        self.note_failure(f"cannot start: {failure.getErrorMessage()}")
        self.end()

    def note_failure(self, problem: str) -> None:
        """Something that ends this program with a non-zero status, once it ends: one line.

        What several services have in common is said once.
        """
        if problem in self._noted:
            return
        self._noted.add(problem)
        line = f"{self.program}: {problem}"
        if sys.__stderr__ is not None:
            print(line, file=sys.__stderr__, flush=True)
        self.log.error("{line}", line=line, told=True)
        self.exit_status = 1
        # twistd ends with status 0 whatever happened; atexit comes after its pid file is gone
        atexit.register(_exit, self.exit_status)

    def startService(self) -> None:
        """Begin once the reactor runs."""
        super().startService()
        allow_files()
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._supervisor = Supervisor(reactor, os.environ)
        self._reactor.callWhenRunning(self._started)

    def _started(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        if self._watch_stdin:
            StdinWatch(self._reactor, self.end, self._fell_silent, self._silence_s).start()
        ended = defer.DeferredList([each.done for each in self._services])
        ended.addCallback(lambda _: self._stop_reactor())
        self._begin(self)

    def _signalled(self, number: int, frame: object) -> None:
        now = self._reactor.seconds()
        if self._told_at is None:
            self._told_at = now
            self._reactor.callFromThread(self._leave)
        elif not 0 <= now - self._told_at < ONE_SIGNAL_S:
            os._exit(1)

    def _leave(self) -> None:
        """Let the services end what they are at, within some time, and stop them.

        Who is ended by a signal may be started again: a scheduler's members wait for that. A
        launcher's child is not.
        """
        for each in self._services:
            each.returns = not self._watch_stdin
        if self._draining is None or not self._draining.timeout_s:
            self.end()
        elif not self._ending:
            self._supervisor.stopping(self._draining.timeout_s + STOP_S)
            self._reactor.callLater(WONDER_S, self._say_what_for, self._draining)
            self._draining.begin()

    def _say_what_for(self, draining: Draining) -> None:
        if not self._ending:
            self.announce(f"{self.program}: {draining.told()}")

    def end(self) -> None:
        """Stop the services now; their end stops the reactor."""
        if self._told_at is None:
            self._told_at = self._reactor.seconds()
        if not self._ending:
            self._ending = True
            self._supervisor.stopping(STOP_S)
            for each in self._services:
                each.stop().addErrback(lambda f: self.log.failure("stopping", failure=f))

    def _fell_silent(self, line: str) -> None:
        """Who started this is gone, and perhaps nobody takes its output: end, then say so."""
        self.end()
        if takes_a_line(2):
            self.note_failure(line)

    def _stop_reactor(self) -> None:
        self._ending = True
        self._supervisor.stopping(STOP_S)
        if self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Any:
        """The reactor is stopping, by whatever cause: wait for the services."""
        super().stopService()
        return defer.DeferredList([each.stop() for each in self._services])


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
