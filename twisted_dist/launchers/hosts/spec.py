"""`HostSpec`: what a person wrote about one host."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen


class Role(Enum):
    """What a host is for, where its line says so."""

    #: it runs the scheduler, and no worker unless it has another line
    SCHEDULER = "scheduler"
    #: it runs a worker, and not the scheduler, though it may come first
    WORKER = "worker"


@frozen(kw_only=True)
class HostSpec:
    """One host, once: who is named twice has two workers.

    None stands for what was not said; then it is what the command's options say.

    Attributes:
        host: a name, a number, or an alias of ``~/.ssh/config``.
        user: to be there.
        port: of its sshd.
        nprocs: workers.
        nthreads: of each.
        name: of its one worker.
        python: that runs it.
        env: variables for it.
        role: what it is for.
        resources: what its workers have, as ``dworker --resources`` takes it.
        source: where that was written, for messages: ``the command line``, ``hosts.txt:3``.
    """

    host: str
    user: str | None = None
    port: int | None = None
    nprocs: int | None = None
    nthreads: int | None = None
    name: str | None = None
    python: str | None = None
    env: Mapping[str, str] = field(factory=dict)
    role: Role | None = None
    resources: str | None = None
    source: str = "the command line"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        if not self.port:
            return f"{user}{self.host}"
        # as `words` reads it: an IPv6 address has colons of its own
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}:{self.port}"
