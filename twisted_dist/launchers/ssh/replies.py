"""What a server answers during a login (RFC 4252 and 4256)."""

from __future__ import annotations

import struct
from typing import Final

from attrs import frozen
from twisted.conch.ssh.common import getNS

#: questions of one login; a server could go on for ever
QUESTIONS: Final = 16


@frozen
class Success:
    """The server lets the user in."""


@frozen
class Refusal:
    """The server wants something else, or more.

    Attributes:
        methods: what may go on.
        is_partial: whether what was done counts, and more is wanted.
    """

    methods: tuple[bytes, ...]
    is_partial: bool


@frozen
class Request60:
    """Message 60, whose meaning depends on what was asked."""

    packet: bytes


#: what a request is answered by
Reply = Success | Refusal | Request60


def read_prompts(packet: bytes) -> list[tuple[str, bool]]:
    """Prompts of keyboard-interactive, each with whether the answer may be seen (RFC 4256)."""
    rest = getNS(packet, 3)[3]
    (count,) = struct.unpack(">L", rest[:4])
    rest = rest[4:]
    prompts = []
    for _ in range(min(count, QUESTIONS)):
        prompt, rest = getNS(rest)
        prompts.append((prompt.decode("utf-8", "replace"), bool(rest[0])))
        rest = rest[1:]
    return prompts


def is_password(prompt: str, is_shown: bool) -> bool:
    """Whether a prompt is for the user's password, and not for a code of the minute."""
    return not is_shown and "password" in prompt.lower()
