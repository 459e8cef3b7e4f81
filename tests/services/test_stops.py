"""`Stops`: whose end was asked for, and where it was."""

from __future__ import annotations

from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.status import Running
from twisted_dist.services.stops import Stops


def test_errors_are_sorted():
    """`Stops.sort` tells what was stopped from what failed, each once."""
    stops = Stops()
    columns = ([1, 2, 3], [1, 1, 2], [b"a", b"b", b"c"], ["A", "B", "C"])
    assert list(stops.sort(*columns)) == [m.ExecutionErred(*columns)]
    stops.ask([1, 2, 3], [1, 1, 1])
    stops.note([1, 9], [1, 1], ["line 7", "line 9"])
    assert list(stops.sort(*columns)) == [
        m.ExecutionErred([3], [2], [b"c"], ["C"]),
        m.ExecutionStopped([1, 2], [1, 1], ["it was at\nline 7", "B"]),
    ]
    assert stops.is_asked(3, 1)
    assert not stops.is_asked(1, 1)
    stops.forget(3, 1)
    assert list(stops.sort(*columns)) == [m.ExecutionErred(*columns)]


def test_ended_by_force():
    """`Stops.ended` says how, and where it was if that is known."""
    stops = Stops()
    stops.ask([1, 2], [1, 1])
    stops.note([1], [1], ["line 7"])
    fact = stops.ended([Running(1, 1, 0), Running(2, 1, 0)], "killed")
    assert fact == m.ExecutionStopped([1, 2], [1, 1], ["killed; it was at\nline 7", "killed"])
    stops.clear()
    assert not stops.is_asked(1, 1)
