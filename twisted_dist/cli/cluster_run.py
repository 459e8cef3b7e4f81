"""``dcluster`` in the foreground: a cluster that lives as long as this process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_dist.cli.cluster import Options
from twisted_dist.cli.cluster_watch import ClusterWatch
from twisted_dist.cli.log_files import LogFiles
from twisted_dist.errors import TwistedDistError
from twisted_dist.launchers.cluster.cluster import Cluster
from twisted_dist.launchers.cluster.plan import Plan
from twisted_dist.launchers.cluster.request import Request
from twisted_dist.launchers.screen import Screen, wants_colour
from twisted_dist.launchers.ssh.asking import TerminalAsker
from twisted_dist.version import VERSION

#: seconds in which signals are one: a terminal that closes sends several
ONE_SIGNAL_S: Final = 0.3


def banner(plan: Plan) -> list[str]:
    """What is shown first, as in 2016."""
    rule = "-" * 63
    hosts = [str(each.spec) for each in plan.places for daemon in each.daemons if daemon.nprocs]
    nodes = [f"  {number}: {host}" for number, host in enumerate(hosts)]
    return [
        rule,
        f"{f'twisted_dist v{VERSION}':^63}".rstrip(),
        "",
        "Worker nodes:",
        *nodes,
        f"Scheduler node: {plan.places[0].daemons[0].label.removeprefix('scheduler ')}",
        rule,
    ]


class ClusterRun:
    """One run of ``dcluster``, from its command line to its exit status."""

    def __init__(self, reactor: Any, options: Options, request: Request) -> None:
        self._reactor = reactor
        self._options = options
        self._plan = request.plan
        is_terminal = wants_colour(sys.stdout, os.environ)
        self._screen = Screen(sys.stdout, is_terminal)
        self._files = self._log_files()
        self._watch = ClusterWatch(self._screen, self._files, request.plan)
        asker = TerminalAsker(reactor, held=self._screen.hold)
        self._cluster = Cluster(reactor, request, asker, self._watch)
        self._told_at: float | None = None
        self._is_ending = False
        self.exit_status = 0

    def _log_files(self) -> LogFiles | None:
        given = self._options["log-directory"]
        if given is None:
            return None
        files = LogFiles(Path(given).expanduser(), self._complain)
        try:
            files.start()
        except OSError as problem:
            self._options.refuse(f"--log-directory: {problem.strerror}: {problem.filename}")
        return files

    def _complain(self, text: str) -> None:
        """From the thread of the files."""
        self._watch.say(text, is_error=True)

    def begin(self) -> None:
        """Start it, once the reactor runs."""
        self._screen.start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signalled)
        for each in banner(self._plan):
            self._screen.line(each)
        self._cluster.ended.addCallback(self._ended)
        self._cluster.start().addCallbacks(self._started, self._failed)

    def _started(self, address: str) -> None:
        registered = self._watch.registered
        self._watch.say(
            f'{registered} of {self._plan.workers} workers; Client("{address}") uses them; '
            "Ctrl-C ends them"
        )

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and self._is_ending:
            return
        if failure.check(TwistedDistError):
            self._problem(failure.getErrorMessage())
        else:
            self._problem(failure.getTraceback())
        self.end()

    def _problem(self, text: str) -> None:
        self.exit_status = 1
        self._watch.say(text, is_error=True)

    def _ended(self, why: str) -> None:
        """Somebody else has ended the network, or it cannot go on."""
        self._watch.say(why)
        self.end()

    def _signalled(self, number: int, frame: object) -> None:
        now = self._reactor.seconds()
        if self._told_at is None:
            self._told_at = now
            self._reactor.callFromThread(self.end)
        elif not 0 <= now - self._told_at < ONE_SIGNAL_S:
            # whatever runs there notices that nobody holds it any more
            os._exit(1)

    def end(self) -> None:
        """End what runs there, and then this."""
        if not self._is_ending:
            self._is_ending = True
            ending = Deferred.fromCoroutine(self._end())
            ending.addErrback(lambda failure: self._problem(failure.getTraceback()))
            ending.addBoth(self._stop)

    async def _end(self) -> None:
        self._watch.say("Shutting down remote processes (this may take a moment).")
        left = await self._cluster.end()
        if left:
            self.exit_status = 1
            hosts = ", ".join(left)
            self._watch.say(
                f"not known to have ended on {hosts}: what runs there ends by itself within "
                "about a minute",
                is_error=True,
            )
        else:
            self._watch.say("Remote processes have been terminated. Exiting.")

    def _stop(self, _: object) -> None:
        if self._files is not None:
            self._files.stop()
        self._screen.stop()
        self._reactor.stop()
