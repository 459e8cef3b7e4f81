"""Options of ``dcluster status`` and ``dcluster down``."""

from __future__ import annotations

from typing import ClassVar

from twisted_dist.cli.options import CommandOptions


class _NamedOptions(CommandOptions):
    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None

    def parseArgs(self, name: str | None = None) -> None:
        """The cluster's name."""
        self.name = name


class StatusOptions(_NamedOptions):
    """dcluster status [NAME]: how detached clusters are."""

    program = "dcluster status"
    synopsis = "dcluster status [NAME] [--json]"
    longdesc = (
        "Asks every host of the clusters that dcluster --detach has left running how its daemons "
        "are, and each scheduler what it has. NAME is a cluster's name or its scheduler's "
        "address; without it, all are shown. Ends with status 0 where all is well, else with 1."
    )
    examples: ClassVar = [
        ("dcluster status", "all of them, as tables"),
        ("dcluster status 192.168.0.1:8786 --json", "one, for a program"),
    ]
    optFlags: ClassVar = [["json", None, "As JSON, for programs"]]


class DownOptions(_NamedOptions):
    """dcluster down [NAME]: end a detached cluster."""

    program = "dcluster down"
    synopsis = "dcluster down [NAME]"
    longdesc = (
        "Ends a cluster that dcluster --detach has left running, on all of its hosts: workers "
        "first, the scheduler last. NAME is the cluster's name or its scheduler's address; it "
        "may be left out where there is one cluster only. Where a host cannot be entered, that "
        "is said, what runs there stays known, and the same command can be given again; then "
        "it ends with status 1."
    )
    examples: ClassVar = [
        ("dcluster down", "the only one there is"),
        ("dcluster down 192.168.0.1:8786", "one of several"),
    ]
