"""Lives of processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twisted_dist.access.life import has_ended, life, process_of


def test_life():
    """`life` names a process for as long as it lives, and no later one of its number."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    told = life(child.pid)
    assert process_of(told).pid == child.pid
    assert not has_ended(told)
    later = {**told, "born": "the next boot:1"}
    assert process_of(later) is None
    assert has_ended(later)
    child.communicate(b"\n")
    assert process_of(told) is None
    assert has_ended(told)
    with pytest.raises(ProcessLookupError):
        life(child.pid)


@pytest.mark.parametrize("told", [None, 7, {}, {"pid": "1"}, {"pid": -1}, {"pid": True}])
def test_edited(told):
    """What is no life is no process, and has not ended either."""
    assert process_of(told) is None
    assert not has_ended(told)
