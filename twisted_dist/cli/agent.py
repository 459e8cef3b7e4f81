"""``python -m twisted_dist.cli agent``: stays on a host when ``dcluster --detach`` leaves it.

For `dcluster` only, which starts it there over SSH and talks with it by ``agent status`` and
``agent down``. It goes to the background, out of the session that sshd ends, and reports
through a pipe to the process that was started, until its daemons are up.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Final

from twisted_dist.cli.standard_input import read_line
from twisted_dist.errors import AccessError
from twisted_dist.launchers.cluster.agent import SETTLE_S
from twisted_dist.launchers.cluster.agent_files import AgentFiles
from twisted_dist.launchers.cluster.orders import (
    MAX_ORDERS,
    Orders,
    OrdersError,
    heard,
    is_id,
    read_orders,
    said_line,
)

#: seconds until an agent must have reported: its own bound, and the start of a Python
REPORT_S: Final = SETTLE_S + 30.0
_STATUS_OR_DOWN: Final = 3
#: descriptors that may be open, at most
_MOST_FILES: Final = 65536


def main() -> int:
    """As the words say; the exit status."""
    words = sys.argv[1:]
    if not words:
        return _start()
    if len(words) != _STATUS_OR_DOWN or words[0] not in {"status", "down"} or not is_id(words[2]):
        print("agent: for dcluster only: agent [status|down CLUSTER ID]", file=sys.stderr)
        return 2
    from twisted_dist.cli.agent_look import end, look

    try:
        files = AgentFiles(words[1], words[2])
    except OrdersError as problem:
        print(f"agent: {problem}", file=sys.stderr)
        return 2
    said = look(files) if words[0] == "status" else end(files)
    print(said_line(**said), flush=True)
    return 0


def _start() -> int:
    try:
        orders = read_orders(read_line("orders", most=MAX_ORDERS))
        files = AgentFiles(orders.cluster, orders.id)
        files.prepare()
    except (AccessError, OrdersError) as problem:
        print(said_line(state="failed", why=str(problem)), flush=True)
        return 1
    reading, writing = os.pipe()
    # nothing of Twisted was begun yet, and there is one thread
    if os.fork():
        os.close(writing)
        return _relay(reading)
    os.setsid()
    if os.fork():
        # so that it leads no session, and never gets a terminal
        os._exit(0)
    status = 1
    try:
        _let_go(writing)
        status = _stay(orders, files, writing)
    finally:
        os._exit(status)


def _let_go(kept: int) -> None:
    """Close all that was inherited, so that sshd's channel ends with who was started by it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for each in range(3):
        os.dup2(nothing, each)
    os.closerange(3, kept)
    os.closerange(kept + 1, _MOST_FILES)
    os.set_blocking(kept, False)


def _stay(orders: Orders, files: AgentFiles, writing: int) -> int:
    from twisted_dist.cli.agent_run import run

    return run(orders, files, writing)


def _relay(reading: int) -> int:
    """Pass on what the agent says, until it has said all; whether its daemons run.

    The end of standard input is the end of the launcher: then the agent is let down, and ends.
    """
    deadline = time.monotonic() + REPORT_S
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    waiting.register(0, select.POLLIN)
    line = b""
    state: object = None
    while found := waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
        ready = {descriptor for descriptor, _ in found}
        if reading not in ready:
            if not os.read(0, 4096):
                return 1
            continue
        piece = os.read(reading, 65536)
        if not piece:
            break
        *lines, line = (line + piece).split(b"\n")
        for each in lines:
            text = each.decode(errors="replace")
            state = (heard(text) or {}).get("state", state)
            print(text, flush=True)
    if state is None:
        print(said_line(state="failed", why="the agent says nothing"), flush=True)
    return 0 if state == "up" else 1
