"""`rpc`: each AMP command of a daemon as a method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet import defer

from twisted_dist.access.access import Access
from twisted_dist.access.credential import Certificate
from twisted_dist.access.find import GivenAccess, find_any
from twisted_dist.access.roles import ADMIN, READ_ONLY, SUBMIT, WORKER
from twisted_dist.client.blocking import acquire_shared, release_shared
from twisted_dist.errors import AccessError, TwistedDistError
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
    "explain": commands.Explain,
}


#: whose credential is used: an admin's where there is one
_ROLES = (ADMIN, SUBMIT, READ_ONLY, WORKER)


def _entry(access: Access, workers: Iterable[Certificate]) -> Entry:
    """The way into a scheduler or a worker of a network."""
    accepted = frozenset((access.scheduler, *workers))
    context = tls_context(access.credential(*_ROLES), accepted, answers=False)
    return Entry(context, accepted, "a daemon of a network known here")


async def _dial(reactor: Any, address: str, given: GivenAccess, insecure: bool) -> Dialled:
    """Dial a daemon of any network known here: which one, its key shows."""
    if insecure:
        return await dial(reactor, address, "rpc", None)
    known = find_any(address, given)
    for access in known:
        try:
            return await dial(reactor, address, "rpc", _entry(access, access.workers))
        except AccessError as problem:
            refused = problem
    # a worker whose credential is younger than the access: its scheduler knows
    for access in known:
        try:
            keys = await _ask(
                reactor,
                access.addresses[0],
                _entry(access, ()),
                commands.Query,
                what="keys",
                arguments=None,
            )
        except TwistedDistError:
            continue  # not there, or not for us
        workers = [each for each, role in keys.items() if role == WORKER]
        try:
            return await dial(reactor, address, "rpc", _entry(access, workers))
        except AccessError as problem:
            refused = problem
    raise refused


async def _ask(
    reactor: Any, address: str, entry: Entry | None, command: Any, **arguments: Any
) -> Any:
    proto = await dial(reactor, address, "rpc", entry)
    return await _answer(proto, command, arguments)


async def _answer(proto: Dialled, command: Any, arguments: dict[str, Any]) -> Any:
    try:
        return await proto.ask(command, ANSWER_S, **arguments)
    finally:
        proto.transport.loseConnection()


async def terminate(reactor: Any, address: str, entry: Entry | None) -> None:
    """End the daemon at *address*."""
    await _ask(reactor, address, entry, commands.Terminate)


class rpc:
    """The daemon at *address*: ``.identity()``, ``.ping()``, ``.terminate()``.

    A scheduler has ``.query(what=…, arguments=…)`` and ``.explain(key=…)`` too.

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
            async def ask(reactor: Any) -> Any:
                proto = await _dial(reactor, self.address, self._access, self._insecure)
                return await _answer(proto, command, arguments)

            if self._reactor is not None:
                return defer.Deferred.fromCoroutine(ask(self._reactor))
            thread = acquire_shared()
            try:
                return thread.call(ask, thread.reactor)
            finally:
                release_shared()

        return call
