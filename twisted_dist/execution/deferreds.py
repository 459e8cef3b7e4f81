"""Twisted's Deferreds as the results of tasks, in a process that may know nothing of Twisted.

They are of whatever reactor is installed, by the task's own imports at the latest, which is
run in a thread if nobody runs it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Final

_starting: Final = threading.Lock()


def is_deferred(result: Any) -> bool:
    """Whether something is a Deferred."""
    defer = sys.modules.get("twisted.internet.defer")  # who has not imported it has none
    # it may be half imported, by another thread
    return defer is not None and isinstance(result, getattr(defer, "Deferred", ()))


async def fired(deferred: Any) -> Any:
    """What a Deferred comes to, on another loop than its reactor's."""
    from twisted.python.failure import Failure

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any) -> None:
        if future.done():
            return
        if isinstance(result, Failure):
            future.set_exception(result.value or RuntimeError(result.getErrorMessage()))
        else:
            future.set_result(result)

    if deferred.called and not deferred.paused:  # no reactor is needed, nor started
        deferred.addBoth(settle)
        return await future

    reactor = _running_reactor()

    def tell(result: Any) -> None:
        loop.call_soon_threadsafe(settle, result)

    reactor.callFromThread(deferred.addBoth, tell)
    try:
        return await future
    except asyncio.CancelledError:
        reactor.callFromThread(deferred.cancel)
        raise


def _running_reactor() -> Any:
    from twisted.internet import reactor as installed  # noqa: TID251 -- the user's, not ours

    reactor: Any = installed
    with _starting:
        if not reactor.running:
            ready = threading.Event()
            reactor.callWhenRunning(ready.set)
            run = threading.Thread(
                target=reactor.run, args=(False,), name="task-reactor", daemon=True
            )
            run.start()
            ready.wait()
    return reactor
