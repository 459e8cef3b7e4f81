"""Ranges of hosts: braces as shells write them, brackets as SLURM does.

Two notations, in one word and as often as is wanted, each standing for several texts in its
place; of several groups the last changes fastest, as in shells::

    192.168.0.{1,2,5}    node{01..12}    rack{a,b{1,2}}-{1..9..2}
    node[01-64,70]       rack[1-2]n[01-04]

A number that begins with 0 gives its width to the others: in braces to both ends of the range,
as bash has it; in brackets the first one's, as SLURM has it. Brackets with a colon are an
IPv6 address, and no range.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from twisted_dist.errors import UsageProblem

#: hosts of one word or file: more than a launcher would enter one by one
MAX_HOSTS: Final = 10_000
#: characters of a word
MAX_WORD: Final = 64 * 1024
#: groups within groups
MAX_DEPTH: Final = 16

_DOTS: Final = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(-?\d{1,9}))?\Z", re.ASCII)
_LETTERS: Final = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.(-?\d{1,9}))?\Z", re.ASCII)
_NUMBERS: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?\Z", re.ASCII)


def expand(word: str) -> list[str]:
    """All that *word* stands for, in order; itself where it has no group.

    Raises:
        UsageProblem: a group cannot be meant, or stands for more than `MAX_HOSTS`.
    """
    if len(word) > MAX_WORD:
        raise UsageProblem(f"a word of {len(word)} characters is no name of hosts")
    return _Reader(word).all()


def split(text: str) -> list[str]:
    """The words of *text*, between blanks and commas that are in no group; none is empty."""
    words = []
    begin = depth = 0
    for at, letter in enumerate(text):
        if letter in "{[":
            depth += 1
        elif letter in "}]":
            depth = max(0, depth - 1)
        elif letter.isspace() or (letter == "," and not depth):
            words.append(text[begin:at])
            begin, depth = at + 1, 0
    words.append(text[begin:])
    return [each for each in words if each]


class _Reader:
    """Reads one word from left to right."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._at = 0
        self._depth = 0

    def _problem(self, why: str) -> UsageProblem:
        shown = self._word if len(self._word) <= 80 else self._word[:77] + "..."  # noqa: PLR2004
        return UsageProblem(f"{shown!r} is no range of hosts: {why}")

    def _next(self) -> str:
        return self._word[self._at : self._at + 1]

    def all(self) -> list[str]:
        """Of the whole word."""
        found = self._sequence("")
        if self._at < len(self._word):
            raise self._problem(f"{self._next()!r} has no beginning")
        return found

    def _sequence(self, ends: str) -> list[str]:
        """Until one of *ends*, a closing brace or bracket, or the end of the word."""
        found = [""]
        while (letter := self._next()) and letter not in ends and letter not in "}]":
            if letter == "{":
                found = self._product(found, self._brace())
            elif letter == "[":
                found = self._product(found, self._bracket())
            else:
                begin = self._at
                while (letter := self._next()) and letter not in "{[]}" and letter not in ends:
                    self._at += 1
                literal = self._word[begin : self._at]
                found = [each + literal for each in found]
        return found

    def _bounded(self, count: int) -> None:
        if count > MAX_HOSTS:
            raise self._problem(f"it stands for more than {MAX_HOSTS} hosts")

    def _product(self, before: list[str], after: list[str]) -> list[str]:
        self._bounded(len(before) * len(after))
        return [left + right for left in before for right in after]

    def _brace(self) -> list[str]:
        """``{a,b}`` or ``{1..9}``, whose opening brace is next."""
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._problem(f"more than {MAX_DEPTH} groups within each other")
        end = self._word.find("}", self._at)
        if end < 0:
            raise self._problem("a { is not closed")
        content = self._word[self._at : end]
        whole = self._dots(content)
        if whole is not None:
            self._at = end + 1
        else:
            whole = self._alternatives()
        self._depth -= 1
        return whole

    def _alternatives(self) -> list[str]:
        found = self._sequence(",")
        if self._next() != ",":
            if self._next() == "}":
                raise self._problem("braces hold  {a,b}  or  {1..9}")
            raise self._problem("a { is not closed")
        while self._next() == ",":
            self._at += 1
            found = found + self._sequence(",")
            self._bounded(len(found))
        if self._next() != "}":
            raise self._problem("a { is not closed")
        self._at += 1
        return found

    def _dots(self, content: str) -> list[str] | None:
        """A range with dots; None where *content* is none."""
        letters = _LETTERS.match(content)
        if letters:
            first, last = ord(letters[1]), ord(letters[2])
            return [chr(each) for each in self._range(first, last, letters[3])]
        numbers = _DOTS.match(content)
        if not numbers:
            return None
        ends = (numbers[1], numbers[2])
        padded = any(re.match(r"-?0\d", each) for each in ends)
        width = max(map(len, ends)) if padded else 0
        # the minus sign counts, in bash too
        every = self._range(int(ends[0]), int(ends[1]), numbers[3])
        return [f"{each:0{width}d}" for each in every]

    def _range(self, first: int, last: int, step: str | None) -> Iterator[int]:
        """Both ends included, downwards too."""
        stride = abs(int(step or 1)) or 1
        self._bounded(abs(last - first) // stride + 1)
        if first <= last:
            return iter(range(first, last + 1, stride))
        return iter(range(first, last - 1, -stride))

    def _bracket(self) -> list[str]:
        """``[01-64,70]``, whose opening bracket is next, or an IPv6 address with its brackets."""
        end = self._word.find("]", self._at)
        if end < 0:
            raise self._problem("a [ is not closed")
        content = self._word[self._at + 1 : end]
        self._at = end + 1
        if ":" in content:
            return [f"[{content}]"]
        found: list[str] = []
        for each in content.split(","):
            numbers = _NUMBERS.match(each)
            if not numbers:
                raise self._problem(f"[{content}]: brackets hold numbers, as  [01-64,70]")
            first, last = numbers[1], numbers[2] or numbers[1]
            if int(last) < int(first):
                raise self._problem(f"{each}: the last is less than the first")
            self._bounded(len(found) + int(last) - int(first) + 1)
            width = len(first) if first.startswith("0") else 0
            found += [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
        return found
