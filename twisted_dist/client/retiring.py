"""Having workers leave."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_dist.client.options import as_names, check_text
from twisted_dist.client.session import Session
from twisted_dist.errors import UsageProblem


async def retire_workers(
    session: Session, workers: str | Iterable[str] | None, n: int | None, timeout: float | None
) -> dict[str, str]:
    """Have workers leave gracefully; ``{address: name}`` of those, once they have."""
    names = as_names(workers)
    if not all(isinstance(each, str) and each for each in names):
        raise UsageProblem(f"workers={workers!r}: addresses, hosts or names are strings")
    check_text("workers", *names)
    if n is not None and (not isinstance(n, int) or n < 0):
        raise UsageProblem(f"n={n!r} is not a number of workers")
    if workers is None and n is None:
        raise UsageProblem("which workers are to retire? give workers= or n=")
    if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout >= 0):
        raise UsageProblem(f"timeout={timeout!r} is not a number of seconds")
    if n == 0 or (workers is not None and not names):
        return {}
    left = await session.ask("retire", "\n".join(names), number=n or 0, timeout=timeout)
    assert isinstance(left, dict)
    return left
