"""`rpc`: each AMP command of a daemon as a method."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from twisted_dist.access.find import GivenAccess, find_any
from twisted_dist.access.roles import ADMIN, READ_ONLY, SUBMIT, WORKER
from twisted_dist.client.blocking import acquire_shared, release_shared
from twisted_dist.errors import AccessError
from twisted_dist.wire import commands
from twisted_dist.wire.dial import Dialled, dial
from twisted_dist.wire.membership import Entry
from twisted_dist.wire.tls import tls_context

#: seconds until a daemon that took the connection must have answered
ANSWER_S = 30.0

_COMMANDS = {
    "identity": commands.Identity,
    "ping": commands.Ping,
    "terminate": commands.Terminate,
    "query": commands.Query,
}


#: whose credential is used: an admin's where there is one
_ROLES = (ADMIN, SUBMIT, READ_ONLY, WORKER)


def _entries(address: str, given: GivenAccess, insecure: bool) -> list[Entry | None]:
    """The ways in that there may be: a scheduler's or a worker's, of any network known here."""
    if insecure:
        return [None]
    entries: list[Entry | None] = []
    for access in find_any(address, given):
        accepted = access.workers | {access.scheduler}
        context = tls_context(access.credential(*_ROLES), accepted, answers=False)
        entries.append(Entry(context, accepted, "a daemon of a network known here"))
    return entries


async def _dial(reactor: Any, address: str, given: GivenAccess, insecure: bool) -> Dialled:
    entries = _entries(address, given, insecure)
    for entry in entries[:-1]:
        try:
            return await dial(reactor, address, "rpc", entry)
        except AccessError:
            continue  # of another network
    return await dial(reactor, address, "rpc", entries[-1])


async def _ask(
    reactor: Any,
    address: str,
    command: Any,
    arguments: dict[str, Any],
    given: GivenAccess,
    insecure: bool,
) -> Any:
    proto = await _dial(reactor, address, given, insecure)
    try:
        return await proto.ask(command, ANSWER_S, **arguments)
    finally:
        proto.transport.loseConnection()


async def terminate(reactor: Any, address: str, entry: Entry | None) -> None:
    """End the daemon at *address*."""
    proto = await dial(reactor, address, "rpc", entry)
    try:
        await proto.ask(commands.Terminate, ANSWER_S)
    finally:
        proto.transport.loseConnection()


class rpc:
    """The daemon at *address*: ``.identity()``, ``.ping()``, ``.terminate()``, ``.query()``.

    Blocking; with a *reactor*, each method gives a Deferred instead. What each may do
    depends on the credential: ``terminate`` needs an admin's.

    Args:
        address: a scheduler's, worker's or nanny's ``host:port``.
        reactor: to give Deferreds in.
        access: an `Access`, the path of an access file, or a join string; by default looked
            for in ``TWISTED_DIST_ACCESS`` and in the user's home.
        insecure: the daemon was started with ``--insecure``.
    """

    def __init__(
        self,
        address: str,
        reactor: Any = None,
        access: GivenAccess = None,
        insecure: bool = False,
    ) -> None:
        self.address = address
        self._reactor = reactor
        self._access = access
        self._insecure = insecure

    def __getattr__(self, name: str) -> Any:
        command = _COMMANDS.get(name)
        if command is None:
            raise AttributeError(f"no command {name!r}; there are {', '.join(_COMMANDS)}")

        def call(**arguments: Any) -> Any:
            about = (self.address, command, arguments, self._access, self._insecure)
            if self._reactor is not None:
                return defer.Deferred.fromCoroutine(_ask(self._reactor, *about))
            thread = acquire_shared()
            try:
                return thread.call(_ask, thread.reactor, *about)
            finally:
                release_shared()

        return call
