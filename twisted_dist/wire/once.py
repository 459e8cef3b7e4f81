"""What is said once: a log's reader need not read it for every connection."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

#: subjects that are remembered; with more, all of them are told anew
MOST_SUBJECTS: Final = 1000


class Once:
    """Knows what was spoken of."""

    def __init__(self) -> None:
        self._known: set[Hashable] = set()

    def is_new(self, subject: Hashable) -> bool:
        """Whether nothing was said of *subject* yet; from now on, something was."""
        if subject in self._known:
            return False
        if len(self._known) >= MOST_SUBJECTS:
            self._known.clear()
        self._known.add(subject)
        return True
