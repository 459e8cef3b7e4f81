"""The tasks of a chaos run: each leaves a trace when it begins."""

from __future__ import annotations

import os
import time

#: bytes of a larger result
LARGE = 256 * 1024


def trace(tally: str, number: int) -> None:
    """One line, whole, whoever else writes: which task, and when."""
    line = f"{number} {time.time():.3f}\n".encode()
    file = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def plus_one(tally: str, number: int, task_s: float, value: int) -> int:
    """A task of a map or of a chain."""
    trace(tally, number)
    time.sleep(task_s)
    return value + 1


def add(tally: str, number: int, task_s: float, values: list[int]) -> int:
    """A task of a reduction."""
    trace(tally, number)
    time.sleep(task_s)
    return sum(values)


def large(tally: str, number: int, task_s: float) -> bytes:
    """A larger result."""
    trace(tally, number)
    time.sleep(task_s)
    return number.to_bytes(8, "big") * (LARGE // 8)


def look(tally: str, number: int, task_s: float, value: bytes) -> int:
    """A task on a larger result: the number of the task that made it, if it is right."""
    trace(tally, number)
    time.sleep(task_s)
    maker = int.from_bytes(value[:8], "big")
    return maker if value == maker.to_bytes(8, "big") * (LARGE // 8) else -1


def probe(value: int) -> int:
    """Says that somebody works."""
    return value
