"""The table of `dcluster --check`."""

import re

import pytest

from tests.launchers.far_side.test_probe import GOOD, WANTED
from twisted_dist.errors import SSHError
from twisted_dist.launchers.far_side.probe import Problem, problems
from twisted_dist.launchers.far_side.table import Mark, Row, entered_row, failed_row, table

BAD = [Problem("package", "twisted_dist is not there", "--bootstrap ships it")]
ROWS = [
    entered_row("node1", GOOD, [], host_key="known"),
    entered_row("alice@node2:2222", GOOD, BAD, skew_s=-12),
    failed_row("büro", SSHError("the name does not resolve; see /etc/hosts", "name")),
]


def test_wide():
    """`table` has a line for each host, aligned, with what to do at its end."""
    heading, first, second, third = table(ROWS).splitlines()
    begin = heading.index("what to do")
    assert first.split() == ["node1", "yes", "yes", "known", *first.split()[4:]]
    assert first.rstrip().endswith("right")
    assert second[begin:] == "twisted_dist is not there: --bootstrap ships it"
    assert third[begin:] == "the name does not resolve; see /etc/hosts"
    assert "-12 s" in second
    for name in ("reached", "host key", "python", "port", "clock"):
        at = heading.index(name)
        for line in (first, second, third):
            assert line[at - 1] == " "
            assert line[at] != " "


@pytest.mark.parametrize("width", [10, 60, 80, 120, 140])
def test_width(width):
    """`table` keeps what to do within the terminal, beside the columns or below them."""
    text = table(ROWS, width)
    room = max(width, len(text.splitlines()[0]))
    assert all(len(line) <= room for line in text.splitlines())
    assert "bootstrap" in text
    assert "/etc/hosts" in text


def test_colour():
    """`table` is the same text with colours, as seen."""
    coloured = table(ROWS, 100, colour=True)
    assert "\x1b[31mno " in coloured
    assert re.sub(r" +$", "", re.sub(r"\x1b\[\d+m", "", coloured), flags=re.M) == table(ROWS, 100)


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("name", {"reached": "no"}),
        ("unreachable", {"reached": "no"}),
        ("refused", {"reached": "no"}),
        ("protocol", {"reached": "yes", "authenticated": "no"}),
        ("settings", {"reached": "no"}),
        ("host-key", {"reached": "yes", "host key": "unknown"}),
        ("host-key-changed", {"reached": "yes", "host key": "changed"}),
        ("auth", {"reached": "yes", "host key": "known", "authenticated": "no"}),
        (
            "command",
            {"reached": "yes", "host key": "known", "authenticated": "yes", "python": "none"},
        ),
        ("lost", {"reached": "lost"}),
    ],
)
def test_failed(kind, cells):
    """`failed_row` shows how far one came."""
    row = failed_row("a", SSHError("why", kind))
    assert {name: cell.text for name, cell in row.cells.items()} == cells
    assert not row.is_good


def test_good():
    """`Row.is_good` where nothing is fatal; a directory has no column, and counts."""
    assert ROWS[0].is_good
    assert not ROWS[1].is_good
    clock = entered_row("a", GOOD, problems(GOOD, WANTED, 60.0), skew_s=60.0)
    assert clock.is_good
    assert clock.cells["clock"].mark is Mark.WARNING
    full = entered_row("a", GOOD, [Problem("directory", "full", "make room")])
    assert not full.is_good


def test_control_characters():
    """`table` shows nothing that a terminal would act on."""
    assert "\x1b" not in table([Row("a\x1b[2J", {}, ("b\x07\x1b",))])


def test_empty():
    """`table` of no hosts is its heading."""
    assert table([]).startswith("host  reached")
