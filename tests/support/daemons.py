"""Daemons as real processes: started as users start them, read line by line, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

#: seconds that a daemon may take to say something or to end; a bound, not an expectation
PATIENCE_S = 30.0
BIN = Path(sys.executable).parent


class Daemon:
    """A daemon's process, its lines, and its end.

    Args:
        command: its words; the first is looked up beside this interpreter.
        wrap: words before them, such as ``ip netns exec NAME``.
        cwd: the directory to run it in.
        env: variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        wrap: Sequence[str] = (),
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        program, *rest = command
        self.process = subprocess.Popen(
            [*wrap, str(BIN / program), *rest],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self.lines: list[str] = []
        self._fresh: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def line(self, pattern: str, within_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait for a line that *pattern* matches."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                line = self._fresh.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} in time, only {self.lines}") from None
            if line is None:
                raise AssertionError(f"ended without {pattern!r}: {self.lines}")
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def address(self, pattern: str) -> str:
        """The address in the line that *pattern* begins, reachable from this host."""
        return self.line(pattern + r"\s*(\S+:\d+)")[1]

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def output(self) -> list[str]:
        """All its lines, once it has ended."""
        self.wait()
        while (line := self._fresh.get()) is not None:
            self.lines.append(line)
        return self.lines

    def family(self) -> list[psutil.Process]:
        """The process and everything it has started."""
        mine = psutil.Process(self.process.pid)
        return [mine, *mine.children(recursive=True)]

    def close(self) -> None:
        """End it by force, with everything it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in self.family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()


@contextlib.contextmanager
def starting() -> Iterator:
    """A function that starts daemons; what still runs in the end is killed."""
    started: list[Daemon] = []

    def start(*command: str, **how: Any) -> Daemon:
        daemon = Daemon(command, **how)
        started.append(daemon)
        return daemon

    try:
        yield start
    finally:
        for daemon in reversed(started):
            daemon.close()


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended; one that waits to be reaped has.

    Orphans may wait for that for seconds, or for ever: not every machine's first process hurries.
    """
    try:
        return process.status() == psutil.STATUS_ZOMBIE or not process.is_running()
    except psutil.NoSuchProcess:
        return True


def still_there(processes: Iterable[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those that have not ended in time."""
    deadline = time.monotonic() + within_s
    return [each for each in processes if not _ends(each, deadline)]


def _ends(process: psutil.Process, deadline: float) -> bool:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_gone(process):  # the number is this process's, and stays so
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN)
            waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
        return is_gone(process)
    finally:
        os.close(descriptor)


def all_gone(processes: Iterable[psutil.Process]) -> bool:
    """Whether they all end within the patience; who does not is printed, as it is then."""
    alive = still_there(processes, PATIENCE_S)
    describe(alive)
    return not alive


def describe(processes: Iterable[psutil.Process]) -> None:
    """Print what processes are and do, for whoever reads of a failure."""
    for each in processes:
        with contextlib.suppress(psutil.Error, OSError):
            waits = Path(f"/proc/{each.pid}/wchan").read_text(encoding="utf-8")
            used = sum(each.cpu_times()[:2])
            uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
            age = uptime - (each.create_time() - psutil.boot_time())
            print(
                f"{each.pid}, of {each.ppid()}, is {each.status()} (in {waits}), "
                f"{age:.0f} s old, of which it ran {used:.1f} s: "
                f"{each.cmdline()}"
            )
