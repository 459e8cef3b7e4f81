"""Hosts that there are not: an SSH client whose hosts do as a test says, on a `Clock`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.interface import Ending, How


class FarCommand:
    """A command that runs until it is told to end, or a test ends it."""

    def __init__(self, connection, command, output, errors):
        self.connection = connection
        self.command = command
        self.output = output
        self.errors = errors
        self.input = b""
        self.signals = []
        self.obeys = self.hears = True
        self._ending = None
        self._waiting = []

    def write(self, data):
        self.input += data

    def end_input(self):
        if self.obeys:
            self.end(Ending(How.EXITED, 0))

    def signal(self, name):
        self.signals.append(name)
        if name == "KILL" and self.hears:
            self.end(Ending(How.SIGNALLED, signal="KILL"))

    def end(self, ending):
        if self._ending is None:
            self._ending = ending
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(ending)

    def ended(self):
        if self._ending is not None:
            return succeed(self._ending)
        waiting = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    @property
    def is_running(self):
        return self._ending is None


class FarConnection:
    """To one host; what is started there is in `commands`."""

    def __init__(self, host):
        self.host = host
        self.commands = []
        self._reason = None
        self._waiting = []

    async def start(self, command, output, errors):
        if self._reason is not None:
            raise SSHError(f"{self.host.name}: {self._reason}", "lost", is_passing=True)
        started = FarCommand(self, command, output, errors)
        self.commands.append(started)
        self.host.commands.append(started)
        self.host.on_start(started)
        return started

    def lost(self):
        if self._reason is not None:
            return succeed(self._reason)
        waiting = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def lose(self, reason):
        if self._reason is None:
            self._reason = reason
            for each in self.commands:
                each.end(Ending(How.LOST, reason=reason))
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(reason)

    def close(self):
        self.lose("closed")
        return succeed(None)


class FarHost:
    """What is there under a name.

    Attributes:
        problems: raised by attempts to enter it, one after the other, then by none.
        down: raised by every attempt, while it is there.
        on_start: called with each command that is started.
    """

    def __init__(self, name):
        self.name = name
        self.problems = []
        self.down = None
        self.commands = []
        self.connections = []
        self.attempts = 0
        self.on_start = lambda command: None

    @property
    def running(self):
        return [each for each in self.commands if each.is_running]


class FarClient:
    """The SSH client of such hosts."""

    def __init__(self, *names):
        self.hosts = {name: FarHost(name) for name in names}

    async def connect(self, settings):
        host = self.hosts[settings.alias]
        host.attempts += 1
        if host.down is not None:
            raise host.down
        if host.problems:
            raise host.problems.pop(0)
        connection = FarConnection(host)
        host.connections.append(connection)
        return connection

    def close(self):
        return succeed(None)
