"""`Output`: what tasks write, whose it is, and how much of it is kept."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from twisted_dist.execution.current import running
from twisted_dist.execution.output import (
    AT_ONCE_S,
    MOST_GATHERED,
    STDERR,
    STDOUT,
    Output,
    OutputStream,
    awaited_task,
)
from twisted_dist.execution.runner import TaskSpec


def task(number):
    """A task."""
    return TaskSpec(number, 1, b"", b"", ())


@pytest.fixture
def desk():
    """An output whose clock the test sets, and what it sends."""

    class Desk:
        def __init__(self):
            self.now = 100.0
            self.sent = []
            self.output = Output(self.sent.extend, lambda: self.now)

    yield Desk()
    running.spec = None


def test_lines_are_sent_at_once(desk):
    """`Output` sends a line that is alone as it is written, as the task's that wrote it."""
    running.spec = task(7)
    print("hello", file=OutputStream(desk.output, STDOUT))
    desk.now += 1
    running.spec = None
    print("nobody's", file=OutputStream(desk.output, STDERR))
    assert desk.sent == [[7, STDOUT, "hello\n"], [0, STDERR, "nobody's\n"]]


def test_line_upon_line_gathers(desk):
    """`Output` gathers what follows quickly, and sends it when there is much, or at a flush."""
    stream = OutputStream(desk.output, STDOUT)
    print("first", file=stream)
    desk.now += AT_ONCE_S / 2
    print("second", file=stream)
    assert [text for *_, text in desk.sent] == ["first\n"]
    stream.write("x" * MOST_GATHERED)
    assert [text for *_, text in desk.sent] == ["first\n", "second\n" + "x" * MOST_GATHERED]
    print("last", file=stream)
    desk.output.flush()
    desk.output.flush()
    assert desk.sent[2:] == [[0, STDOUT, "last\n"]]


def test_bytes_and_odd_characters(desk):
    """`OutputStream` takes bytes as well, and what no encoding has."""
    stream = OutputStream(desk.output, STDOUT)
    stream.buffer.write(b"caf\xc3\xa9 \xff\n")
    stream.write("\udc80\n")
    desk.output.flush()
    assert "".join(text for *_, text in desk.sent) == "caf\xe9 \ufffd\n\\udc80\n"
    assert (stream.fileno(), stream.buffer.fileno(), stream.isatty()) == (1, 1, False)
    stream.flush()


def test_coroutines_and_threads(desk):
    """What a coroutine writes is its task's; what a thread of a task's writes is nobody's."""
    stream = OutputStream(desk.output, STDOUT)

    async def write(text):
        await asyncio.sleep(0)
        stream.write(text)

    async def both():
        tasks = []
        for number, text in ((1, "one"), (2, "two")):
            token = awaited_task.set(task(number))
            tasks.append(asyncio.create_task(write(text)))
            awaited_task.reset(token)
        await asyncio.gather(*tasks)

    asyncio.run(both())
    running.spec = task(3)
    thread = threading.Thread(target=stream.write, args=("three",))
    thread.start()
    thread.join()
    desk.output.flush()
    assert desk.sent == [[1, STDOUT, "one"], [2, STDOUT, "two"], [0, STDOUT, "three"]]


def test_taken_over_and_given_back(desk):
    """`Output.take_over` is where ``print`` writes, until `give_back`."""
    before = sys.stdout, sys.stderr
    desk.output.take_over()
    try:
        print("mine")
    finally:
        desk.output.give_back()
    assert (sys.stdout, sys.stderr) == before
    assert desk.sent == [[0, STDOUT, "mine\n"]]
