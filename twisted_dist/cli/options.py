"""What the daemons' option classes share: one line for what is wrong, help that teaches."""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from twisted_dist.address import MAX_PORT
from twisted_dist.cli.standard_input import STDIN
from twisted_dist.cli.unit import service_unit
from twisted_dist.version import VERSION

#: exit status for a command line that cannot be meant (as of getopt's and argparse's users)
EXIT_USAGE = 2


def port_number(text: str) -> int:
    """A port from an option; ValueError's words are shown to the user."""
    if not text.isdigit() or int(text) > MAX_PORT:
        raise ValueError(f"{text!r} is not a port: a number from 0 to {MAX_PORT}")
    return int(text)


def positive(text: str) -> int:
    """A count from an option; ValueError's words are shown to the user."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is not a count: a number from 1 up")
    return int(text)


def silence(text: str) -> float:
    """Seconds of silence from an option; ValueError's words are shown to the user."""
    from twisted_dist.services.lifetime import as_seconds

    seconds = as_seconds(text)
    if not seconds:
        raise ValueError(f"{text!r} is no time: more than 0 seconds")
    return seconds


def place(text: str) -> tuple[str | None, int]:
    """``PORT`` or ``HOST:PORT``, of which no host is None; ValueError's words are shown."""
    host, _, port = text.rpartition(":")
    return host or None, port_number(port)


#: options that are paths
_PATHS = ("--access-file", "--network-file", "--local-directory")
#: options whose value may be standard input, which a service has none of
_FROM_STDIN = ("--access-file", "--network-file")

#: what all daemons have
FLAGS = [
    ["until-stdin-closes", None, "End when standard input closes, as a launcher's child does"],
    ["print-unit", None, "Print a unit for systemd that starts this, with these options"],
]
STDIN_SILENCE = [
    "stdin-silence",
    None,
    None,
    "With --until-stdin-closes: end, too, when nothing came on standard input for so long: 60, "
    "'2 min' (default: silence means nothing)",
    silence,
]
HTTP_PORT = [
    "http-port",
    None,
    None,
    "Port, or HOST:PORT, to say on whether all is well, at /health, to whoever asks (default: "
    "closed)",
    place,
]


class CommandOptions(usage.Options):
    """Options of one of our commands.

    What is wrong ends the program with one line and status 2.
    """

    #: the word that starts it
    program = ""
    #: what one may type, and what for
    examples: ClassVar[Sequence[tuple[str, str]]] = ()

    def getUsage(self, width: int | None = None) -> str:
        """The help, with the examples below it."""
        text = str(super().getUsage(width))
        if not self.examples:
            return text
        column = max(len(each) for each, _ in self.examples)
        lines = [f"  {each:{column}}  {meaning}".rstrip() for each, meaning in self.examples]
        return "\n".join([text.rstrip(), "", "Examples:", *lines, ""])

    def parseOptions(self, options: Any = None) -> None:
        """Read the command line; options may stand after the address, as they always did."""
        arguments = sys.argv[1:] if options is None else list(options)
        try:
            pairs, words = getopt.gnu_getopt(arguments, self.shortOpt, self.longOpt)
            flat = [part for pair in pairs for part in (pair if self._takes(pair[0]) else pair[:1])]
            super().parseOptions([*flat, "--", *words])
            self.parsed(pairs, words)
        except getopt.GetoptError as problem:
            self.refuse(str(problem))
        except usage.UsageError as problem:
            told = str(problem).removeprefix("Parameter type enforcement failed: ")
            self.refuse("too many words" if told == "Wrong number of arguments." else told)

    def _takes(self, option: str) -> bool:
        """Whether a value follows: an empty one is one, too."""
        if option.startswith("--"):
            return f"{option[2:]}=" in self.longOpt
        return f"{option[1:]}:" in self.shortOpt

    def parsed(self, pairs: list[tuple[str, str]], words: list[str]) -> None:
        """The command line was read and can be meant: options with values, and the rest."""

    def refuse(self, why: str) -> NoReturn:
        """One line on standard error, and the end."""
        print(f"{self.program}: {why}; see {self.program} --help", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)

    def opt_version(self) -> NoReturn:
        """Show the version and exit."""
        print(f"{self.program} (twisted-dist) {VERSION}")
        raise SystemExit(0)


class DaemonOptions(CommandOptions):
    """Options of one daemon, on its own command line and on twistd's.

    What is wrong ends the program here and not in twistd, which would print its whole help
    and end with status 0.
    """

    #: what it is
    description = ""

    def parsed(self, pairs: list[tuple[str, str]], words: list[str]) -> None:
        """Print the unit that was asked for."""
        if self["stdin-silence"] is not None and not self["until-stdin-closes"]:
            self.refuse("--stdin-silence is for --until-stdin-closes: give that too")
        if self["print-unit"]:
            for option, value in pairs:
                if option in _FROM_STDIN and value == STDIN:
                    self.refuse(f"{option}: a service has no standard input; give a file")
            given = [self._word(*pair) for pair in pairs if pair[0] != "--print-unit"]
            print(service_unit(self.program, self.description, [*given, *words]), end="")
            raise SystemExit(0)

    def _word(self, option: str, value: str) -> str:
        """An option as one word, for a process that starts in another directory."""
        if option in _PATHS:
            value = os.path.abspath(value)
        return f"{option}={value}" if value else option
