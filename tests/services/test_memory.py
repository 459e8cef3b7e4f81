"""`memory_limit`: what users may say, in bytes."""

from __future__ import annotations

import os

import pytest

from twisted_dist.errors import UsageProblem
from twisted_dist.services import memory
from twisted_dist.services.memory import LEAST_LIMIT, machine_memory, memory_limit


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0", 0),
        (0, 0),
        (LEAST_LIMIT, LEAST_LIMIT),
        ("4GiB", 4 * 2**30),
        ("1.5 gb", 1_500_000_000),
        ("300000000", 300_000_000),
        ("512MiB", 512 * 2**20),
    ],
)
def test_amounts(given, expected):
    """`memory_limit` reads bytes and units."""
    assert memory_limit(given, 1) == expected


def test_shares_of_the_machine():
    """`memory_limit` reads shares, and takes a worker's share of the cores by itself."""
    total = machine_memory()
    assert memory_limit("0.5", 1) == total // 2
    assert memory_limit("1.0", 1) == total
    assert memory_limit("auto", 10_000) == total
    assert memory_limit("auto", 1) == int(total / (os.cpu_count() or 1))


def test_small_machine(monkeypatch):
    """`memory_limit` gives each of many workers enough to begin with."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 1000)
    assert memory_limit("auto", 1) == LEAST_LIMIT


@pytest.mark.parametrize("given", ["", "much", "4XB", "-1", "1", "10MiB", 1, -5])
def test_what_cannot_be_meant(given):
    """`memory_limit` refuses what it cannot read, and what no process could run in."""
    with pytest.raises(UsageProblem, match=r"64MiB or more|no amount of memory"):
        memory_limit(given, 1)
