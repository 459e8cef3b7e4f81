"""This very machine as a host that was entered."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from twisted_dist.errors import SSHError
from twisted_dist.launchers.cluster.here import LocalConnection
from twisted_dist.launchers.ssh.interface import Ending, How

pytestmark = pytest.mark.slow


class HereTests(TestCase):
    """Real processes."""

    def setUp(self):
        self.changes = []
        self.connection = LocalConnection(reactor, lambda: self.changes.append(1))
        self.output, self.errors = bytearray(), bytearray()
        self.addCleanup(self.connection.close)

    def start(self, command):
        return self.connection.start(command, self.output.extend, self.errors.extend)

    async def test_from_start_to_end(self):
        """`LocalConnection.start` gives a shell's command input, and takes what it writes."""
        command = await self.start('read line; echo "$line $TD"; echo no >&2; exit 7')
        assert self.connection.pids == [command.pid]
        assert os.getsid(command.pid) in {command.pid, os.getsid(0)}  # about to be its own
        command.write(b"it's\n")
        assert await command.ended() == Ending(How.EXITED, 7)
        assert (bytes(self.output), bytes(self.errors)) == (b"it's \n", b"no\n")
        assert self.connection.pids == []
        assert len(self.changes) == 2
        command.write(b"late")
        command.end_input()
        command.signal("TERM")

    async def test_input_ends(self):
        """`LocalCommand.end_input` ends it once all has been read; much of it is no problem."""
        command = await self.start("wc -c")
        command.write(b"x" * 1_000_000)
        command.end_input()
        assert (await command.ended()).is_success
        assert self.output.strip() == b"1000000"

    async def test_signals_are_for_the_group(self):
        """`LocalCommand.signal` is for all that it has started."""
        command = await self.start("sleep 1000 & echo $!; wait")
        while not self.output.endswith(b"\n"):
            await _turn()
        command.signal("KILL")
        assert await command.ended() == Ending(How.SIGNALLED, signal="KILL")
        child = int(self.output)
        while _lives(child):
            await _turn()

    async def test_output_that_others_hold(self):
        """A command ends when it has, though what it has left behind holds its output."""
        command = await self.start("sleep 30 & echo $!; exit 0")
        assert (await command.ended()).is_success
        os.kill(int(self.output), signal.SIGKILL)

    async def test_close(self):
        """`LocalConnection.close` ends all, and is told."""
        commands = [await self.start("sleep 1000") for _ in range(3)]
        lost = self.connection.lost()
        await gatherResults([self.connection.close(), self.connection.close()])
        assert [(await each.ended()).signal for each in commands] == ["KILL"] * 3
        assert await lost == await self.connection.lost() == "it was closed"
        with pytest.raises(SSHError):
            await self.start("true")


def _lives(pid):
    """Whether it does; who waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _turn():
    from twisted.internet.task import deferLater

    return deferLater(reactor, 0.01, lambda: None)
