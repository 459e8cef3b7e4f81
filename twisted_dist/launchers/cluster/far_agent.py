"""The launcher's talk with an agent: start it, ask how it is, have it end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet import defer

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.agent import SETTLE_S
from twisted_dist.launchers.cluster.lines import Lines
from twisted_dist.launchers.cluster.orders import Orders, heard
from twisted_dist.launchers.far_side.command import Surroundings, remote_command
from twisted_dist.launchers.far_side.probe import silence
from twisted_dist.launchers.ssh.interface import Connection
from twisted_dist.launchers.ssh.running import run

WORDS: Final = ("-m", "twisted_dist.cli", "agent")
#: seconds in which an agent reports: its own bounds, and an activation
REPORT_S: Final = SETTLE_S + 90.0
#: bytes of complaints that are kept
_MOST_ERRORS: Final = 65536


async def start_agent(
    reactor: Any,
    connection: Connection,
    surroundings: Surroundings,
    orders: Orders,
    told: Callable[[str, str, bool], None],
) -> str:
    """Start an agent; returns once its daemons are up, with why some are not, or "".

    Until then it ends with the connection, or when this is cancelled.

    Args:
        reactor: for time.
        connection: to its host.
        surroundings: there.
        orders: for it.
        told: called with a daemon's label, a line that it wrote, and whether on standard error.

    Raises:
        SSHError: it has failed, and has ended. Of kind ``lost``: nobody knows.
    """
    output, errors = bytearray(), bytearray()
    verdict: list[Mapping[str, Any]] = []

    def take(line: str) -> None:
        said = heard(line)
        if said is None:
            output.extend(line.encode() + b"\n")
        elif "state" in said:
            verdict.append(said)
        else:
            told(str(said.get("label")), str(said.get("line")), bool(said.get("error")))

    def complaint(data: bytes) -> None:
        errors.extend(data)
        del errors[:-_MOST_ERRORS]

    lines = Lines(take)
    remote = await connection.start(remote_command(WORDS, surroundings), lines.feed, complaint)
    # its standard input stays open: that is the sign of our life
    remote.write(orders.to_line().encode() + b"\n")
    try:
        ending = await remote.ended().addTimeout(REPORT_S, reactor)
    except defer.TimeoutError:
        raise SSHError(f"an agent has said nothing for {REPORT_S:g} s", "lost", True) from None
    finally:
        remote.end_input()
    lines.end()
    if not verdict:
        problem = silence(bytes(output), bytes(errors), ending)
        raise SSHError(str(problem), problem.kind, problem.is_passing)
    why = str(verdict[-1].get("why", ""))
    if verdict[-1]["state"] != "up":
        raise SSHError(why or "its daemons do not come up", "command")
    return why


async def ask_agent(
    reactor: Any,
    connection: Connection,
    surroundings: Surroundings,
    what: str,
    cluster: str,
    agent: str,
    patience_s: float,
) -> Mapping[str, Any]:
    """What an agent's host says of it.

    Args:
        reactor: for time.
        connection: to its host.
        surroundings: there.
        what: ``status`` or ``down``.
        cluster: its name.
        agent: its id.
        patience_s: seconds until it must have answered.

    Raises:
        SSHError: it does not answer.
    """
    command = remote_command([*WORDS, what, cluster, agent], surroundings)
    finished = await run(reactor, connection, command, b"", patience_s)
    said = None
    for line in finished.output.decode(errors="replace").splitlines():
        said = heard(line) or said
    if said is None:
        problem = silence(finished.output, finished.errors, finished.ending)
        raise SSHError(str(problem), problem.kind, problem.is_passing)
    return said
