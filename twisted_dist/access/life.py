"""The life of a process: a name for it that no later one has, to be written to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psutil

#: where the time of its start is in /proc/PID/stat, after the name (proc(5): field 22)
_START: Final = 19


def machine_name() -> str:
    """What this machine calls itself; loopback addresses mean it."""
    return os.uname().nodename


def life(pid: int | None = None) -> dict[str, object]:
    """Names a process, so that a later one can tell whether it still lives.

    Args:
        pid: of which; by default this one.

    Raises:
        ProcessLookupError: it has ended.
    """
    pid = os.getpid() if pid is None else pid
    return {"machine": machine_name(), "pids": _pids(), "pid": pid, "born": _born(pid)}


def _pids() -> str:
    """Which process ids this process sees: containers have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""


def _born(pid: int) -> str:
    """When it began, by a clock that nobody sets: the time of day is put right now and then."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        try:
            return str(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            raise ProcessLookupError(pid) from None
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise ProcessLookupError(pid) from None
    return f"{boot}:{told[told.rindex(')') + 2 :].split()[_START]}"


def _is_meant(told: object) -> bool:
    """Whether nobody has edited it."""
    return isinstance(told, dict) and type(told.get("pid")) is int and told["pid"] > 0


def has_ended(told: object) -> bool:
    """Whether the process of a `life` has ended; False where that cannot be known here."""
    if not isinstance(told, dict) or not _is_meant(told):
        return False
    if (told.get("machine"), told.get("pids")) != (machine_name(), _pids()):
        return False
    return process_of(told) is None


def process_of(told: object) -> psutil.Process | None:
    """The process of a `life` of this machine, while it lives."""
    if not isinstance(told, dict) or not _is_meant(told):
        return None
    try:
        process = psutil.Process(told["pid"])
        is_it = _born(process.pid) == told.get("born")
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ProcessLookupError, OverflowError):
        return None
