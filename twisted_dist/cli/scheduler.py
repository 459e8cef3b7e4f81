"""Options and service of ``dscheduler``."""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from twisted_dist.cli.daemon import Daemon, bind, port_number


class Options(usage.Options):  # type: ignore[misc]
    """dscheduler [options]: the meeting point of a network."""

    synopsis = "dscheduler [options]"
    optParameters = [  # noqa: RUF012 - Twisted's interface
        ["host", None, None, "Address to listen on and to be known by (default: every interface)"],
        ["port", None, 8786, "Port to listen on; 0 takes any free one", port_number],
    ]
    optFlags = [["until-stdin-closes", None, "End when standard input closes"]]  # noqa: RUF012


def makeService(options: Options) -> Any:
    """A scheduler on a port that is bound already; SystemExit where it is taken."""
    from twisted_dist.services.scheduler import Scheduler

    listening = bind("dscheduler", options["host"], options["port"])
    scheduler = Scheduler(host=options["host"])
    scheduler.adopt(listening)

    def begin(daemon: Daemon) -> None:
        def started(address: str) -> None:
            daemon.announce(f"Start scheduler at {address}")

        scheduler.start().addCallbacks(started, daemon.failed)

    return Daemon([scheduler], begin, options["until-stdin-closes"])
