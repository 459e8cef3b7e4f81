"""`Options`: what a submission asks for beside its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from twisted_dist.errors import UsageProblem

#: resources are counted in ten-thousandths, exactly, so that ten tenths are one: HyperQueue's
#: fractional resources have the same grain
RESOURCE_UNIT: Final = 10_000
#: of a resource: a terabyte, counted in bytes
MOST_AMOUNT: Final = 2**40


@frozen
class Options:
    """Shared by all tasks of a submission.

    Attributes:
        workers: addresses, hosts or names that may run them; empty for any.
        allow_other_workers: others may, while none of those is there.
        resources: ``(name, amount)``, sorted; amounts in `RESOURCE_UNIT`, held while a worker
            has the task.
        retries: how often an exception of the task's own is tried again.
        priority: higher runs earlier.
        timeout_s: an attempt that takes longer has failed; 0 for no limit.
        wait_for_worker: wait for a worker that can, rather than fail where there is none.
    """

    workers: tuple[str, ...] = ()
    allow_other_workers: bool = False
    resources: tuple[tuple[str, int], ...] = ()
    retries: int = 0
    priority: int = 0
    timeout_s: float = 0.0
    wait_for_worker: bool = False


PLAIN: Final = Options()


def as_amounts(resources: Mapping[str, float]) -> dict[str, int]:
    """``resources=`` in whole `RESOURCE_UNIT`.

    Raises:
        UsageProblem: one has no name, or an amount that is none.
    """
    amounts = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or not name:
            raise UsageProblem(f"resources={dict(resources)!r}: names are strings")
        is_number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
        if not is_number or not 0 < amount < MOST_AMOUNT:
            raise UsageProblem(f"resources: {name}={amount!r} is not an amount above 0")
        units = round(amount * RESOURCE_UNIT)
        if not units:
            raise UsageProblem(
                f"resources: {name}={amount!r} is less than {1 / RESOURCE_UNIT}, the least share"
            )
        amounts[name] = units
    return amounts


def read_amounts(text: str) -> dict[str, float]:
    """``GPU=2 memory=16e9`` as ``{name: amount}``."""
    found: dict[str, float] = {}
    for each in text.replace(",", " ").split():
        name, _, amount = each.partition("=")
        try:
            found[name] = float(amount)
            as_amounts(found)
        except ValueError as problem:
            why = str(problem) if isinstance(problem, UsageProblem) else "NAME=AMOUNT is meant"
            raise ValueError(f"'{each}' is not a resource: {why}") from None
    return found
