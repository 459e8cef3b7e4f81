"""Stimuli with the many fields that most tests leave alone."""

from __future__ import annotations

from twisted_dist.core import stimuli as s
from twisted_dist.core.options import PLAIN, Options

#: the function that `submitted` means
DIGEST = b"d" * 16


def submitted(client, first, n=1, deps=(), key="", wanted=(), **options):
    """*n* tasks of `DIGEST`; *options* as of `Options`."""
    return s.TasksSubmitted(
        client,
        first,
        [DIGEST],
        [],
        [b"x"] * n,
        deps,
        [key] * n if key else [],
        bool(key),
        wanted,
        Options(**options) if options else PLAIN,
    )
