"""`Watch`: whoever looks at a cluster while it starts and runs, and what there is to see."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Stage(Enum):
    """How far a host has got; the values are shown to people."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    LOOKING = "looking at it"
    READY = "entered"
    STARTING = "starting"
    UP = "up"
    #: a daemon there has died
    RESTARTING = "starting again"
    #: its connection broke; it is dialled again
    LOST = "lost"
    #: for good
    FAILED = "failed"
    ENDED = "ended"


class Watch(Protocol):
    """Is told what happens, in the reactor's thread. Nothing here may block or raise."""

    def line(self, label: str, text: str, is_error: bool) -> None:
        """A daemon wrote a line; *label* is its `plan.Daemon.label`."""

    def stage(self, host: str, stage: Stage, detail: str = "") -> None:
        """A host has got somewhere, and why, where there is something to say."""

    def note(self, host: str, text: str) -> None:
        """Something that a person should know about a host, in one line."""
