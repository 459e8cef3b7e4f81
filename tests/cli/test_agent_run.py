"""What an agent saves, and where its lines go."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_dist.cli.agent_run import SAVE_S, Saver
from twisted_dist.cli.log_files import LogFiles


class World:
    """A saver whose thread is the test."""

    def __init__(self):
        self.clock = Clock()
        self.number = 0
        self.saving = []
        self.saver = Saver(self.clock, lambda state: None, self.state, self.in_thread)

    def state(self):
        return {"number": self.number}

    def in_thread(self, function, state):
        done = Deferred()
        self.saving.append((state["number"], done))
        return done

    def change(self):
        self.number += 1
        self.saver.changed()


def test_saver():
    """`Saver` saves once for many changes, one after the other, and the last one always."""
    world = World()
    for _ in range(3):
        world.change()
    assert world.saving == []
    world.clock.advance(SAVE_S)
    assert [number for number, _ in world.saving] == [3]
    world.change()
    world.clock.advance(10 * SAVE_S)
    assert [number for number, _ in world.saving] == [3]
    world.saving[0][1].callback(None)
    world.clock.advance(SAVE_S)
    assert [number for number, _ in world.saving] == [3, 4]
    world.saving[1][1].callback(None)
    assert world.clock.getDelayedCalls() == []


def test_saver_stops():
    """`Saver.stop` leaves no timer, and nothing is saved afterwards."""
    world = World()
    world.change()
    world.saver.stop()
    world.change()
    assert world.clock.getDelayedCalls() == []
    assert world.saving == []


def test_log_files_rotate(tmp_path):
    """`LogFiles` keeps so many files of so many bytes, for their user only."""
    files = LogFiles(tmp_path, lambda text: None, most_bytes=100, kept=3)
    files.start()
    for number in range(40):
        files.line("a.log", f"line {number:03}")
    files.stop()
    texts = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert sorted(texts) == ["a.log", "a.log.1", "a.log.2"]
    assert "".join(texts[f"a.log{each}"] for each in (".2", ".1", "")).splitlines() == [
        f"line {number:03}" for number in range(12, 40)
    ]
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_log_files_that_never_began(tmp_path):
    """`LogFiles.stop` is for those that could not start, too."""
    LogFiles(tmp_path, lambda text: None).stop()
