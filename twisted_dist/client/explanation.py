"""`Explanation`: what the scheduler knows of a task, to be read by people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Explanation(dict[str, Any]):
    """``{"key", "state", "why", "story", …}`` as of `core.explain.explain`; prints as text."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told)

    def __str__(self) -> str:
        lines = [f"{self['key']} is {self['state']}: {self['why']}"]
        expected = self["expected_s"]
        if expected is not None:
            lines.append(f"  {self['function']} takes {expected:.3g} s as a rule")
        for seconds, what, where in self["story"]:
            lines.append(f"  {seconds:10.3f} s ago  {what}{f': {where}' if where else ''}")
        return "\n".join(lines)

    __repr__ = __str__
