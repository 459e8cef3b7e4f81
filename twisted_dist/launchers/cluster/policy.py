"""`Policy`: with how little a cluster begins."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Policy:
    """With how little a cluster begins.

    Attributes:
        require_all: no host may fail.
        min_workers: so many must have registered.
    """

    require_all: bool = False
    min_workers: int = 1
