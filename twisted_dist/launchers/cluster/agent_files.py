"""`AgentFiles`: what an agent has on its host's disk: its state while it lives, and logs.

All are in ``$TWISTED_DIST_HOME/clusters/NAME/`` there, and begin with the agent's id, as a home
may be shared by many hosts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted_dist.access.home import Home, read_secret, write_secret
from twisted_dist.errors import AccessError
from twisted_dist.launchers.cluster.orders import file_name

#: bytes of a state: a daemon has some hundreds
MAX_STATE: Final = 4 * 2**20
#: bytes of a log file, and how many there are of each daemon, older ones included
MOST_LOG_BYTES: Final = 10 * 2**20
LOGS_KEPT: Final = 3
#: bytes at the end of a log in which its last line is looked for
_TAIL: Final = 4096


class AgentFiles:
    """Of one agent.

    Args:
        cluster: its name.
        id: of the agent.
        home: of the user there.
    """

    def __init__(self, cluster: str, id: str, home: Home | None = None) -> None:
        self._home = home if home is not None else Home()
        self._id = id
        self.directory = self._home.directory / "clusters" / file_name(cluster)
        self._state = self.directory / f"{id}.json"

    def log_name(self, name: str) -> str:
        """The name of a log file."""
        return f"{self._id}-{name}"

    @property
    def own_log(self) -> Path:
        """What happens to the agent's daemons."""
        return self.directory / self.log_name("agent.log")

    def prepare(self) -> None:
        """See that the directory is there, and closed to others. Raises AccessError."""
        self._home.prepare()
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise AccessError(f"cannot make {self.directory}: {problem.strerror}") from None

    def save(self, state: Mapping[str, Any]) -> None:
        """Put the state there in one step. Raises AccessError."""
        write_secret(self._state, json.dumps(state))

    def load(self) -> Mapping[str, Any] | None:
        """The state; None where there is none, or none that can be read."""
        try:
            said = json.loads(read_secret(self._state, MAX_STATE))
        except (AccessError, ValueError, RecursionError):
            return None
        return said if isinstance(said, dict) else None

    def remove(self) -> None:
        """The agent has ended: only its logs stay."""
        with contextlib.suppress(OSError):
            self._state.unlink()

    def last_words(self) -> str:
        """The last line of the agent's own log; "" if there is none."""
        try:
            with self.own_log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((each.strip() for each in reversed(lines) if each.strip()), "")
