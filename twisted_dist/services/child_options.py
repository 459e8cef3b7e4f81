"""`ChildOptions`: what a nanny's user may say of its child."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen


@frozen
class ChildOptions:
    """Of one nanny's children.

    Attributes:
        memory_limit: bytes that it may use until it is ended; 0 for any number.
        recycle_after: tasks that it gets before another takes its place; 0 for any number.
        preload: modules that it imports at its start.
    """

    memory_limit: int = 0
    recycle_after: int = 0
    preload: Sequence[str] = ()
