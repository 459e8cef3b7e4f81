"""``dcluster --check``: whether all hosts can be used, as a table."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.cluster import Cluster
from twisted_dist.launchers.cluster.plan import Place
from twisted_dist.launchers.cluster.preparing import Looked
from twisted_dist.launchers.cluster.request import Request
from twisted_dist.launchers.cluster.watch import Stage
from twisted_dist.launchers.far_side.table import Row, entered_row, failed_row, table
from twisted_dist.launchers.screen import wants_colour
from twisted_dist.launchers.ssh.asking import TerminalAsker


class _Nobody:
    """A `Watch` for who waits for the table."""

    def line(self, label: str, text: str, is_error: bool) -> None:
        """As `Watch` says."""

    def stage(self, host: str, stage: Stage, detail: str = "") -> None:
        """As `Watch` says."""

    def note(self, host: str, text: str) -> None:
        """As `Watch` says."""


class ClusterCheck:
    """One run of ``dcluster --check``. Ends with status 1 where a host cannot be used."""

    def __init__(self, reactor: Any, request: Request) -> None:
        self._reactor = reactor
        self._places = request.plan.places
        self._cluster = Cluster(reactor, request, TerminalAsker(reactor), _Nobody())
        self._rows: dict[str, Row] = {}
        self.exit_status = 0

    def begin(self) -> None:
        """Look at the hosts, once the reactor runs."""
        looking = Deferred.fromCoroutine(self._cluster.examine(self._found))
        looking.addCallbacks(lambda _: self._show(), self._broken)
        looking.addBoth(lambda _: self._reactor.running and self._reactor.stop())

    def _found(self, place: Place, found: Looked | SSHError) -> None:
        name = str(place.spec)
        if isinstance(found, SSHError):
            problem = SSHError(str(found).removeprefix(f"{name}: "), found.kind)
            self._rows[name] = failed_row(name, problem)
        else:
            self._rows[name] = entered_row(name, found.report, found.problems, skew_s=found.skew_s)
        if sys.stderr.isatty():
            told = f"{len(self._rows)} of {len(self._places)} hosts"
            end = "\n" if len(self._rows) == len(self._places) else ""
            print(f"\r{told}", end=end, file=sys.stderr, flush=True)

    def _show(self) -> None:
        rows = [self._rows[str(place.spec)] for place in self._places]
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(table(rows, width, wants_colour(sys.stdout, os.environ)), end="", flush=True)
        bad = [row.host for row in rows if not row.is_good]
        good = len(rows) - len(bad)
        print(f"{good} of {len(rows)} hosts can be used")
        self.exit_status = 1 if bad else 0

    def _broken(self, failure: Failure) -> None:
        print(f"dcluster: {failure.getTraceback()}", file=sys.stderr)
        self.exit_status = 1
