"""What tasks write, on its way from a child to whoever asks the scheduler."""

from __future__ import annotations

import os
import sys

import pytest
from twisted.internet.task import Clock

from twisted_dist.client.logs import LogEntry, as_keys
from twisted_dist.errors import RefusedError, UsageProblem
from twisted_dist.services import logbook, passage
from twisted_dist.services import outputs as outputs_module
from twisted_dist.services.logbook import LogBook
from twisted_dist.services.outputs import GATHER_S, MOST_A_SECOND, MOST_OF_TASK, Outputs
from twisted_dist.services.passage import RETRY_S, Passage


def asked(book, after=0, keys=None, worker=None):
    """The texts that a client is told, and what it asks for next."""
    answer = book.answer({"after": after, "keys": keys, "worker": worker})
    return [entry[-1] for entry in answer["entries"]], answer["last"]


def test_log_book_by_task_and_worker():
    """`LogBook` keeps order over all workers, and finds what is of a task or a worker."""
    book = LogBook()
    book.note(1.0, "alice", [("a", 1, "1"), ("", 2, "2")])
    book.note(2.0, "bob", [("b", 1, "3")])
    book.note(3.0, "alice", [("a", 1, "4")], left_out=7)
    told = "[7 characters were left out]\n"
    assert asked(book) == (["1", "2", "3", "4", told], 5)
    assert asked(book, after=3) == (["4", told], 5)
    assert asked(book, keys=["a"]) == (["1", "4"], 5)
    assert asked(book, worker="bob") == (["3"], 5)
    assert asked(book, worker="carol") == ([], 5)
    entries = book.answer({"after": 2, "keys": None, "worker": "bob"})["entries"]
    assert entries == [[3, 2.0, "bob", "b", 1, "3"]]


def test_log_book_is_bounded(monkeypatch):
    """`LogBook` forgets the oldest of a worker, the quietest worker, and answers in parts."""
    monkeypatch.setattr(logbook, "MOST_OF_WORKER", 10)
    monkeypatch.setattr(logbook, "ENTRY_SIZE", 0)
    monkeypatch.setattr(logbook, "MOST_WORKERS", 2)
    monkeypatch.setattr(logbook, "MOST_ANSWERED", 4)
    book = LogBook()
    for n in range(8):
        book.note(n, "alice", [("", 1, f"{n:03}")])
    assert asked(book) == (["005", "006"], 7)
    assert asked(book, after=7) == (["007"], 8)
    book.note(9.0, "bob", [("", 1, "b")])
    book.note(9.0, "alice", [("", 1, "a")])
    book.note(9.0, "carol", [("", 1, "c")])
    assert asked(book, worker="bob")[0] == []
    assert asked(book, worker="carol")[0] == ["c"]
    book.note(9.0, "carol", [("", 1, "x" * 99)])
    assert asked(book, worker="carol")[0] == ["x" * 10]
    monkeypatch.setattr(logbook, "ENTRY_SIZE", 9)
    for n in range(5):
        book.note(9.0, "dora", [("", 1, str(n))])
    assert asked(book, worker="dora")[0] == ["4"]


@pytest.mark.parametrize(
    "what",
    [
        None,
        [],
        {"after": 0},
        {"after": "0", "keys": None, "worker": None},
        {"after": 0, "keys": "a", "worker": None},
        {"after": 0, "keys": [1], "worker": None},
        {"after": 0, "keys": None, "worker": 1},
    ],
)
def test_log_book_refuses(what):
    """`LogBook.answer` refuses what it does not understand."""
    with pytest.raises(RefusedError, match="after, keys and worker"):
        LogBook().answer(what)


