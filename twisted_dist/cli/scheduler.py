"""Options and service of ``dscheduler``."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from twisted_dist.address import DEFAULT_PORT
from twisted_dist.cli.daemon import Daemon, checked_access, tune_collector, warn_insecure
from twisted_dist.cli.inherited import host_of, inherited_socket
from twisted_dist.cli.options import FLAGS, HTTP_PORT, DaemonOptions, port_number
from twisted_dist.cli.ports import bind, bind_http
from twisted_dist.cli.unit import socket_unit
from twisted_dist.core.scheduler import LEASE_S
from twisted_dist.services.lifetime import as_seconds

#: seconds: less would give up members whose connection is still taken to be alive
LEAST_LEASE_S: Final = 20.0


def lease(text: str) -> float:
    """A lease from an option; ValueError's words are shown to the user."""
    seconds = as_seconds(text)
    if seconds < LEAST_LEASE_S:
        raise ValueError(f"{text!r} is too short for a lease: {LEAST_LEASE_S:g} s at least")
    return seconds


class Options(DaemonOptions):
    """dscheduler [options]: the meeting point of a network."""

    program = "dscheduler"
    description = "Scheduler of a twisted_dist network"
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
        [
            "lease",
            None,
            LEASE_S,
            "A worker or client that was not heard of for so long is given up: 60, '2 min'; 20 s "
            "at least, as a silent connection is dialled again after 15",
            lease,
        ],
        HTTP_PORT,
    ]
    optFlags: ClassVar = [
        ["insecure", None, "No TLS, no credentials: whoever reaches the port may do everything"],
        *FLAGS,
        ["print-socket-unit", None, "Print a unit for systemd that listens for this scheduler"],
    ]

    def postOptions(self) -> None:
        """What is only to be printed."""
        if self["print-socket-unit"]:
            print(socket_unit(self["host"], self["port"]), end="")
            raise SystemExit(0)


def makeService(options: Options) -> Any:
    """A scheduler on a port that is bound already; SystemExit where it is taken."""
    from twisted.internet import reactor

    from twisted_dist.access.home import Home
    from twisted_dist.services.scheduler import Scheduler

    insecure = bool(options["insecure"])
    if insecure:
        warn_insecure(options.program)
    else:
        checked_access(options.program, Home().prepare)
    host = options["host"]
    bound = inherited_socket(options.program, reactor)
    if bound is None:
        bound = bind(options.program, host, options["port"], "--port")
    else:
        host = host or host_of(bound)
    http = bind_http(options.program, options["http-port"], options["host"])
    scheduler = Scheduler(
        host=host, port=options["port"], insecure=insecure, lease_s=options["lease"]
    )
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
            daemon.ready(f"listening at {address}")
            tune_collector()

        scheduler.start().addCallbacks(started, daemon.failed)

    return Daemon(options.program, [scheduler], begin, options["until-stdin-closes"], http=http)
