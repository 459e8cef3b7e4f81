"""`Lines`: what comes in pieces of any size, as lines of text."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Final

#: characters after which a line is told although it has not ended: a task may write anything
MOST_CHARACTERS: Final = 64 * 1024


class Lines:
    """Tells each line once it is whole.

    Args:
        tell: called with each line, without its end.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Some more of it."""
        whole = (self._rest + self._decoder.decode(data)).split("\n")
        self._rest = whole.pop()
        for each in whole:
            self._tell(each.removesuffix("\r"))
        while len(self._rest) > MOST_CHARACTERS:
            self._tell(self._rest[:MOST_CHARACTERS])
            self._rest = self._rest[MOST_CHARACTERS:]

    def end(self) -> None:
        """There is no more: what is left is a line too."""
        self._rest += self._decoder.decode(b"", final=True)
        rest, self._rest = self._rest, ""
        if rest:
            self._tell(rest)