def test_outputs_gather():
    """`Outputs` tells what gathers, once; what is too much for a second is counted."""
    clock, told = Clock(), []
    outputs = Outputs(clock, lambda *columns: told.append(columns))
    outputs.add([(1, 1, "a"), (2, 2, "b")])
    outputs.add([(1, 1, "c")])
    assert told == []
    clock.advance(GATHER_S)
    assert told == [([1, 2, 1], [1, 2, 1], ["a", "b", "c"], 0)]
    outputs.add([(0, 1, "x" * (MOST_A_SECOND - 100)), (1, 1, "y" * 20_000)])
    clock.advance(GATHER_S)
    assert [len(each) for each in told[-1][2]] == [MOST_A_SECOND - 100]
    assert told[-1][3] == 20_000
    clock.advance(1.0)
    outputs.add([(1, 1, "z" * 1000)])
    outputs.tell()
    assert told[-1] == ([1], [1], ["z" * 1000], 0)
    assert not clock.getDelayedCalls()


def test_outputs_of_one_task(monkeypatch):
    """`Outputs` tells so much of a task; and remembers of so many tasks how much that was."""
    monkeypatch.setattr(outputs_module, "MOST_TASKS", 2)
    clock, told = Clock(), []
    outputs = Outputs(clock, lambda *columns: told.append(columns))
    outputs.add([(1, 1, "a" * (MOST_OF_TASK - 1)), (1, 2, "bc"), (1, 1, "d"), (2, 1, "e")])
    clock.advance(GATHER_S)
    (ids, streams, texts, left_out), *_ = told
    assert (ids, streams) == ([1, 1, 2], [1, 2, 1])
    assert [len(each) for each in texts] == [MOST_OF_TASK - 1, 1, 1]
    assert left_out == 2
    clock.advance(1.0)
    outputs.add([(1, 1, "f"), (3, 1, "g"), (1, 1, "h"), (2, 1, "i")])
    clock.advance(GATHER_S)
    assert told[-1] == ([3, 2], [1, 1], ["g", "i"], 2)
    outputs.tell()


class Pipe:
    """A standard error that somebody reads, or not."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def fileno(self):
        """Its own."""
        return self.writer

    def flush(self):
        """Nothing is kept."""

    def read(self):
        """All that is there."""
        parts = []
        while True:
            try:
                parts.append(os.read(self.reader, 2**16))
            except BlockingIOError:
                return b"".join(parts)

    def close(self):
        """Both ends."""
        os.close(self.reader)
        os.close(self.writer)


def test_passage_never_blocks(monkeypatch):
    """`Passage` passes on what a pipe takes, keeps some, and says what it left out."""
    monkeypatch.setattr(passage, "MOST_WAITING", 200_000)
    pipe, clock = Pipe(), Clock()
    monkeypatch.setattr(sys, "stderr", pipe)
    way = Passage(clock, 2)
    way.write(b"hello\n")
    assert pipe.read() == b"hello\n"
    for _ in range(10):
        way.write(b"x" * 50_000)
    seen = b""
    while clock.getDelayedCalls():
        seen += pipe.read()
        clock.advance(RETRY_S)
    seen += pipe.read()
    assert b"bytes of tasks' output left out]" in seen
    assert 200_000 <= seen.count(b"x") < 500_000
    way.write(b"y" * 100_000)
    way.close()
    assert not clock.getDelayedCalls()
    pipe.close()


def test_passage_to_what_is_no_file(monkeypatch):
    """`Passage` writes text to a stream that has no descriptor, and nowhere where there is none."""
    texts = []

    class Log:
        def flush(self):
            """Nothing is kept."""

        def write(self, text):
            """As twistd's log."""
            texts.append(text)

    monkeypatch.setattr(sys, "stdout", Log())
    Passage(Clock(), 1).write(b"to the log")
    monkeypatch.setattr(sys, "stdout", None)
    Passage(Clock(), 1).write(b"nowhere")
    assert texts == ["to the log"]


def test_keys_that_are_asked_for():
    """`as_keys` takes keys, in containers too, and refuses what has none."""
    assert as_keys(None) is None
    assert as_keys("a") == ["a"]
    assert as_keys(["a", ("b", "c")]) == ["a", "b", "c"]
    with pytest.raises(UsageProblem, match="futures or keys"):
        as_keys(5)


def test_entry_as_a_line():
    """`LogEntry` prints as a line of a log."""
    assert str(LogEntry(0.0, "w", "", "stdout", "text\n")).endswith(" w -: text")
