"""`Screen`: lines for a person, above a table that changes.

A terminal may be slow, or stopped with Ctrl-S, and a launcher must go on: hosts take it for
dead where it says nothing. So a thread writes, and what waits for it has a bound.
"""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, TextIO

#: characters that wait to be written, at most: what comes then is counted and not shown
MOST_WAITING: Final = 4 * 2**20
#: seconds between two drawings of the table
REDRAW_S: Final = 0.1
#: seconds that the last lines have to get out, where nobody reads them
LAST_WORDS_S: Final = 2.0

_RED: Final = "\x1b[31m"
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"
_CLEAR_BELOW: Final = "\x1b[J"


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether *stream* is a terminal that shows colours (https://no-color.org)."""
    return (
        stream.isatty()
        and not environment.get("NO_COLOR")
        and environment.get("TERM", "dumb") != "dumb"
    )


class Screen:
    """Writes lines, and keeps a table below them where there is a terminal.

    Args:
        stream: to write to.
        is_terminal: whether it has colours and a table.
    """

    def __init__(self, stream: TextIO, is_terminal: bool) -> None:
        self._stream = stream
        self._is_terminal = is_terminal
        self._changed = threading.Condition()
        #: whoever writes has it; apart, as a terminal that is stopped keeps it
        self._writing = threading.Lock()
        self._lines: deque[str] = deque()
        self._waiting = 0
        self._dropped = 0
        self._is_held = False
        self._is_over = False
        self._table: Callable[[int, int], list[str]] = lambda width, height: []
        self._drawn: list[str] = []
        self._thread = threading.Thread(target=self._write_all, name="screen", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def line(self, text: str, *, is_error: bool = False, is_title: bool = False) -> None:
        """One line; never blocks."""
        if self._is_terminal and (is_error or is_title):
            text = f"{_RED if is_error else _BOLD}{text}{_PLAIN}"
        with self._changed:
            if self._waiting + len(text) > MOST_WAITING:
                self._dropped += 1
                return
            self._lines.append(text)
            self._waiting += len(text)
            self._changed.notify()

    def show_table(self, table: Callable[[int, int], list[str]]) -> None:
        """What is below the lines: *table* gives it for a width and a height, in any thread."""
        self._table = table

    def hold(self, is_held: bool) -> None:
        """While it is held nothing is written: a person is being asked something."""
        with self._changed:
            self._is_held = is_held
            self._changed.notify()
        if is_held and self._writing.acquire(timeout=LAST_WORDS_S):
            try:
                self._erase()
            finally:
                self._writing.release()

    def stop(self) -> None:
        """Write what is left, if somebody reads it, and end. The table goes."""
        with self._changed:
            self._is_over = True
            self._is_held = False
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(LAST_WORDS_S)

    # -- in the thread

    def _write_all(self) -> None:
        is_over = False
        while not is_over:
            with self._changed:
                self._changed.wait(REDRAW_S if self._is_terminal else None)
                if self._is_held:
                    continue
                lines = list(self._lines)
                self._lines.clear()
                self._waiting = 0
                dropped, self._dropped = self._dropped, 0
                is_over = self._is_over
            if dropped:
                lines.append(f"[ dcluster ] : {dropped} lines were not shown: this is too slow")
            try:
                self._write(lines, is_over)
            except (OSError, ValueError):  # the terminal is gone; whoever closed it knows
                continue

    def _write(self, lines: list[str], is_over: bool) -> None:
        below: list[str] = []
        if self._is_terminal and not is_over:
            size = shutil.get_terminal_size()
            below = self._table(size.columns, size.lines)
        if not lines and below == self._drawn:
            return
        with self._writing:
            if self._is_held:  # meanwhile
                self._lines.extendleft(reversed(lines))
                return
            self._erase()
            self._stream.write("".join(f"{each}\n" for each in [*lines, *below]))
            self._stream.flush()
            self._drawn = below

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{len(self._drawn)}F{_CLEAR_BELOW}")
            self._stream.flush()
            self._drawn = []
