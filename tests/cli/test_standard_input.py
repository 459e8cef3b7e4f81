"""The first line of standard input, and the silence after it."""

import os

import pytest
from twisted.internet.task import Clock

from twisted_dist.cli import standard_input
from twisted_dist.cli.scheduler import Options as SchedulerOptions
from twisted_dist.cli.standard_input import StdinWatch, read_line, takes_a_line
from twisted_dist.cli.worker import Options as WorkerOptions
from twisted_dist.errors import AccessError


@pytest.fixture
def pipe():
    """A pipe's reading and writing end."""
    ends = os.pipe()
    yield ends
    for each in ends:
        try:
            os.close(each)
        except OSError:
            pass  # the test has


def test_line_and_no_more(pipe):
    """`read_line` takes the line, and leaves what follows where it is."""
    reading, writing = pipe
    os.write(writing, "ä secret\r\nand more\n".encode())
    assert read_line("x", reading) == "ä secret"
    assert os.read(reading, 100) == b"and more\n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it ended before anything came"),
        (b"half", "it ended in the midst of the line"),
        (b"\xff\xfe\n", "is no text"),
        (b"x" * 101 + b"\n", "more than 100 bytes"),
    ],
)
def test_no_line(pipe, data, why):
    """`read_line` says what is wrong with what came, and shows nothing of it."""
    reading, writing = pipe
    os.write(writing, data)
    os.close(writing)
    with pytest.raises(AccessError, match=f"^an access is to come on standard input: .*{why}") as e:
        read_line("an access", reading, most=100)
    assert "half" not in str(e.value)


@pytest.mark.parametrize(("data", "some"), [(b"", "nothing"), (b"ha", "no whole line")])
def test_too_late(pipe, data, some):
    """`read_line` waits for the whole line for so long and no longer, though bytes drop in."""
    reading, writing = pipe
    os.write(writing, data)
    now = iter(range(100))
    with pytest.raises(AccessError, match=f"{some} came in 3 s"):
        read_line("x", reading, timeout_s=3, clock=lambda: min(next(now), 3))


def test_closed(pipe):
    """`read_line` says what the system says where there is no standard input."""
    os.close(pipe[0])
    with pytest.raises(AccessError, match="Bad file descriptor"):
        read_line("x", pipe[0])


class Reactor(Clock):
    """A clock that remembers who reads."""

    def __init__(self):
        super().__init__()
        self.readers = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard


@pytest.fixture
def watched(pipe, monkeypatch):
    """A watch on a pipe, its reactor, what it told, and the writing end."""
    reading, writing = pipe
    monkeypatch.setattr(standard_input.os, "read", lambda _, n: REAL_READ(reading, n))
    monkeypatch.setattr(standard_input, "_LastResort", NoResort)
    reactor, told = Reactor(), []
    watch = StdinWatch(reactor, lambda: told.append("closed"), told.append, 60.0)
    watch.start()
    return watch, reactor, told, writing


REAL_READ = os.read


class NoResort:
    """In place of a thread."""

    def __init__(self, patience_s):
        assert patience_s > 60

    def start(self):
        """Nothing."""

    heard = start


def test_silence(watched):
    """`StdinWatch` tells once of silence; what comes meanwhile breaks it."""
    watch, reactor, told, writing = watched
    reactor.advance(59)
    os.write(writing, b"\n")
    watch.doRead()
    reactor.advance(59)
    assert told == []
    reactor.advance(1)
    assert len(told) == 1
    assert "nothing came on standard input for 60 s" in told[0]
    watch.connectionLost(None)
    assert len(told) == 1
    assert not reactor.readers
    assert not reactor.getDelayedCalls()


def test_end(watched):
    """`StdinWatch` tells once of the end, and has no timer then."""
    watch, reactor, told, writing = watched
    os.close(writing)
    watch.doRead()
    watch.connectionLost(None)
    assert told == ["closed"]
    assert not reactor.readers
    assert not reactor.getDelayedCalls()


def test_takes_a_line(pipe):
    """`takes_a_line` is false for a pipe that is full, and for what is closed."""
    reading, writing = pipe
    assert takes_a_line(writing)
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    assert not takes_a_line(writing)
    os.close(reading)
    os.close(writing)
    assert not takes_a_line(writing)


@pytest.mark.parametrize(
    ("options", "words", "why"),
    [
        (WorkerOptions, ["a:1", "--stdin-silence", "60"], "is for --until-stdin-closes"),
        (WorkerOptions, ["a:1", "--until-stdin-closes", "--stdin-silence", "0"], "is no time"),
        (WorkerOptions, ["a:1", "--access-file=-", "--print-unit"], "no standard input"),
        (WorkerOptions, ["a:1", "--access-file=-", "--insecure"], "give one of them"),
        (SchedulerOptions, ["--network-file=-", "--insecure"], "give one of them"),
        (SchedulerOptions, ["--network-file", "-", "--print-unit"], "no standard input"),
    ],
)
def test_refused(options, words, why, capsys):
    """Options of standard input that cannot be meant are one line and status 2."""
    with pytest.raises(SystemExit) as ended:
        options().parseOptions(words)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
