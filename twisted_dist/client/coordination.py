"""`Lock`, `Semaphore`, `Event`, `Variable` and `Queue`, shared by name across the network.

They work in clients and in tasks. With a `Client` their methods block, with an `AsyncClient`
they give Deferreds of the same results. What holds a lock, or waits, and is lost, is
forgotten: others go on.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from twisted.internet import defer

from twisted_dist.client.current import get_client
from twisted_dist.client.leases import RENEW_S
from twisted_dist.client.parcels import decline, unwrap
from twisted_dist.errors import (
    ConnectionClosedError,
    LeaseLostError,
    RefusedError,
    UsageProblem,
)


class _Shared:
    """Something with a name that all members mean the same thing by.

    Args:
        name: its name.
        client: a `Client` or `AsyncClient`; `get_client`'s by default.
    """

    def __init__(self, name: str, client: Any = None) -> None:
        if not isinstance(name, str) or not name:
            raise UsageProblem(f"a {type(self).__name__} needs a name that is a string")
        self.name = name
        self._client = client if client is not None else get_client()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    async def _ask(self, what: str, **arguments: Any) -> Any:
        return await self._client.session.ask(what, self.name, **arguments)

    async def _ask_with(self, what: str, value: Any, **arguments: Any) -> Any:
        session = self._client.session
        parcel = session.submitter.wrap(f"{type(self).__name__} {self.name!r}", value)
        return await session.ask(what, self.name, parcel, **arguments)

    def _unwrap(self, told: Any) -> Any:
        return unwrap(self._client.session, self._client.make_future, told)

    def _decline(self, told: Any) -> None:
        decline(self._client.session, told)

    def _tell(self, what: str, number: int) -> None:
        """Ask for something whose answer nobody waits for."""
        answer = defer.Deferred.fromCoroutine(self._ask(what, number=number))
        answer.addErrback(lambda f: f.trap(RefusedError, ConnectionClosedError))


class Semaphore(_Shared):
    """At most *max_leases* holders at a time; a context manager.

    A lease is lost when its holder's process ends, or cannot be heard for 30 seconds.

    Args:
        name: its name.
        max_leases: the same wherever it is used.
        client: a `Client` or `AsyncClient`; `get_client`'s by default.
    """

    def __init__(self, name: str, max_leases: int = 1, client: Any = None) -> None:
        super().__init__(name, client)
        self.max_leases = max_leases
        self._tokens: list[int] = []

    def acquire(self, timeout: float | None = None) -> Any:
        """Wait for a lease, *timeout* seconds at most; whether there was one."""
        return self._client.run_coroutine(self._acquire, timeout)

    async def _acquire(self, timeout: float | None) -> bool:
        session = self._client.session
        asked_at = session.reactor.seconds()
        what = {"number": self.max_leases, "timeout": timeout}
        token = await self._ask("acquire", **what, late=self._give_back)
        if token:
            session.leases.add(token, asked_at)
            self._tokens.append(token)
            if session.reactor.seconds() - asked_at > RENEW_S:
                await session.leases.renew()  # when it was granted, after that wait, is not known
        return bool(token)

    def _give_back(self, token: int) -> None:
        """A lease came when nobody waited for it any more."""
        if token:
            self._tell("release", token)

    @property
    def token(self) -> int:
        """The last lease's fencing token: higher than those of all that were given before.

        To be given along to what the lock protects, so that it can refuse an older one.

        Raises:
            LeaseLostError: none is held any more.
        """
        if not self.held():
            raise LeaseLostError(f"{self!r} is not held")
        return self._tokens[-1]

    def held(self) -> bool:
        """Whether the last lease is held for certain, as far as can be known here."""
        return bool(self._tokens) and self._client.session.leases.holds(self._tokens[-1])

    def release(self) -> Any:
        """Give the last lease back.

        Raises:
            LeaseLostError: it was lost before, so somebody else may have had it meanwhile.
            UsageProblem: there is none.
        """
        if not self._tokens:
            raise UsageProblem(f"{self!r} was not acquired here")
        return self._client.run_coroutine(self._release, self._tokens.pop())

    async def _release(self, token: int) -> None:
        self._client.session.leases.remove(token)
        try:
            await self._ask("release", number=token)
        except RefusedError as problem:
            raise LeaseLostError(str(problem)) from None

    def __enter__(self) -> Any:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    async def __aenter__(self) -> Any:
        await self._acquire(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._release(self._tokens.pop())


class Lock(Semaphore):
    """One holder at a time; a context manager. See `Semaphore`."""

    def __init__(self, name: str, client: Any = None) -> None:
        super().__init__(name, 1, client)


class Event(_Shared):
    """A flag to be set, cleared and waited for."""

    def set(self) -> Any:
        """Set it: who waits goes on."""
        return self._client.run_coroutine(self._ask, "event-set")

    def clear(self) -> Any:
        """Clear it."""
        return self._client.run_coroutine(self._ask, "event-clear")

    def is_set(self) -> Any:
        """Whether it is set."""
        return self._client.run_coroutine(self._ask, "event-is-set")

    def wait(self, timeout: float | None = None) -> Any:
        """Until it is set, *timeout* seconds at most; whether it is."""
        return self._client.run_coroutine(self._wait, timeout)

    async def _wait(self, timeout: float | None) -> Any:
        return await self._ask("event-wait", timeout=timeout)


class Variable(_Shared):
    """A value, with futures in it if you like, that everybody sees."""

    def set(self, value: Any, fence: Semaphore | None = None) -> Any:
        """Set it; with *fence*, only if that lock's lease is held at the scheduler.

        Raises:
            RefusedError: the lease is not held any more: nothing was set.
        """
        return self._client.run_coroutine(self._set, value, fence.token if fence is not None else 0)

    async def _set(self, value: Any, token: int) -> None:
        await self._ask_with("variable-set", value, number=token)

    def get(self, timeout: float | None = None) -> Any:
        """The value, once it was set. Raises TimeoutError after *timeout* seconds."""
        return self._client.run_coroutine(self._get, timeout)

    async def _get(self, timeout: float | None) -> Any:
        told = await self._ask("variable-get", timeout=timeout, late=self._decline)
        if told is None:
            raise TimeoutError(f"{self!r} was not set within {timeout} s")
        return self._unwrap(told)

    def delete(self) -> Any:
        """Let it have no value, and let go of the futures in it."""
        return self._client.run_coroutine(self._ask, "variable-delete")


class Queue(_Shared):
    """A queue of values, with futures in them if you like.

    Each item goes to one taker; to another if that is lost before it has it, or waits no more.

    Args:
        name: its name.
        maxsize: who puts more waits; 0 for 100,000, or for what others have said.
        client: a `Client` or `AsyncClient`; `get_client`'s by default.
    """

    def __init__(self, name: str, maxsize: int = 0, client: Any = None) -> None:
        super().__init__(name, client)
        self.maxsize = maxsize

    def put(self, value: Any, timeout: float | None = None) -> Any:
        """Add a value. Raises TimeoutError where there is no room within *timeout* seconds."""
        return self._client.run_coroutine(self._put, value, timeout)

    async def _put(self, value: Any, timeout: float | None) -> None:
        done = await self._ask_with("queue-put", value, number=self.maxsize, timeout=timeout)
        if not done:
            raise TimeoutError(f"{self!r} had no room within {timeout} s")

    def get(self, timeout: float | None = None) -> Any:
        """Take the oldest value. Raises TimeoutError after *timeout* seconds."""
        return self._client.run_coroutine(self._get, timeout)

    async def _get(self, timeout: float | None) -> Any:
        what = {"number": self.maxsize, "timeout": timeout}
        told = await self._ask("queue-get", **what, late=self._give_back)
        if told is None:
            raise TimeoutError(f"{self!r} had nothing within {timeout} s")
        value = self._unwrap(told[1:])
        await self._ask("queue-got", number=told[0])
        return value

    def _give_back(self, told: Any) -> None:
        """An item came when nobody waited for it any more."""
        if told is not None:
            self._decline(told[1:])
            self._tell("queue-return", told[0])

    def qsize(self) -> Any:
        """How many values wait there."""
        return self._client.run_coroutine(self._ask, "queue-size")
