"""`rpc`: each AMP command of a daemon as a method."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from twisted_dist.client.blocking import acquire_shared, release_shared
from twisted_dist.wire import commands
from twisted_dist.wire.dial import dial

#: seconds until a daemon that took the connection must have answered
ANSWER_S = 30.0

_COMMANDS = {
    "identity": commands.Identity,
    "ping": commands.Ping,
    "terminate": commands.Terminate,
    "query": commands.Query,
}


async def _ask(reactor: Any, address: str, command: Any, arguments: dict[str, Any]) -> Any:
    proto = await dial(reactor, address, "rpc")
    try:
        return await proto.ask(command, ANSWER_S, **arguments)
    finally:
        proto.transport.loseConnection()


async def terminate(reactor: Any, address: str) -> None:
    """End the daemon at *address*."""
    await _ask(reactor, address, commands.Terminate, {})


class rpc:
    """The daemon at *address*: ``.identity()``, ``.ping()``, ``.terminate()``, ``.query()``.

    Blocking; with a *reactor*, each method gives a Deferred instead.
    """

    def __init__(self, address: str, reactor: Any = None) -> None:
        self.address = address
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        command = _COMMANDS.get(name)
        if command is None:
            raise AttributeError(f"no command {name!r}; there are {', '.join(_COMMANDS)}")

        def call(**arguments: Any) -> Any:
            if self._reactor is not None:
                return defer.Deferred.fromCoroutine(
                    _ask(self._reactor, self.address, command, arguments)
                )
            thread = acquire_shared()
            try:
                return thread.call(_ask, thread.reactor, self.address, command, arguments)
            finally:
                release_shared()

        return call
