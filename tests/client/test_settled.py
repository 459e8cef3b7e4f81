"""`client.settled`, and what `FunctionTable` makes of it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from twisted_dist.client import pickling
from twisted_dist.client.pickling import FunctionTable

SOURCE = """
import math
rate = 2
rows = [1, 2]
def plain(x): return x + 1
def scaled(x): return x * rate
def rooted(x): return math.sqrt(x)
def within(x): return [math.floor(y) * rate for y in x]
def counted(x): return len(rows) + x
def helped(x): return plain(x)
def defaulted(x, y=1): return x + y
def remembering(x, seen=[]): return seen
def by_name(x, *, y=1): return x + y
def closed(n):
    def inner(x): return x + n
    return inner
closure = closed(1)
"""
SETTLED = ("plain", "scaled", "rooted", "within", "defaulted", "lambda x: x + rate")
UNSETTLED = ("counted", "helped", "remembering", "by_name", "closure")


@pytest.fixture
def main():
    """A module that workers do not have, as ``__main__`` is one."""
    module = ModuleType("__main__")
    exec(SOURCE, module.__dict__)
    return module


@pytest.fixture
def table(monkeypatch):
    """A table, with a list of the functions that it pickled in turn."""
    dumps = pickling.dumps
    table = FunctionTable(lambda digest, name, blob: None)
    table.pickled = []

    def dump(what):
        table.pickled.append(what)
        return dumps(what)

    monkeypatch.setattr(pickling, "dumps", dump)
    return table


@pytest.mark.parametrize("source", SETTLED)
def test_settled(main, table, source):
    """What cannot have become another function is pickled once."""
    function = eval(source, main.__dict__)
    assert len({table.digest(function) for _ in range(3)}) == 1
    assert table.pickled == [function]


@pytest.mark.parametrize("name", UNSETTLED)
def test_unsettled(main, table, name):
    """What may have become another unnoticed is pickled each time."""
    function = getattr(main, name)
    assert len({table.digest(function) for _ in range(3)}) == 1
    assert table.pickled == [function] * 3


def rebound(main):
    """A global that it uses is another."""
    main.rate = 3


def mutable(main):
    """A global that it uses can now change in place."""
    main.rate = [3]


def recoded(main):
    """Its code is another's."""
    main.scaled.__code__ = main.plain.__code__


def redefaulted(main):
    """It has a default now."""
    main.scaled.__defaults__ = (4,)


def tagged(main):
    """It has an attribute now."""
    main.scaled.tag = 1


def renamed(main):
    """It is called something else."""
    main.scaled.__name__ = "other"


@pytest.mark.parametrize("change", [rebound, mutable, recoded, redefaulted, tagged, renamed])
def test_changes(main, table, change):
    """A function that has become another is another on the network."""
    old = table.digest(main.scaled)
    change(main)
    assert table.digest(main.scaled) != old
    assert table.pickled == [main.scaled] * 2


def test_name_defined_later(main, table):
    """A name that was nobody's, or a builtin's, may become a global."""
    function = eval("lambda x: abs(x)", main.__dict__)
    old = table.digest(function)
    main.abs = 5
    assert table.digest(function) != old


def test_packages(main, table, monkeypatch):
    """What uses a package is pickled again after more was imported."""
    package = ModuleType("some_package")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "some_package", package)
    main.some_package = package
    function = eval("lambda x: some_package.part.f(x)", main.__dict__)
    for _ in range(3):
        table.digest(function)
    assert len(table.pickled) == 1
    monkeypatch.setitem(sys.modules, "some_package.part", ModuleType("some_package.part"))
    table.digest(function)
    assert len(table.pickled) == 2


def test_modules_made_by_hand(main, table):
    """A module that cannot be imported is pickled with what is in it, each time."""
    main.made = ModuleType("made")
    main.made.rate = 2
    function = eval("lambda x: x * made.rate", main.__dict__)
    old = table.digest(function)
    main.made.rate = 3
    assert table.digest(function) != old


def test_functions_are_let_go(main, table):
    """A table does not keep what is by value."""
    for n in range(5):
        table.digest(eval(f"lambda x: x + {n}", main.__dict__))
    table.pickled.clear()
    assert not len(table._settled)
