"""`LocalCluster`: a scheduler and workers on this machine, as the daemons users run."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import subprocess
import sys
import threading
from types import TracebackType

from twisted_dist.access.find import VARIABLE
from twisted_dist.errors import ConnectError

#: seconds until a daemon that was started must have said so
START_S = 60.0
#: seconds until a daemon that was told to end is killed
END_S = 10.0
#: beginnings of what daemons announce; what else they print, tasks printed
ANNOUNCEMENTS = ("Start scheduler at", "Start worker at:", "Registered with center at:")


def _import_path() -> str:
    """What this process can import, tasks here can: helpers beside the user's script too."""
    return os.pathsep.join(os.path.abspath(each) for each in sys.path)


def _environment() -> dict[str, str]:
    """This process's, but for an access that is for another network."""
    environment = {**os.environ, "PYTHONPATH": _import_path()}
    environment.pop(VARIABLE, None)
    return environment


class _Daemon:
    """One daemon's process; what its tasks print is printed here."""

    def __init__(self, command: list[str]) -> None:
        self._name = command[0]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "twisted_dist.cli", *command, "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_environment(),
        )
        self._announced: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"{self._name}-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANNOUNCEMENTS):
                self._announced.put(line.strip())
            else:
                # wherever it goes, what stays in the pipe would stop the tasks that print
                with contextlib.suppress(Exception):
                    sys.stdout.write(line)
        self._announced.put("")

    def announced(self) -> str:
        """Its first announcement. Raises ConnectError where there is none."""
        try:
            line = self._announced.get(timeout=START_S)
        except queue.Empty:
            raise ConnectError(f"{self._name} said nothing for {START_S:.0f} s") from None
        if not line:
            raise ConnectError(f"{self._name} did not start; what it said is above")
        return line

    def end(self) -> None:
        """Tell it to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        """Until it has ended, by force if need be."""
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class LocalCluster:
    """Daemons on loopback, ended with this object or, at the latest, with this process.

    Args:
        n_workers: workers; by default one for each core.
        threads_per_worker: tasks at a time on each.

    Attributes:
        scheduler_address: for `Client`.
    """

    def __init__(self, n_workers: int | None = None, threads_per_worker: int = 1) -> None:
        count = n_workers if n_workers is not None else os.cpu_count() or 1
        self._daemons: list[_Daemon] = []
        atexit.register(self.close)
        try:
            line = self._launch("dscheduler", "--host", "127.0.0.1", "--port", "0")
            self.scheduler_address = line.rpartition(" ")[2]
            if count:
                threads = str(threads_per_worker)
                self._launch(
                    "dworker", self.scheduler_address, "--host", "127.0.0.1",
                    "--nprocs", str(count), "--nthreads", threads,
                )  # fmt: skip
        except BaseException:
            self.close()
            raise

    def _launch(self, *command: str) -> str:
        daemon = _Daemon(list(command))
        self._daemons.append(daemon)
        return daemon.announced()

    def close(self) -> None:
        """End the daemons and wait for them. May be called twice."""
        atexit.unregister(self.close)
        daemons, self._daemons = self._daemons, []
        for each in reversed(daemons):
            each.end()
        for each in reversed(daemons):
            each.wait()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
