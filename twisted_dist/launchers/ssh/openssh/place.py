"""`Place`: the private directory of sockets, and the guard that removes it whatever happens."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_dist.launchers.ssh.apart import ApartProtocol, apart
from twisted_dist.launchers.ssh.outcome import Outcome
from twisted_dist.launchers.ssh.program import Reactor

#: bytes of a directory's path: a socket's may have 103 on macOS, and ``ssh`` adds 17 to its own
MOST_PATH_BYTES: Final = 70
_SHELL = "/bin/sh"
#: reads which groups of processes there are; at the end of its input, those that are left are
#: ended. Its input ends when we do, be it by ``kill -9``
_GUARD = """
pids=
while read -r pid state; do
  case $state in
    on) pids="$pids $pid" ;;
    off) rest=
      for each in $pids; do [ "$each" = "$pid" ] || rest="$rest $each"; done
      pids=$rest ;;
  esac
done
for each in $pids; do kill -s TERM -- "-$each"; done
rm -rf -- "$1"
"""


class Place:
    """A directory that only its user may enter.

    Attributes:
        path: where it is.
    """

    def __init__(self, reactor: Reactor, environ: Mapping[str, str]) -> None:
        above = tempfile.gettempdir()
        if len(os.fsencode(above)) > MOST_PATH_BYTES:
            above = "/tmp"
        self.path = tempfile.mkdtemp(prefix="td-ssh-", dir=above)
        self._numbers = itertools.count(1)
        self._guard = _Guard(reactor)
        command = apart([_SHELL, "-c", _GUARD, _SHELL, self.path])
        # said to nobody: it may outlive whoever would read it
        reactor.spawnProcess(
            self._guard, command[0], command, env=dict(environ), childFDs=_only_input()
        )

    def entry(self, name: str) -> str:
        """A path in it that nothing has."""
        return f"{self.path}/{name}{next(self._numbers)}"

    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        """A new file in it, and its path."""
        path = self.entry(name)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def guard(self, pid: int) -> None:
        """End the group of *pid* when this process ends, however it does."""
        self._guard.tell(f"{pid} on\n")

    def release(self, pid: int) -> None:
        """Undo `guard`: it has ended."""
        self._guard.tell(f"{pid} off\n")

    def close(self) -> Deferred[None]:
        """Remove it; fires once it is gone."""
        return self._guard.end()


def _only_input() -> dict[int, str | int]:
    return {0: "w"}


class _Guard(ApartProtocol):
    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock, pipe=0)
        self._end_of_it: Outcome[None] = Outcome()

    def tell(self, line: str) -> None:
        if self.transport is not None and not self._end_of_it.is_known:
            self.transport.writeToChild(0, line.encode("ascii"))

    def end(self) -> Deferred[None]:
        if self.transport is not None and not self._end_of_it.is_known:
            self.transport.closeStdin()
        return self._end_of_it.when_known()

    def processEnded(self, reason: Failure) -> None:
        self._end_of_it.tell(None)
