"""`ConchConnection`: a host that was entered."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.alive import Alive
from twisted_dist.launchers.ssh.channel import ExecChannel
from twisted_dist.launchers.ssh.interface import Sink
from twisted_dist.launchers.ssh.multiplexer import Multiplexer
from twisted_dist.launchers.ssh.settings import HostSettings
from twisted_dist.launchers.ssh.transport import ClientTransport

#: seconds until a server must have started a command
START_S: Final = 30.0
#: seconds until a server must have ended a connection that was ended politely
CLOSE_S: Final = 2.0


class ConchConnection:
    """A `Connection` by conch; watched from its beginning."""

    def __init__(self, reactor: Any, settings: HostSettings, transport: ClientTransport) -> None:
        self._reactor = reactor
        self._settings = settings
        self._transport = transport
        self._is_closing = False
        self._alive = Alive(
            reactor,
            settings.alive_interval_s,
            settings.alive_count,
            self._has_heard,
            transport.multiplexer.ask_alive,
            self._is_dead,
        )
        self._alive.start()
        transport.lost().addCallback(lambda _: self._alive.stop())

    @property
    def multiplexer(self) -> Multiplexer:
        """What channels are opened on."""
        return self._transport.multiplexer

    async def start(self, command: str, output: Sink, errors: Sink) -> ExecChannel:
        """Have the user's shell there run *command*.

        Cancelled, the command may or may not have been started; its session is closed.

        Raises:
            SSHError: the server refused, or the connection is lost.
        """
        host = self._settings.alias
        if not self.multiplexer.is_running or self._is_closing:
            raise SSHError(self.multiplexer.reason or f"{host}: closed", "lost", is_passing=True)
        channel = ExecChannel(self.multiplexer, host, command, output, errors)
        self.multiplexer.openChannel(channel)
        try:
            await channel.started.addTimeout(START_S, self._reactor)
        except defer.TimeoutError:
            raise SSHError(
                f"{host}: its sshd has not started a command for {START_S:g} s",
                "command",
                is_passing=True,
            ) from None
        return channel

    def lost(self) -> Deferred[str]:
        """A new Deferred that fires with the reason once the connection has ended."""
        return self._transport.lost()

    def close(self) -> Deferred[None]:
        """End it, with whatever runs in it; fires when the socket is closed. Idempotent."""
        lost = self._transport.lost()
        if not lost.called and not self._is_closing:
            self._is_closing = True
            self._transport.close()
            late = self._reactor.callLater(CLOSE_S, self._transport.abort)
            lost.addBoth(lambda _: late.cancel() if late.active() else None)
        return lost.addCallback(lambda _: None)

    def _has_heard(self) -> bool:
        has_heard, self._transport.has_heard = self._transport.has_heard, False
        return has_heard

    def _is_dead(self) -> None:
        silence = self._settings.alive_interval_s * (self._settings.alive_count + 1)
        self._transport.fail(
            SSHError(
                f"{self._settings.alias}: no sign of life for {silence:g} s: the link is cut, or "
                "the host is down",
                "lost",
                is_passing=True,
            )
        )
