"""What `submit`, `map` and `get` take beside a function and its arguments, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from twisted_dist.core.options import as_amounts
from twisted_dist.errors import UsageProblem

#: as on the wire: what is left out has its default (`core.options.Options`)
WireOptions: TypeAlias = dict[str, Any]

#: beyond it a priority would not fit into the wire's integers
MOST_PRIORITY: Final = 2**62

NOTHING: Final[WireOptions] = {}


def as_names(workers: str | Iterable[str] | None) -> list[str]:
    """``workers=`` as a list: an address, host or name, or several."""
    if workers is None:
        return []
    return [workers] if isinstance(workers, str) else list(workers)


def check_text(what: str, *texts: str) -> None:
    """Refuse what the wire cannot carry, as halves of characters in odd names of files."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as problem:
        raise UsageProblem(f"{what}={problem.object!r} is not text that UTF-8 can say") from None


def as_options(
    workers: str | Iterable[str] | None = None,
    allow_other_workers: bool = False,
    resources: Mapping[str, float] | None = None,
    retries: int = 0,
    priority: int = 0,
    timeout: float | None = None,
    wait_for_worker: bool = False,
) -> WireOptions:
    """The options that differ from their defaults.

    Raises:
        UsageProblem: one cannot be meant; says which.
    """
    if not (workers or resources or retries or priority or timeout is not None):
        return NOTHING
    options: WireOptions = {}
    if workers:
        options["workers"] = names = sorted(set(as_names(workers)))
        if not all(isinstance(each, str) for each in names):
            raise UsageProblem(f"workers={workers!r}: addresses, hosts or names are strings")
        check_text("workers", *names)
        if allow_other_workers:
            options["allow_other_workers"] = True
    if resources:
        options["resources"] = as_amounts(resources)
        check_text("resources", *resources)
    if wait_for_worker and options:
        options["wait_for_worker"] = True
    if retries:
        options["retries"] = _whole("retries", retries, 0, 10**9)
    if priority:
        options["priority"] = _whole("priority", priority, -MOST_PRIORITY, MOST_PRIORITY)
    if timeout is not None:
        if not isinstance(timeout, (int, float)) or not timeout > 0:
            raise UsageProblem(f"timeout={timeout!r} is not a number of seconds above 0")
        options["timeout_s"] = timeout
    return options


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise UsageProblem(f"{name}={value!r} is not a whole number from {least} to {most}")
    return int(value)
