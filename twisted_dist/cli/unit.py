"""Units of systemd for the daemons, as ``--print-unit`` prints them."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: seconds of silence after which systemd ends a daemon and starts it again
WATCHDOG_S: Final = 60
#: seconds beyond what it has announced itself until systemd kills one that is to end
STOP_S: Final = 60

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=@+")

_SERVICE: Final = """\
# As a service of the system:  put this into /etc/systemd/system/{program}.service, then
#     systemctl daemon-reload && systemctl enable --now {program}
# As a user's own:  put it into ~/.config/systemd/user/{program}.service, without its User= line and
# with WantedBy=default.target, then
#     systemctl --user daemon-reload && systemctl --user enable --now {program}
#     loginctl enable-linger     (to have it run while nobody is logged in)
# Access files are in $TWISTED_DIST_HOME, by default ~/.twisted_dist of the user that it runs as.
{about}
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
{user}
{home}ExecStart={command}
Restart=on-failure
RestartSec=5
{watchdog}KillMode=mixed
TimeoutStopSec={stop_s}
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

_ABOUT: Final = {
    "dscheduler": (
        "# With a socket, for connections that wait while it starts again:  dscheduler "
        "--print-socket-unit\n"
    ),
    "dworker": (
        "# On another machine than the scheduler's it needs an access file, made there by\n"
        "#     daccess make worker HOST:PORT --output FILE     and given by --access-file FILE\n"
        "# Tasks run as its user. It drains when it is stopped, and says how long that may take;\n"
        "# KillMode=mixed tells only the nanny, so that tasks may end.\n"
    ),
}

_SOCKET: Final = """\
# Put this into /etc/systemd/system/dscheduler.socket, beside dscheduler.service, then
#     systemctl daemon-reload && systemctl enable --now dscheduler.socket
# The scheduler starts with the first connection, and listens on this in place of --port.
# Its keys are made at its first start: do that by hand,  systemctl start dscheduler
[Unit]
Description=Socket of the twisted_dist scheduler

[Socket]
ListenStream={where}
Backlog=1024

[Install]
WantedBy=sockets.target
"""


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it: no specifier, no variable, no split."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and set(word) <= _PLAIN:
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def command(program: str) -> list[str]:
    """How the program is started with this Python, by its full path."""
    script = Path(sys.executable).with_name(program)
    return [str(script)] if script.exists() else [sys.executable, "-m", "twisted_dist.cli", program]


def service_unit(program: str, description: str, words: Sequence[str]) -> str:
    """The unit that starts *program* with these words.

    It runs as whoever prints it; for root, who should not run tasks, as a user to be made.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    made = "# useradd --system --create-home twisted_dist\nUser=twisted_dist"
    home = os.environ.get("TWISTED_DIST_HOME")
    watchdog = f"WatchdogSec={WATCHDOG_S}\n"
    return _SERVICE.format(
        program=program,
        description=description,
        about=_ABOUT[program],
        user=f"User={name}" if uid else made,
        home=f"Environment={quoted(f'TWISTED_DIST_HOME={home}')}\n" if home else "",
        command=" ".join(map(quoted, [*command(program), *words])),
        # tasks in threads of the same process may hold its interpreter for long
        watchdog="" if "--no-nanny" in words else watchdog,
        stop_s=STOP_S,
    )


def socket_unit(host: str | None, port: int) -> str:
    """The unit of the socket that a scheduler may be given."""
    return _SOCKET.format(where=f"{host or '0.0.0.0'}:{port}")
