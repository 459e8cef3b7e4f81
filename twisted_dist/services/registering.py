"""How a worker comes to its scheduler: again and again, until that is there and says yes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet import task
from twisted.logger import Logger

from twisted_dist.errors import AccessError, ConnectError, RefusedError
from twisted_dist.wire.dial import Dialled
from twisted_dist.wire.entering import enter
from twisted_dist.wire.membership import Membership

#: seconds until a scheduler that is not there is dialled again, at first and at most
FIRST_RETRY_S: Final = 0.1
MOST_RETRY_S: Final = 5.0

_log = Logger()


async def register(
    reactor: Any,
    scheduler: str,
    kind: str,
    membership: Membership,
    switch: Callable[[Dialled], Awaitable[None]],
    is_first: Callable[[], bool],
) -> None:
    """Dial until *switch* has made a task stream of a connection.

    Args:
        reactor: to dial with.
        scheduler: its address.
        kind: what this daemon is, for the scheduler's log.
        membership: the keys.
        switch: registers on a connection that said hello.
        is_first: whether this worker was never welcome yet: then a refusal is final.

    Raises:
        RefusedError: the scheduler says no, and *is_first*.
        AccessError: likewise, and there is no access for it here, or it is another's.
    """
    delay = FIRST_RETRY_S
    told = False
    while True:
        try:
            await switch(await enter(reactor, scheduler, kind, membership))
        except ConnectError as problem:
            if not told:
                told = True
                _log.warn("waiting for {s}: {why}", s=scheduler, why=problem)
        except (RefusedError, AccessError) as problem:
            if is_first():
                raise
            # it was welcome once: whoever has its name now may go again, and a scheduler
            # that was set up anew may leave its access where it was
            _log.error("cannot register: {why}", why=problem)
            membership.forget()
            delay = MOST_RETRY_S
        else:
            return
        await task.deferLater(reactor, delay)
        delay = min(delay * 2, MOST_RETRY_S)
