"""Questions at a terminal: a real one, of the kernel's."""

import os
import pty
import signal
import subprocess
import sys
import termios

import pytest
from twisted.internet import defer, task
from twisted.internet.defer import Deferred

from tests.support.daemons import PATIENCE_S
from tests.support.misdeeds import until
from twisted_dist import ReactorThread
from twisted_dist.launchers.ssh.asking import TerminalAsker

pytestmark = pytest.mark.slow


class Screen:
    """Somebody before a terminal."""

    def __init__(self):
        self.ours, theirs = pty.openpty()
        self.path = os.ttyname(theirs)
        self._theirs = theirs
        os.set_blocking(self.ours, False)
        self.shown = ""

    def look(self):
        """Everything that was shown until now."""
        try:
            self.shown += os.read(self.ours, 65536).decode()
        except (BlockingIOError, OSError):
            pass
        return self.shown

    def wait(self, text):
        """Wait until *text* is shown."""
        until(lambda: text in self.look())

    def type(self, text):
        """Type it."""
        os.write(self.ours, text.encode())

    def is_echoing(self):
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self.ours)[3] & termios.ECHO)

    def close(self):
        """Leave."""
        for each in (self.ours, self._theirs):
            if each >= 0:
                os.close(each)
        self.ours = self._theirs = -1


@pytest.fixture
def screen():
    """A terminal."""
    screen = Screen()
    yield screen
    screen.close()


@pytest.fixture
def loop():
    """A reactor."""
    with ReactorThread() as loop:
        yield loop
        assert loop.call(loop.reactor.getDelayedCalls) == []


def begin(loop, function, *arguments):
    """Begin something in the reactor; the Deferred of it, which is to be used there only."""
    return loop.call(lambda: [Deferred.fromCoroutine(function(*arguments))])[0]


def end(loop, waiting):
    """The result of what was begun."""
    return loop.call(lambda: waiting.addTimeout(PATIENCE_S, loop.reactor))


def test_secret(loop, screen):
    """`TerminalAsker.secret` shows the prompt and not the answer; the reactor goes on."""
    held = []
    asker = TerminalAsker(loop.reactor, held.append, screen.path)
    waiting = begin(loop, asker.secret, "Password: ")
    screen.wait("Password: ")
    assert not screen.is_echoing()
    assert held == [True]
    loop.call(lambda: task.deferLater(loop.reactor, 0))
    screen.type("s3cret ü\n")
    assert end(loop, waiting) == "s3cret ü"
    until(screen.is_echoing)
    assert screen.look() == "Password: \r\n"
    assert held == [True, False]


def test_in_turn(loop, screen):
    """Two questions are asked one after the other, and an empty answer is one."""
    asker = TerminalAsker(loop.reactor, path=screen.path)
    first = begin(loop, asker.secret, "one? ")
    second = begin(loop, asker.secret, "two? ")
    screen.wait("one? ")
    assert "two" not in screen.look()
    screen.type("\n")
    assert end(loop, first) == ""
    screen.wait("two? ")
    screen.type("2\n")
    assert end(loop, second) == "2"


@pytest.mark.parametrize(
    ("typed", "answer"), [("yes", True), ("y", True), ("NO", False), ("n", False)]
)
def test_confirm(loop, screen, typed, answer):
    """`TerminalAsker.confirm` takes yes and no, and asks again for anything else."""
    asker = TerminalAsker(loop.reactor, path=screen.path)
    waiting = begin(loop, asker.confirm, "Are you sure?")
    screen.wait("Are you sure (yes/no)? ")
    assert screen.is_echoing()
    screen.type("what\n")
    screen.wait("Please type 'yes' or 'no': ")
    screen.type(typed + "\n")
    assert end(loop, waiting) is answer


def test_end_of_input(loop, screen):
    """^D is no answer."""
    asker = TerminalAsker(loop.reactor, path=screen.path)
    for function, answer in ((asker.secret, None), (asker.confirm, False)):
        waiting = begin(loop, function, "What")
        screen.wait("What")
        screen.shown = ""
        screen.type("\x04")
        assert end(loop, waiting) is answer


def test_typed_ahead(loop, screen):
    """What was typed before the question is no answer to it."""
    asker = TerminalAsker(loop.reactor, path=screen.path)
    screen.type("rm -rf\n")
    screen.wait("rm -rf")  # the kernel shows it when it has it: what is under way it cannot drop
    waiting = begin(loop, asker.secret, "Password: ")
    screen.wait("Password: ")
    screen.type("right\n")
    assert end(loop, waiting) == "right"


def test_cancelled(loop, screen):
    """Cancelled, it gives the terminal back as it was, and the turn to others."""
    asker = TerminalAsker(loop.reactor, path=screen.path)
    waiting = begin(loop, asker.secret, "Password: ")
    screen.wait("Password: ")
    assert not screen.is_echoing()

    def cancel():
        waiting.cancel()
        return waiting.addErrback(lambda failure: failure.trap(defer.CancelledError))

    loop.call(cancel)
    assert screen.is_echoing()
    other = begin(loop, asker.secret, "Again: ")
    screen.wait("Again: ")
    screen.type("x\n")
    assert end(loop, other) == "x"


def test_hung_up(loop, screen):
    """A terminal that goes away gives no answer."""
    asker = TerminalAsker(loop.reactor, path=screen.path)
    waiting = begin(loop, asker.secret, "Password: ")
    screen.wait("Password: ")
    screen.close()
    assert end(loop, waiting) is None


@pytest.mark.parametrize("path", ["/nonexistent", "/dev/null", "/"])
def test_no_terminal(loop, path):
    """Where there is no terminal, nobody answers, at once."""
    asker = TerminalAsker(loop.reactor, path=path)
    assert loop.call(asker.secret, "Password: ") is None
    assert loop.call(asker.confirm, "Sure?") is False


ASKING = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted_dist.launchers.ssh.asking import TerminalAsker

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(TerminalAsker(reactor).secret("Word: ")))
reactor.run()
"""
#: makes its standard input the terminal that controls it
CONTROLLED = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
exec(sys.argv[1])
"""


@pytest.mark.parametrize("how", ["^C", "TERM"])
def test_interrupted(screen, how):
    """^C at a question is for the program, which ends; the terminal is as it was."""
    theirs = os.open(screen.path, os.O_RDWR | os.O_NOCTTY)
    process = subprocess.Popen([sys.executable, "-c", CONTROLLED, ASKING], stdin=theirs)
    os.close(theirs)
    screen.wait("Word: ")
    assert not screen.is_echoing()
    if how == "^C":
        screen.type("\x03")
    else:
        process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) in {0, 1}
    assert screen.is_echoing()
