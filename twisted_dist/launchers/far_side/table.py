"""What a look at the hosts found, as a table for people: ``dcluster --check``."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import field, frozen

from twisted_dist.errors import SSHError
from twisted_dist.launchers.far_side.probe import CLOCK_S, Problem, Report

#: of the table, from the left; what is to be done is beside them, or below
COLUMNS: Final = (
    "host", "reached", "authenticated", "host key", "python", "package", "port", "clock",
)  # fmt: skip
TODO: Final = "what to do"
#: characters between columns
_GAP: Final = 2
#: characters that what is to be done has beside the other columns, or else it is below them
_LEAST_TODO: Final = 36
_INDENT: Final = "    "

#: what could be seen before a host was found wanting, by what was wrong (`SSHError.kind`)
_REACHED: Final = frozenset({"host-key", "host-key-changed", "protocol", "auth", "command", "lost"})
_KEY_IS_GOOD: Final = frozenset({"auth", "command"})
_ENTERED: Final = frozenset({"command"})


class Mark(Enum):
    """How something is; the value is its colour (SGR)."""

    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    #: nobody knows, or nobody asked
    UNKNOWN = "2"


@frozen
class Cell:
    """One thing about one host."""

    text: str
    mark: Mark = Mark.GOOD


UNKNOWN: Final = Cell("-", Mark.UNKNOWN)
YES: Final = Cell("yes")
NO: Final = Cell("no", Mark.BAD)


@frozen
class Row:
    """A host.

    Attributes:
        host: as the user wrote it.
        cells: ``{column: cell}``; those that are left out are unknown.
        todo: what is wrong and what to do, one line each.
    """

    host: str
    cells: Mapping[str, Cell] = field(factory=dict)
    todo: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether daemons can run there."""
        return all(each.mark is not Mark.BAD for each in self.cells.values())


def failed_row(host: str, problem: SSHError) -> Row:
    """A host that could not be entered, or not be worked with."""
    kind = problem.kind
    if kind == "settings":
        return Row(host, {"reached": NO}, (str(problem),))
    cells = {"reached": YES if kind in _REACHED else NO}
    if kind in _KEY_IS_GOOD:
        cells["host key"] = Cell("known")
    elif kind.startswith("host-key"):
        cells["host key"] = Cell("changed" if kind.endswith("changed") else "unknown", Mark.BAD)
    if kind in _KEY_IS_GOOD:
        cells["authenticated"] = YES if kind in _ENTERED else NO
    if kind == "protocol":
        cells["authenticated"] = NO
    if kind == "command":
        cells["python"] = Cell("none", Mark.BAD)
    if kind == "lost":
        cells["reached"] = Cell("lost", Mark.BAD)
    return Row(host, cells, (str(problem),))


def entered_row(
    host: str,
    report: Report,
    problems: Sequence[Problem],
    *,
    skew_s: float = 0.0,
    host_key: str = "known",
) -> Row:
    """A host that answered.

    Args:
        host: as the user wrote it.
        report: what it says of itself.
        problems: what was found in that.
        skew_s: by which its clock is ahead.
        host_key: how its key was known: ``known``, ``new``, ``fingerprint``.
    """
    port = ", ".join(str(number) for _, number in report.ports) or None
    ahead = f"{skew_s:+.0f} s" if abs(skew_s) > CLOCK_S else "right"
    cells = {
        "reached": YES,
        "authenticated": YES,
        "host key": Cell(host_key),
        "python": Cell(".".join(map(str, report.python))),
        "package": Cell(report.package or "none") if not report.is_too_old else UNKNOWN,
        "port": Cell(f"{port} free") if port else UNKNOWN,
        "clock": Cell(ahead) if report.wall is not None else UNKNOWN,
    }
    for each in reversed(problems):
        mark = Mark.BAD if each.is_fatal else Mark.WARNING
        if each.column == "port":
            cells["port"] = Cell(f"{port} taken", mark)
        elif each.column in cells:
            cells[each.column] = Cell(cells[each.column].text, mark)
        else:
            # what has no column of its own must not look good all the same
            cells[each.column] = Cell(each.what, mark)
    return Row(host, cells, tuple(map(str, problems)))


def table(rows: Sequence[Row], width: int | None = None, colour: bool = False) -> str:
    """The rows below their heading, aligned, each line ended.

    Args:
        rows: of the hosts, in their order.
        width: columns of the terminal; None for any: then no line is broken.
        colour: with SGR sequences.
    """
    texts = [[_clean(row.host), *(_cell(row, name).text for name in COLUMNS[1:])] for row in rows]
    widths = [max(map(_width, column)) for column in zip(COLUMNS, *texts)]
    taken = sum(widths) + _GAP * len(widths)
    beside = width is None or width - taken >= _LEAST_TODO
    room = None if width is None else max(20, width - (taken if beside else len(_INDENT)))
    has_todo = any(row.todo for row in rows)
    heading = [*COLUMNS, TODO] if beside and has_todo else list(COLUMNS)
    lines = [_line(heading, widths)]
    for row, text in zip(rows, texts):
        todo = [line for each in row.todo for line in _wrapped(_clean(each), room)]
        cells = [
            _coloured(_padded(each, wide), _cell(row, name).mark, colour) if name != "host" else
            _padded(each, wide)
            for name, each, wide in zip(COLUMNS, text, widths)
        ]  # fmt: skip
        first = [*cells, todo[0]] if beside and todo else cells
        lines.append((" " * _GAP).join(first).rstrip())
        indent = " " * taken if beside else _INDENT
        lines += [indent + each for each in todo[beside:]]
    return "".join(f"{each}\n" for each in lines)


def _cell(row: Row, name: str) -> Cell:
    return row.cells.get(name, UNKNOWN)


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    padded = [_padded(text, wide) for text, wide in zip(texts, widths)]
    return (" " * _GAP).join([*padded, *texts[len(widths) :]]).rstrip()


def _wrapped(text: str, room: int | None) -> list[str]:
    if room is None:
        return [text]
    return textwrap.wrap(text, room, subsequent_indent="  ", break_on_hyphens=False) or [text]


def _coloured(text: str, mark: Mark, colour: bool) -> str:
    return f"\x1b[{mark.value}m{text}\x1b[0m" if colour else text


def _padded(text: str, wide: int) -> str:
    return text + " " * (wide - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal that it takes."""
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def _clean(text: str) -> str:
    """With nothing in it that a terminal would act on."""
    return "".join(each if each.isprintable() else "?" for each in text)
