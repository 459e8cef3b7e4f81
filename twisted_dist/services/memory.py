"""How much memory there is, and how much of it a worker's tasks may use."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

import psutil

from twisted_dist.errors import UsageProblem

#: where Linux says what a control group may use: version 2, version 1
_GROUP_LIMITS: Final = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
#: bytes of the least limit: a process takes 25 MiB before it runs anything, and one that is
#: over its limit from the start would be ended and started for ever
LEAST_LIMIT: Final = 64 * 2**20
_UNITS: Final = {
    "": 1,
    **{f"{letter}b": 1000**n for n, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**n for n, letter in enumerate("kmgt", 1)},
    "b": 1,
}
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)")


def machine_memory() -> int:
    """Bytes that processes here may use: the machine's, or its control group's if that is less."""
    total = int(psutil.virtual_memory().total)
    for path in _GROUP_LIMITS:
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            total = min(total, int(file.read()))  # "max" is no number
    return total


def own_bytes(pid: int | None = None) -> int:
    """Bytes of memory that are a process' own: not files, nor values that it shares.

    Raises:
        psutil.Error: it is gone.
    """
    about = psutil.Process(pid).memory_info()
    return int(about.rss) - int(getattr(about, "shared", 0))  # which Linux alone tells


def memory_limit(given: int | str, nthreads: int) -> int:
    """Bytes that a worker of *nthreads* threads may use; 0 for any number.

    Args:
        given: as of `services.nanny.Nanny`.
        nthreads: tasks at a time; ``"auto"`` is the machine's memory by the share of its cores
            that they take, as dask.distributed has it.

    Raises:
        UsageProblem: it is none of what is understood, or less than `LEAST_LIMIT`.
    """
    limit = given if isinstance(given, int) else _read(given, nthreads)
    if 0 < limit < LEAST_LIMIT or limit < 0:
        raise UsageProblem(f"{given!r} is less than a process needs: 64MiB or more, or 0 for any")
    return limit


def _read(given: str, nthreads: int) -> int:
    text = given.strip().lower()
    if text == "auto":
        share = min(1.0, nthreads / (os.cpu_count() or 1))
        return max(LEAST_LIMIT, int(machine_memory() * share))
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        raise UsageProblem(f"{given!r} is no amount of memory: auto, 0, 0.5, 4GiB or bytes")
    amount = float(match[1])
    if not match[2] and 0 < amount <= 1 and ("." in match[1]):
        return int(machine_memory() * amount)
    return int(amount * _UNITS[match[2]])
