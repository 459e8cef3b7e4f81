"""Options and service of ``dscheduler``."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted_dist.cli.daemon import Daemon, bind, tune_collector
from twisted_dist.cli.options import DaemonOptions, port_number
from twisted_dist.wire.dial import DEFAULT_PORT


class Options(DaemonOptions):
    """dscheduler [options]: the meeting point of a network."""

    program = "dscheduler"
    synopsis = "dscheduler [options]"
    longdesc = (
        "The meeting point of a network: workers and clients connect to it. Prints its "
        "address, which is what dworker and Client(...) take:  dworker 192.168.0.1:8786"
    )
    optParameters: ClassVar = [
        ["host", None, None, "Address to listen on and to be known by (default: every interface)"],
        ["port", None, DEFAULT_PORT, "Port to listen on; 0 takes any free one", port_number],
    ]
    optFlags: ClassVar = [
        ["until-stdin-closes", None, "End when standard input closes, as a launcher's child does"]
    ]


def makeService(options: Options) -> Any:
    """A scheduler on a port that is bound already; SystemExit where it is taken."""
    from twisted_dist.services.scheduler import Scheduler

    listening = bind(options.program, options["host"], options["port"], "--port")
    scheduler = Scheduler(host=options["host"])
    scheduler.adopt(listening)

    def begin(daemon: Daemon) -> None:
        def started(address: str) -> None:
            daemon.announce(f"Start scheduler at {address}")
            tune_collector()

        scheduler.start().addCallbacks(started, daemon.failed)

    return Daemon(options.program, [scheduler], begin, options["until-stdin-closes"])
