"""`LocalCluster`: a scheduler and workers on this machine, as the daemons users run."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from types import TracebackType

from twisted_dist.errors import ConnectError


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
        self._processes: list[subprocess.Popen[str]] = []
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

    def _launch(self, daemon: str, *options: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "twisted_dist.cli", daemon, *options, "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise ConnectError(f"{daemon} did not start; what it said is above")
        return line

    def close(self) -> None:
        """End the daemons and wait for them. May be called twice."""
        atexit.unregister(self.close)
        processes, self._processes = self._processes, []
        for each in reversed(processes):
            assert each.stdin is not None
            each.stdin.close()
        for each in reversed(processes):
            try:
                each.wait(10)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            assert each.stdout is not None
            each.stdout.close()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
