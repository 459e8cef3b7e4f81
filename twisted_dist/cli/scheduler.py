"""Options and service of ``dscheduler``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.python import usage

from twisted_dist.address import DEFAULT_PORT
from twisted_dist.cli.daemon import Daemon, checked_access, tune_collector, warn_insecure
from twisted_dist.cli.inherited import host_of, inherited_socket
from twisted_dist.cli.options import (
    FLAGS,
    HTTP_PORT,
    STDIN_SILENCE,
    DaemonOptions,
    port_number,
)
from twisted_dist.cli.ports import bind, bind_http
from twisted_dist.cli.standard_input import STDIN, read_line
from twisted_dist.cli.unit import socket_unit
from twisted_dist.core.scheduler import LEASE_S
from twisted_dist.errors import AccessError
from twisted_dist.services.lifetime import as_seconds

if TYPE_CHECKING:
    from twisted_dist.access.network import Network

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
        [
            "network-file",
            None,
            None,
            "The network to be, while this runs, as a file that holds one, or  -  for the first "
            "line of standard input; for launchers (default: the one in $TWISTED_DIST_HOME)",
        ],
        STDIN_SILENCE,
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
        if self["insecure"] and self["network-file"]:
            raise usage.UsageError("--insecure needs no --network-file: give one of them")


def _network(file: str | None) -> Network | None:
    """The network that was given; None where none was. Raises AccessError."""
    from twisted_dist.access.home import MAX_NETWORK_BYTES, Home, read_secret
    from twisted_dist.access.network import Network

    Home().prepare()
    if file is None:
        return None
    if file == STDIN:
        name, text = "standard input", read_line("a network")
    else:
        name, text = file, read_secret(Path(file).expanduser(), MAX_NETWORK_BYTES)
    try:
        return Network.load(text)
    except AccessError as problem:
        raise AccessError(f"{name}: {problem}") from None


def makeService(options: Options) -> Any:
    """A scheduler on a port that is bound already; SystemExit where it is taken."""
    from twisted.internet import reactor

    from twisted_dist.services.scheduler import Scheduler

    insecure = bool(options["insecure"])
    network = None
    if insecure:
        warn_insecure(options.program)
    else:
        network = checked_access(options.program, lambda: _network(options["network-file"]))
    host = options["host"]
    bound = inherited_socket(options.program, reactor)
    if bound is None:
        bound = bind(options.program, host, options["port"], "--port")
    else:
        host = host or host_of(bound)
    http = bind_http(options.program, options["http-port"], options["host"])
    scheduler = Scheduler(
        host=host,
        port=options["port"],
        insecure=insecure,
        network=network,
        lease_s=options["lease"],
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

    return Daemon(
        options.program,
        [scheduler],
        begin,
        options["until-stdin-closes"],
        http=http,
        silence_s=options["stdin-silence"],
    )
