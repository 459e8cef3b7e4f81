"""Somebody at a terminal: types, reads, and answers what ssh asks."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

from tests.support.daemons import PATIENCE_S

#: sequences for colours, the cursor, the title and the like
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>])")
_SHOWN = 3000


class Terminal:
    """A program on a terminal of its own.

    Args:
        command: its words.
        answers: `{pattern: answer}` to what it asks, at the end of what it has written.
        prompt: what it writes when it waits for a line.

    Attributes:
        text: all that it has written, without what only a terminal understands.
    """

    def __init__(
        self, command: Sequence[str], answers: Mapping[str, str], prompt: str, columns: int = 200
    ) -> None:
        self._answers = {re.compile(each + r"\s*\Z"): text for each, text in answers.items()}
        self._prompt = prompt
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._process = subprocess.Popen(
            # who runs the tests may have been started by nohup, which is inherited
            ["env", "--default-signal=HUP", "setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._raw = ""
        self.text = ""
        self._read_to = self._typed_at = self._answered_to = 0

    def expect(
        self, pattern: str, patience_s: float = PATIENCE_S, *, in_order: bool = True
    ) -> re.Match[str]:
        """Wait until it has written what matches, after what was matched before.

        Where not *in_order*, anywhere after the last line that was typed.
        """
        wanted = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + patience_s
        while True:
            found = wanted.search(self.text, self._read_to if in_order else self._typed_at)
            if found:
                self._read_to = max(self._read_to, found.end())
                return found
            if not self._pump(deadline - time.monotonic()):
                shown = self.text[self._read_to :][-_SHOWN:]
                raise AssertionError(f"no {pattern!r} in time, only:\n{shown}")

    def type(self, text: str) -> None:
        """Type a line."""
        self._typed_at = self._read_to
        self.press(text + "\n")

    def press(self, keys: str) -> None:
        r"""Press keys: "\x03" is Ctrl-C."""
        os.write(self._master, keys.encode())

    def prompted(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until it waits for a line."""
        self.expect(re.escape(self._prompt), patience_s)

    def close(self) -> None:
        """Hang up, and see it end."""
        os.close(self._master)
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()

    def _pump(self, patience_s: float) -> bool:
        """Read some more, and answer; False where nothing comes in time."""
        if not select.select([self._master], [], [], max(0.0, patience_s))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # it has ended
            return False
        self._raw += data.decode(errors="replace")
        # what a sequence begins may not have come whole
        self.text = _SEQUENCE.sub("", self._raw).replace("\r", "")
        for asked, answer in self._answers.items():
            if asked.search(self.text, self._answered_to):
                self._answered_to = len(self.text)
                self.press(answer + "\n")
                break
        return True
