"""Options and service of ``dscheduler``."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted_dist.address import DEFAULT_PORT
from twisted_dist.cli.daemon import Daemon, bind, checked_access, tune_collector, warn_insecure
from twisted_dist.cli.options import DaemonOptions, port_number


class Options(DaemonOptions):
    """dscheduler [options]: the meeting point of a network."""

    program = "dscheduler"
    synopsis = "dscheduler [options]"
    longdesc = (
        "The meeting point of a network: workers and clients connect to it. Prints its "
        "address, which is what dworker and Client(...) take:  dworker 192.168.0.1:8786  "
        "Only who holds a credential of it gets in; they are made at the first start and kept in "
        "$TWISTED_DIST_HOME (~/.twisted_dist), where workers and clients of this user find them. "
        "daccess makes others, for other machines and people."
    )
    optParameters: ClassVar = [
        ["host", None, None, "Address to listen on and to be known by (default: every interface)"],
        ["port", None, DEFAULT_PORT, "Port to listen on; 0 takes any free one", port_number],
    ]
    optFlags: ClassVar = [
        ["insecure", None, "No TLS, no credentials: whoever reaches the port may do everything"],
        ["until-stdin-closes", None, "End when standard input closes, as a launcher's child does"],
    ]


def makeService(options: Options) -> Any:
    """A scheduler on a port that is bound already; SystemExit where it is taken."""
    from twisted_dist.access.home import Home
    from twisted_dist.services.scheduler import Scheduler

    insecure = bool(options["insecure"])
    if insecure:
        warn_insecure(options.program)
    else:
        checked_access(options.program, Home().prepare)
    bound = bind(options.program, options["host"], options["port"], "--port")
    scheduler = Scheduler(host=options["host"], port=options["port"], insecure=insecure)
    scheduler.adopt(bound)

    def begin(daemon: Daemon) -> None:
        def started(address: str) -> None:
            daemon.announce(f"Start scheduler at {address}")
            if not insecure:
                daemon.announce(
                    f"To join from elsewhere:     daccess make worker {address} "
                    "--output FILE, then, there, dworker "
                    f"{address} --access-file FILE"
                )
            tune_collector()

        scheduler.start().addCallbacks(started, daemon.failed)

    return Daemon(options.program, [scheduler], begin, options["until-stdin-closes"])
