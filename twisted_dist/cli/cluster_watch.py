"""`ClusterWatch`: shows a person what happens to the hosts of a cluster.

Lines of daemons have the prefix that they had in 2016, ``[ worker 192.168.0.2 ] : …``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

from attrs import frozen

from twisted_dist.cli.log_files import LogFiles
from twisted_dist.launchers.cluster.far_daemon import SCHEDULER_STARTED, WORKER_REGISTERED
from twisted_dist.launchers.cluster.plan import Daemon, Plan
from twisted_dist.launchers.cluster.watch import Stage
from twisted_dist.launchers.screen import Screen

OURSELVES: Final = "dcluster"
#: what is said of every host, on the lines; the table alone shows the rest
_TOLD: Final = frozenset({Stage.LOST, Stage.FAILED, Stage.ENDED})
#: and of these, why it is not as it should be, once until it is
_TOLD_WITH_A_REASON: Final = frozenset({Stage.CONNECTING, Stage.RESTARTING})
#: a cluster in this state needs no line for it in the table
_QUIET: Final = frozenset({Stage.UP, Stage.ENDED})


@frozen
class _Row:
    stage: Stage
    detail: str


class ClusterWatch:
    """A `Watch` that writes to a screen, and, where there is one, to a log directory.

    With a log directory, lines of daemons go there, and the screen has what they announce and
    what happens to hosts.

    Args:
        screen: for people.
        files: for lines.
        plan: what is to be there.
    """

    def __init__(self, screen: Screen, files: LogFiles | None, plan: Plan) -> None:
        self._screen = screen
        self._files = files
        self._daemons: dict[str, Daemon] = {
            each.label: each for place in plan.places for each in place.daemons
        }
        self._rows = {str(each.spec): _Row(Stage.WAITING, "") for each in plan.places}
        self._told: defaultdict[str, set[str]] = defaultdict(set)
        self._workers = {str(each.spec): each.workers for each in plan.places}
        #: lines in which workers have said that they were registered
        self.registered = 0
        screen.show_table(self.table)

    def say(self, text: str, *, is_error: bool = False) -> None:
        """A line of the launcher's own."""
        self._screen.line(f"[ {OURSELVES} ] : {text}", is_error=is_error)

    # -- as a Watch

    def line(self, label: str, text: str, is_error: bool) -> None:
        """As `Watch` says."""
        if text.startswith(WORKER_REGISTERED):
            self.registered += 1
        if self._files is not None:
            self._files.line(self._daemons[label].log_name, text)
            if not text.startswith((SCHEDULER_STARTED, WORKER_REGISTERED)):
                return
        self._screen.line(f"[ {label} ] : {text}", is_error=is_error)

    def stage(self, host: str, stage: Stage, detail: str = "") -> None:
        """As `Watch` says."""
        row = _Row(stage, detail.removeprefix(f"{host}: "))
        known, self._rows[host] = self._rows[host], row
        if not row.detail or row == known:
            return
        if stage in _TOLD:
            self.say(f"{host}: {stage.value}: {row.detail}", is_error=stage is not Stage.ENDED)
        elif stage in _TOLD_WITH_A_REASON and row.detail not in self._told[host]:
            self._told[host].add(row.detail)
            self.say(f"{host}: {row.detail}", is_error=True)
        if stage is Stage.UP:
            self._told[host].clear()

    def note(self, host: str, text: str) -> None:
        """As `Watch` says."""
        self.say(f"{host}: {text.removeprefix(f'{host}: ')}")

    # -- the table

    def table(self, width: int, height: int) -> list[str]:
        """The hosts that are not as they should be, and all of them in one line."""
        rows = dict(self._rows)
        counts = Counter(each.stage for each in rows.values())
        summary = ", ".join(f"{n} {stage.value}" for stage, n in counts.items())
        up = sum(self._workers[host] for host, each in rows.items() if each.stage is Stage.UP)
        total = sum(self._workers.values())
        lines = []
        odd = [(host, each) for host, each in rows.items() if each.stage not in _QUIET]
        most = max(1, height // 3)
        shown = odd if len(odd) <= most else odd[: most - 1]
        column = max((len(host) for host, _ in shown), default=0)
        for host, each in shown:
            lines.append(f"  {host:{column}}  {each.stage.value:13}  {each.detail}")
        if len(shown) < len(odd):
            lines.append(f"  and {len(odd) - len(shown)} more")
        ends = "; Ctrl-C ends it" if not odd else ""
        lines.append(f"-- {up} of {total} workers; hosts: {summary}{ends}")
        return [each[: width - 1] for each in lines]
