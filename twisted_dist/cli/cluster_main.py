"""Entry of ``dcluster``: which of its commands is meant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted_dist.errors import TwistedDistError

if TYPE_CHECKING:
    from twisted_dist.launchers.cluster.record import Records


class Run(Protocol):
    """One run of a command."""

    exit_status: int

    def begin(self) -> None:
        """Begin, once the reactor runs."""


def main(words: Sequence[str], begin: Callable[[], None]) -> int:
    """Do what *words* say; the exit status.

    Args:
        words: of the command line.
        begin: installs the reactor, once the words are known to have a meaning.
    """
    command = _COMMANDS.get(words[0]) if words else None
    make = _start(words) if command is None else command(words[1:])
    if make is None:
        return 0
    begin()
    from twisted.internet import reactor

    running: Any = reactor
    try:
        run = make(running)
    except TwistedDistError as problem:
        return _refuse(problem)
    running.callWhenRunning(run.begin)
    running.run()
    return run.exit_status


def _refuse(problem: TwistedDistError) -> int:
    print(f"dcluster: {problem}", file=sys.stderr)
    return 1


Make = Callable[[Any], Run]


def _records() -> Records:
    from twisted_dist.launchers.cluster.record import Records

    return Records()


def _start(words: Sequence[str]) -> Make:
    """``dcluster HOST…``."""
    from twisted_dist.cli.cluster import Options

    options = Options()
    options.parseOptions(list(words))
    request = options.request()

    def make(reactor: Any) -> Run:
        if options["check"]:
            from twisted_dist.cli.cluster_check import ClusterCheck

            return ClusterCheck(reactor, request)
        if options["detach"]:
            from twisted_dist.cli.cluster_detached import DetachRun, new_record

            records = _records()
            return DetachRun(reactor, request, records, new_record(options, request, records))
        from twisted_dist.cli.cluster_run import ClusterRun

        return ClusterRun(reactor, options, request)

    return make


def _add(words: Sequence[str]) -> Make:
    from twisted_dist.cli.cluster import AddOptions

    options = AddOptions()
    options.parseOptions(list(words))
    request = options.request()

    def make(reactor: Any) -> Run:
        from twisted_dist.cli.cluster_detached import DetachRun

        records = _records()
        return DetachRun(reactor, request, records, records.find(options["cluster"]))

    return make


def _status(words: Sequence[str]) -> Make | None:
    from twisted_dist.cli.cluster_words import StatusOptions

    options = StatusOptions()
    options.parseOptions(list(words))
    records = _records()
    try:
        found = records.all() if options.name is None else [records.find(options.name)]
    except TwistedDistError as problem:
        raise SystemExit(_refuse(problem)) from None
    if not found:
        print("[]" if options["json"] else "there is no detached cluster of this user's here")
        return None

    def make(reactor: Any) -> Run:
        from twisted_dist.cli.cluster_status import ClusterStatus

        return ClusterStatus(reactor, found, bool(options["json"]))

    return make


def _down(words: Sequence[str]) -> Make:
    from twisted_dist.cli.cluster_words import DownOptions

    options = DownOptions()
    options.parseOptions(list(words))

    def make(reactor: Any) -> Run:
        from twisted_dist.cli.cluster_down import ClusterDown

        records = _records()
        return ClusterDown(reactor, records, records.find(options.name))

    return make


#: by the first word of the command line
_COMMANDS: Final[dict[str, Callable[[Sequence[str]], Make | None]]] = {
    "add": _add,
    "down": _down,
    "status": _status,
}
